"""Password hashes: argon2id in a bounded pool of threads, so the event loop never stalls. Knows nothing of users."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError

from settings import Settings

from .refusals import unavailable

T = TypeVar("T")


class Hasher:
    """Hashes and checks passwords, `argon2_threads` at once; when `argon2_waiting` more wait, the next is
    SERVICE_UNAVAILABLE.
    """

    def __init__(self, settings: Settings) -> None:
        self._argon2 = PasswordHasher(
            time_cost=settings.argon2_time_cost, memory_cost=settings.argon2_memory_kib, parallelism=1, type=Type.ID
        )
        self._pool = ThreadPoolExecutor(settings.argon2_threads, "argon2")
        self._bound = settings.argon2_threads + settings.argon2_waiting
        self._busy = 0
        self._of_nobody = self._argon2.hash(secrets.token_hex())

    def stop(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def hash(self, password: str) -> str:
        return await self._run(lambda: self._argon2.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is the one. No hash (an unknown user) costs the same time and is False."""
        matches = await self._run(lambda: self._matches(password_hash or self._of_nobody, password))
        return matches and password_hash is not None

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._argon2.verify(password_hash, password)
        except (Argon2Error, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._busy >= self._bound:
            raise unavailable()
        self._busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._busy -= 1
