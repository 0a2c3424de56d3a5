"""What a scenario runs on: engines, proxies before them, and one or two nodes on a fresh database. Knows no client."""

import asyncio
import shutil
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson

from commands.common import services
from commands.exports import lines
from schema import ids
from settings import Settings
from tests.chaos.control import ROWS, Control
from tests.chaos.evidence import Row, Sample
from tests.chaos.nodes import ChaosNode
from tests.chaos.proxy import Proxy
from tests.engines import Postgres, Redis
from tests.harness import as_environment, eventually
from tests.harness.stacks import FOR_TESTS

Backend = Literal["sqlite", "redis", "postgres"]

# Long pauses are shortened, so that a scenario shows in a second what production shows in ten.
SETTINGS: dict[str, Any] = FOR_TESTS | {
    "head_check_seconds": 0.5,
    "database_wait_seconds": 2.0,
    "shutdown_seconds": 3,
    "max_waiting_events": 200,
    "pong_seconds": 10,
    "graphiql": "off",
    "log_level": "warning",
}
READY_SECONDS = 30


@dataclass
class Engines:
    """One PostgreSQL and one Redis for all rigs of a run, started when they are first needed."""

    folder: Path
    _stack: AsyncExitStack
    _postgres: Postgres | None = None
    _redis: Redis | None = None

    @classmethod
    @asynccontextmanager
    async def made(cls, folder: Path) -> "AsyncGenerator[Engines]":
        async with AsyncExitStack() as stack:
            yield cls(folder, stack)

    @property
    def postgres(self) -> Postgres:
        if self._postgres is None:
            self._postgres = self._stack.enter_context(closing(Postgres(log_segment_mib=1)))
            self._postgres.start()
        return self._postgres

    @property
    def redis(self) -> Redis:
        if self._redis is None:
            self._redis = self._stack.enter_context(closing(Redis()))
            self._redis.start()
        return self._redis


@dataclass
class Rig:
    """A backend with its nodes. `database` is a proxy before PostgreSQL, `brokers` are one a node before its broker."""

    backend: Backend
    engines: Engines
    folder: Path
    nodes: list[ChaosNode] = field(default_factory=list[ChaosNode])
    database: Proxy | None = None
    brokers: list[Proxy] = field(default_factory=list[Proxy])
    database_url: str = ""
    environment: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def name(self) -> str:
        return f"{self.backend} {len(self.nodes)}"

    @property
    def settings(self) -> Settings:
        """Of a command that runs beside the nodes, past the proxies."""
        return Settings.model_validate(SETTINGS | {"database_url": self.database_url, "database_wait_seconds": 10.0})

    @property
    def sqlite_file(self) -> Path:
        return Path(self.database_url.removeprefix("sqlite:///"))

    async def stop(self) -> None:
        """End the nodes in order, while the proxies still carry what they say to the engines last."""
        running = [node for node in self.nodes if node.runs]
        for node in running:
            node.send(signal.SIGCONT)
            node.terminate()
        with suppress(AssertionError):  # whoever stays is killed by its owner
            await asyncio.gather(*(node.ended() for node in running))

    async def ready(self) -> None:
        """Return when every node says so. Fails after half a minute."""
        for node in self.nodes:
            if not node.runs:
                await node.start()
            await eventually(node.is_ready, READY_SECONDS)

    async def sample(self, phase: str) -> list[Sample]:
        """What each node holds; one that is starting, stopped or standing still says nothing."""
        return [await node.sample(phase) for node in self.nodes if node.can_be_told]

    async def export(self, group: str) -> list[Row]:
        """The whole log of a group, as `export-log` prints it."""
        async with services(self.settings) as made:
            return [Row.of(orjson.loads(line)) async for line in lines(made, ids.group(group))]

    def back_up(self) -> None:
        """Keep a copy of the database as it is. No node may run."""
        if self.backend == "sqlite":
            shutil.copy(self.sqlite_file, self.sqlite_file.with_suffix(".backup"))
        else:
            name = self.database_url.rsplit("/", 1)[1]
            self.postgres.run_sql(f"CREATE DATABASE {name}_backup TEMPLATE {name} STRATEGY FILE_COPY")

    def restore(self) -> None:
        """Put the copy in its place. No node may run."""
        if self.backend == "sqlite":
            for leftover in self.sqlite_file.parent.glob(f"{self.sqlite_file.name}-*"):
                leftover.unlink()
            self.sqlite_file.with_suffix(".backup").replace(self.sqlite_file)
        else:
            name = self.database_url.rsplit("/", 1)[1]
            self.postgres.run_sql(f"DROP DATABASE {name} WITH (FORCE)")
            self.postgres.run_sql(f"ALTER DATABASE {name}_backup RENAME TO {name}")

    def server_logs(self) -> dict[str, str]:
        """What the nodes have written since this was asked last."""
        return {node.name: node.news() for node in self.nodes}

    @property
    def postgres(self) -> Postgres:
        return self.engines.postgres

    @property
    def redis(self) -> Redis:
        return self.engines.redis


@asynccontextmanager
async def rigged(
    engines: Engines, backend: Backend, count: int, without: str = "", seed: int = 0, rows: int = ROWS
) -> AsyncGenerator[Rig]:
    """A rig whose nodes are ready, and read so many rows at once. Nothing of it is left behind."""
    folder = engines.folder / f"{backend}-{count}"
    folder.mkdir(exist_ok=True)
    rig = Rig(backend, engines, folder)
    async with AsyncExitStack() as stack:
        urls = await _urls(rig, count, stack)
        for number, url in enumerate(urls):
            environment = as_environment({**SETTINGS, **url})
            name = f"{backend}-{count}-{'ab'[number]}"
            node = ChaosNode(name, environment, folder, Control(seed=seed + number, without=without, rows=rows))
            rig.nodes.append(node)
            stack.push_async_exit(node)
            node.launch()
        try:
            for node in rig.nodes:
                await eventually(node.is_ready, READY_SECONDS)
            yield rig
        finally:
            await rig.stop()


async def _urls(rig: Rig, count: int, stack: AsyncExitStack) -> Sequence[dict[str, str]]:
    """The settings of each node that name the engines."""
    if rig.backend == "sqlite":
        file = rig.folder / "parley.db"
        file.unlink(missing_ok=True)
        rig.database_url = f"sqlite:///{file}"
        return [{"database_url": rig.database_url, "broadcast_url": "memory://"}]
    rig.database_url = rig.postgres.create_database()
    stack.callback(rig.postgres.drop_database, rig.database_url)
    rig.database = await stack.enter_async_context(Proxy.before(rig.postgres.port))
    broker = rig.redis.url() if rig.backend == "redis" else rig.database_url
    for _ in range(count):
        rig.brokers.append(await stack.enter_async_context(Proxy.before(urlsplit(broker).port or 0)))
    database = _through(rig.database_url, rig.database)
    return [{"database_url": database, "broadcast_url": _through(broker, proxy)} for proxy in rig.brokers]


def _through(url: str, proxy: Proxy) -> str:
    return url.replace(f":{urlsplit(url).port}/", f":{proxy.port}/")
