"""The stacks that tests run on, the first two for every test of the contract: what each needs, and fresh databases."""

import itertools
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engines import Postgres, Redis

# Argon2 at its default cost takes 20 to 50 ms for each registered user. A test reads its sockets when it gets to them.
FOR_TESTS: dict[str, Any] = {"argon2_time_cost": 1, "argon2_memory_kib": 64, "pong_seconds": 600}


@dataclass
class Stack:
    """SQLite and memory://; PostgreSQL and Redis; or, without a Redis, PostgreSQL for both."""

    folder: Path
    postgres: Postgres | None = None
    redis: Redis | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def name(self) -> str:
        if self.postgres is None:
            return "sqlite"
        return "postgres" if self.redis else "postgres-only"

    @contextmanager
    def fresh(self) -> Generator[dict[str, Any]]:
        """Settings with an empty database, which is dropped at the end. Redis is shared: ids keep channels apart."""
        if self.postgres:
            url = self.postgres.create_database()
            broker = self.redis.url() if self.redis else url
            try:
                yield {"database_url": url, "broadcast_url": broker, **FOR_TESTS}
            finally:
                self.postgres.drop_database(url)
        else:
            file = self.folder / f"{next(self._numbers)}.db"
            yield {"database_url": f"sqlite:///{file}", "broadcast_url": "memory://", **FOR_TESTS}
