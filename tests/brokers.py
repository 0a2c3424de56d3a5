"""Real brokers behind one face: what can happen to them, and a relay that stands in front of one."""

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, suppress
from typing import Any, ClassVar, Protocol, Self, cast

import asyncpg
import psutil
from redis.asyncio import Redis as RedisClient

from delivery.postgres import LISTENS, PUBLISHES
from tests.engines import Engine, Postgres, Redis
from tests.harness.waiting import eventually


class Broker(ABC):
    """A broker of the test's own, which it may stop, pause and lock."""

    scheme: ClassVar[str]
    asking: ClassVar[bytes]
    publishing: ClassVar[bytes]
    """What a bus says when it asks for channels, and first when it publishes."""
    user: ClassVar[str]
    password: str
    url: str

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.port = engine.port

    def start(self) -> None:
        self._engine.start()

    def stop(self) -> None:
        self._engine.stop()

    def restart(self) -> None:
        """Stop and start in a blink."""
        self.stop()
        self.start()

    def close(self) -> None:
        self._engine.close()

    def paused(self) -> AbstractContextManager[None]:
        """Here it accepts connections and answers nothing."""
        return self._engine.paused()

    def connections(self) -> int:
        """This process's open connections to it."""
        found = psutil.Process().net_connections("tcp")
        return sum(bool(each.raddr) and each.raddr.port == self.port and each.status == "ESTABLISHED" for each in found)

    @abstractmethod
    async def end_listening(self) -> None:
        """End every connection that listens."""

    @abstractmethod
    async def end_publishing(self) -> None:
        """End every connection that publishes."""

    @abstractmethod
    async def signs_of_life(self) -> object:
        """Another value whenever the only connection that listens was asked for a sign of life."""

    @abstractmethod
    async def has_left(self, channel: str) -> bool:
        """Whether the only connection that listens has told that it does so no longer on this channel."""

    @abstractmethod
    def refusing_texts(self) -> AbstractAsyncContextManager[None]:
        """Here it answers, and takes no text."""


class Admin(Protocol):
    async def execute_command(self, *words: str | bytes) -> Any: ...


class RedisBroker(Broker):
    scheme, user, asking, publishing = "redis", "", b"SUBSCRIBE", b"PUBLISH"

    def __init__(self) -> None:
        engine = Redis()
        super().__init__(engine)
        self.url = engine.url()
        self.password = self.url.split("@")[0].rsplit(":", 1)[1]

    @asynccontextmanager
    async def admin(self) -> AsyncGenerator[Admin]:
        client = RedisClient.from_url(self.url, decode_responses=True)  # pyright: ignore[reportUnknownMemberType]
        async with client:
            yield cast(Admin, client)

    async def do(self, *words: str | bytes) -> Any:
        async with self.admin() as admin:
            return await admin.execute_command(*words)

    async def end_listening(self) -> None:
        await self.do("CLIENT", "KILL", "TYPE", "pubsub")

    async def end_publishing(self) -> None:
        await self.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def signs_of_life(self) -> object:
        return (await self.do("INFO", "commandstats")).get("cmdstat_ping")

    async def has_left(self, channel: str) -> bool:
        return (await self.do("PUBSUB", "NUMSUB", channel))[1] == 0

    @asynccontextmanager
    async def refusing_texts(self) -> AsyncGenerator[None]:
        await self.do("ACL", "SETUSER", "default", "-publish")
        try:
            yield
        finally:
            await self.do("ACL", "SETUSER", "default", "+publish")


class PostgresBroker(Broker):
    """Its bus is an ordinary user, because a superuser may do everything."""

    scheme, user, asking, publishing = "postgresql", "parley", b"LISTEN", b"pg_notify"

    def __init__(self) -> None:
        self._postgres = engine = Postgres()
        super().__init__(engine)
        self.password = secrets.token_hex(8)
        self.url = f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/postgres"
        self._is_set_up = False

    def start(self) -> None:
        super().start()
        if not self._is_set_up:
            self._postgres.run_sql(f"CREATE ROLE {self.user} LOGIN PASSWORD '{self.password}'")
            self._is_set_up = True

    async def ask(self, statement: str, *arguments: str) -> Any:
        """The first column of the first row."""
        connection = await asyncpg.connect(self._postgres.url())
        try:
            return await connection.fetchval(statement, *arguments)
        finally:
            await connection.close()

    async def end_listening(self) -> None:
        await self._end(LISTENS)

    async def end_publishing(self) -> None:
        await self._end(PUBLISHES)

    async def _end(self, name: str) -> None:
        await self.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1", name
        )

    async def signs_of_life(self) -> object:
        return await self.ask("SELECT query_start FROM pg_stat_activity WHERE application_name = $1", LISTENS)

    async def has_left(self, channel: str) -> bool:
        last = await self.ask("SELECT query FROM pg_stat_activity WHERE application_name = $1", LISTENS)
        return f'UNLISTEN "{channel}"' in last

    @asynccontextmanager
    async def refusing_texts(self) -> AsyncGenerator[None]:
        await self.ask("REVOKE EXECUTE ON FUNCTION pg_notify FROM PUBLIC")
        try:
            yield
        finally:
            await self.ask("GRANT EXECUTE ON FUNCTION pg_notify TO PUBLIC")


class Relay:
    """Stands between a bus and its broker: holds back the answers from a given question on, and cuts connections."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._answering = asyncio.Event()
        self._answering.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._question = b""
        self.asked = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._broker.url.replace(str(self._broker.port), str(port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.answer()
        self._server.close()
        self.cut()
        await eventually(lambda: not self._writers)

    def hold_from(self, question: bytes) -> None:
        """`asked` is set as soon as the question has come; from then on nothing is answered."""
        self._question = question
        self.asked.clear()

    def answer(self) -> None:
        self._question = b""
        self._answering.set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._broker.port)
        await asyncio.gather(self._ask(reader, far_writer), self._reply(far_reader, writer))

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._kept(writer):
            while data := await reader.read(65_536):
                if self._question and self._question in data:
                    self.asked.set()
                    self._answering.clear()
                writer.write(data)

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._kept(writer):
            while data := await reader.read(65_536):
                await self._answering.wait()
                writer.write(data)

    @asynccontextmanager
    async def _kept(self, writer: asyncio.StreamWriter) -> AsyncGenerator[None]:
        self._writers.add(writer)
        with suppress(ConnectionError, RuntimeError):  # uvloop's word for a transport that is closed
            yield
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self._writers.discard(writer)
