"""Hints over PostgreSQL's LISTEN and NOTIFY: one watched connection that listens, one other that publishes.

Must not know tables, groups, handlers, or the package that spreads what is heard inside the process.
"""

import asyncio
from collections.abc import Callable, Set
from contextlib import suppress
from typing import Final, NoReturn, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg

from delivery.link import TIMING, Link, Timing, Unsendable

LISTENS: Final = "parley-listen"
PUBLISHES: Final = "parley-publish"
"""What an operator reads in `pg_stat_activity.application_name`."""

UNREADABLE = "BROADCAST_URL is not a PostgreSQL URL that can be read."

NOT_YET: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
"""What a server says that starts, ends or has no connection left."""

_C = TypeVar("_C", bound=asyncpg.Connection)


class _Listening(asyncpg.Connection):
    """A connection that tells of every notification, whatever its channel.

    asyncpg's own listeners take round trips for each channel; here one statement subscribes to all of them.
    """

    channels: Set[str] = frozenset()
    """What the server has confirmed."""
    on_notification: Callable[[str, str], None]

    def _process_notification(self, _pid: int, channel: str, payload: str) -> None:
        self.on_notification(channel, payload)


class PostgresEngine(Link[_Listening]):
    """An engine of the bus, as `delivery.bus.Engine` promises it.

    Only `_hear` speaks on the connection that listens, because asyncpg takes one statement at a time there: whoever
    wants something changes what is wanted and stirs it, and it makes everything good at once.
    """

    def __init__(
        self, url: str, on_fault: Callable[[Exception], None], on_recovery: Callable[[], None], timing: Timing = TIMING
    ) -> None:
        """Raise ValueError for a URL that cannot be read; the error quotes nothing of it."""
        super().__init__(on_fault, on_recovery, timing)
        self._dsn = _dsn(url)
        self._stirred = asyncio.Event()
        self._publisher: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()  # asyncpg refuses a second statement at once

    async def _dial(self) -> _Listening:
        connection = await self._connect(_Listening, LISTENS)
        connection.on_notification = self._take
        connection.add_termination_listener(lambda _: self._stirred.set())
        try:
            await self._make_good(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _tell(self, _connection: _Listening, _channel: str, /) -> None:
        self._stirred.set()

    async def _hear(self, connection: _Listening) -> NoReturn:
        while not connection.is_closed():
            self._stirred.clear()
            async with asyncio.timeout(self._timing.reply):
                await self._make_good(connection)
            try:
                async with asyncio.timeout(self._timing.idle):
                    await self._stirred.wait()
            except TimeoutError:
                await self._expect_life(connection)
        raise ConnectionError("The server closed the connection.")

    async def _make_good(self, connection: _Listening) -> None:
        """One round trip for all channels; another one for what is asked for or left meanwhile."""
        self._confirm(connection.channels)
        while connection.channels != self._wanted:
            wanted = frozenset(self._wanted)
            await _run(connection, _listening(wanted, connection.channels))
            connection.channels = wanted
            self._confirm(wanted)

    async def _expect_life(self, connection: _Listening) -> None:
        """The server answers, and listens for us on as many channels as it has confirmed."""
        async with asyncio.timeout(self._timing.sign):
            answer = await _run(connection, "SELECT FROM pg_catalog.pg_listening_channels()")
        if answer != f"SELECT {len(connection.channels)}":
            raise ConnectionError("The server does not listen any more; a pooler may have shared its sessions.")

    def _take(self, channel: str, payload: str) -> None:
        self._keep(channel, _unescaped(payload))

    async def _hang_up(self, connection: _Listening) -> None:
        connection.terminate()

    async def _send(self, channel: str, text: str) -> None:
        async with self._turn:
            try:
                await self._notify(channel, _escaped(text))
            except asyncpg.DataError:
                raise Unsendable from None

    async def _notify(self, channel: str, payload: str) -> None:
        """Once more if the connection turns out to be closed: it may have died while idle."""
        for last in (False, True):
            if self._publisher is None or self._publisher.is_closed():
                self._publisher = await self._connect(asyncpg.Connection, PUBLISHES)
            try:
                await _run(self._publisher, "SELECT pg_catalog.pg_notify($1, $2)", channel, payload)
            except Exception:
                if last or not self._publisher.is_closed():
                    raise
            else:
                return

    async def _end_sending(self) -> None:
        async with self._turn:  # whoever has it may be about to open a connection
            if self._publisher is not None:
                self._publisher.terminate()

    def is_away(self, fault: Exception) -> bool:
        is_network = isinstance(fault, OSError) and not isinstance(fault, ValueError)  # as a refused certificate is too
        return is_network or isinstance(fault, NOT_YET)

    async def _connect(self, kind: type[_C], name: str) -> _C:
        try:
            return await asyncpg.connect(self._dsn, connection_class=kind, server_settings={"application_name": name})
        except asyncpg.ClientConfigurationError as error:
            raise RuntimeError(str(error)) from None
        except ValueError:  # its text quotes what could not be read
            raise RuntimeError(UNREADABLE) from None


async def _run(connection: asyncpg.Connection, statement: str, *arguments: str) -> str:
    """The server's answer. Whoever is cancelled here ends the connection: asyncpg would open another one, in a task
    that nobody owns, to ask the server to cancel the statement.
    """
    running = asyncio.create_task(connection.execute(statement, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        connection.terminate()
        with suppress(Exception):
            await running
        raise


def _listening(wanted: Set[str], confirmed: Set[str]) -> str:
    """The statements that lead from what is confirmed to what is wanted, to be sent as one."""
    statements = [f"LISTEN {_quoted(channel)}" for channel in wanted - confirmed]
    statements += [f"UNLISTEN {_quoted(channel)}" for channel in confirmed - wanted]
    return ";".join(statements)


def _quoted(channel: str) -> str:
    return '"' + channel.replace('"', '""') + '"'


def _escaped(text: str) -> str:
    """Without the one character that PostgreSQL's texts cannot hold."""
    return text.replace("\x1b", "\x1be").replace("\x00", "\x1b0")


def _unescaped(payload: str) -> str:
    return payload.replace("\x1b0", "\x00").replace("\x1be", "\x1b")


def _dsn(url: str) -> str:
    """The URL for asyncpg, which knows libpq's sslmode and not the ssl of DATABASE_URL."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        _check_ports(parts.netloc.rpartition("@")[2], options)
    except ValueError:
        raise ValueError(UNREADABLE) from None
    if parts.fragment or "@" in parts.path:  # of a password with characters that must be percent-encoded
        raise ValueError(UNREADABLE)
    if "ssl" in options:
        options["sslmode"] = options.pop("ssl")
    return f"{url.partition('?')[0]}?{urlencode(options)}"


def _check_ports(hosts: str, options: dict[str, str]) -> None:
    """Raise ValueError for a port that is none: asyncpg does so as well, and quotes it."""
    for host in f"{hosts},{options.get('host', '')}".split(","):
        _ = urlsplit(f"//{host}").port
    for port in options.get("port", "").split(","):
        int(port or 0)
