"""`serve`: looks before it starts, so that what is wrong is one line, then hands the process to uvicorn."""

import asyncio
import errno
import socket
from contextlib import suppress
from typing import Annotated, Any

import typer
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from commands import demo as demo_world
from commands.common import refusals, refuse, settings
from db.engine import utc_now
from db.lock import ServerLock
from db.migrate import NotYet, ensure, place
from delivery.bus import BrokerAway, Bus
from schema.wire import FrameProtocol, HeadProtocol
from settings import Settings

BACKLOG = 2_048
# Longer than proxies keep an idle connection (60 s), so that none is closed just as it is used again.
KEEP_ALIVE_SECONDS = 75
# How long the kernel waits for a peer to take what was sent, pings included, before it drops the connection.
DEAD_PEER_MS = 60_000


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is every IPv4 address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen on; 0 takes a free one.")] = 8_000,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that serve; more than 1 needs a broker.")] = 1,
    demo: Annotated[
        bool, typer.Option("--demo", help="Fill an empty database with people who talk, to try it.")
    ] = False,
) -> None:
    """Start the server.

    On SQLite the schema is brought up to date first; on PostgreSQL an empty database gets its schema, and an older one
    is refused until `migrate` has run. Settings come from the environment: docs/operations.md lists them.
    """
    given = settings()
    with refusals():
        check_workers(given, workers)
        listener, world = _prepared(given, host, port, demo)
    _announce(given, *listener.getsockname()[:2])
    typer.echo(world, nl=bool(world))
    _run(uvicorn.Config("app:app", workers=workers, **options(given)), listener)


def _prepared(given: Settings, host: str, port: int, demo: bool) -> tuple[socket.socket, str]:
    """The listening socket of a server that nothing keeps from serving, and what to say of its demo world."""
    lock = ServerLock(given.database_url)
    lock.acquire()
    try:
        listener = listen(host, port)
        try:
            asyncio.run(check_neighbours(given))
            return listener, asyncio.run(_told(given)) if demo else ""
        except BaseException:
            listener.close()
            raise
    finally:
        lock.release()  # the app takes it for itself, so that `uvicorn app:app` is covered as well


def options(given: Settings) -> dict[str, Any]:
    """What uvicorn is told, however the app is started.

    The app asks silent peers itself: where a WebSocket ping gets no answer uvicorn closes with 1011, which clients take
    as final, and a laptop that wakes up would stay disconnected.
    """
    return {
        "loop": "auto",  # uvloop where it is installed
        "http": HeadProtocol,
        "ws": FrameProtocol,
        "lifespan": "on",
        "ws_max_size": given.max_frame_bytes,
        "ws_ping_interval": None,
        "ws_per_message_deflate": False,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": given.shutdown_seconds,
        "backlog": BACKLOG,
        "access_log": False,
        "proxy_headers": False,  # nothing asks where a request came from
        "log_config": None,  # the app configures logging
        "log_level": "warning",  # below it uvicorn writes the query string of each socket
        "server_header": False,
    }


def check_workers(given: Settings, workers: int) -> None:
    """Refuse more processes than the database and the broker can serve, and say what to set."""
    if workers == 1:
        return
    missing = ["DATABASE_URL=postgresql://..."] if given.is_sqlite else []
    missing += (
        ["BROADCAST_URL=redis://... (or postgresql://...)"] if given.broadcast_url.startswith("memory://") else []
    )
    if missing:
        refuse(f"SQLite and memory:// are for one process: to run {workers} workers, set {' and '.join(missing)}.")


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections already: who comes early waits. Refuses an address that cannot be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (socket.gaierror, UnicodeError):
        refuse(f"There is no address {host!r} to listen on: choose another with --host.")
    # With IPPROTO_TCP: asyncio sets TCP_NODELAY on nothing else, and a request takes 40 ms.
    family, kind, protocol, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        refuse(_why_not(error, host, port))
    return listener


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is taken: stop what listens there, or choose another with --port."
    if error.errno == errno.EACCES:
        return f"Port {port} of {host} is not for this user: choose another with --port."
    return f"Cannot listen on port {port} of {host}: {error.strerror}."


async def check_neighbours(given: Settings) -> None:
    """Raises SchemaError or BusUnavailable, but not for what the app will wait for."""
    with suppress(NotYet, BrokerAway):
        await ensure(given.database_url, upgrade=given.is_sqlite, wait_seconds=0)
        async with Bus(given.broadcast_url):
            pass


async def _told(given: Settings) -> str:
    try:
        return await demo_world.ensure(given, utc_now())
    except demo_world.OtherData:
        refuse("The database holds other people: --demo is for an empty database, or for one that it filled.", 2)


def _announce(given: Settings, host: str, port: int) -> None:
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # an address to open, not to bind
    url = f"http://[{here}]:{port}/graphql" if ":" in here else f"http://{here}:{port}/graphql"
    what = "GraphiQL and the API" if given.graphiql == "on" else "the API"
    typer.echo(f"Parley: {what} at {url}\n  database: {place(given.database_url)}\n  stop: Ctrl+C")


def _run(config: uvicorn.Config, listener: socket.socket) -> None:
    """Serve until a signal ends it. Exits with 1 when the app did not start; its log has said why."""
    if config.workers == 1:
        run_here(uvicorn.Server(config), listener)
        return
    parent = Multiprocess(config, sockets=[listener])
    parent.run()
    if any(process.exitcode == STARTUP_FAILURE for process in parent.processes):
        raise typer.Exit(1)


def run_here(server: uvicorn.Server, listener: socket.socket) -> None:
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return
    except SystemExit:
        raise typer.Exit(1) from None
