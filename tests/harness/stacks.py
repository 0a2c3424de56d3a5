"""The two stacks that every test of the contract runs on: what each needs, and fresh databases on it."""

import itertools
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engines import Postgres, Redis

# Argon2 at its default cost takes 20 to 50 ms for each registered user.
CHEAP_PASSWORDS: dict[str, Any] = {"argon2_time_cost": 1, "argon2_memory_kib": 64}


@dataclass
class Stack:
    """SQLite and memory://, or PostgreSQL and Redis when both are given."""

    folder: Path
    postgres: Postgres | None = None
    redis: Redis | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def name(self) -> str:
        return "postgres" if self.postgres else "sqlite"

    @contextmanager
    def fresh(self) -> Generator[dict[str, Any]]:
        """Settings with an empty database, which is dropped at the end. Redis is shared: ids keep channels apart."""
        if self.postgres and self.redis:
            url = self.postgres.create_database()
            try:
                yield {"database_url": url, "broadcast_url": self.redis.url(), **CHEAP_PASSWORDS}
            finally:
                self.postgres.drop_database(url)
        else:
            file = self.folder / f"{next(self._numbers)}.db"
            yield {"database_url": f"sqlite:///{file}", "broadcast_url": "memory://", **CHEAP_PASSWORDS}
