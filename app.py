"""One Parley process on one page: its settings, what it holds while it lives, and its routes. Imported by nobody."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn.config import STARTUP_FAILURE

from db.engine import Appended, Database, Unavailable
from db.lock import LockError, ServerLock
from db.migrate import NotYet, SchemaError, ensure, is_current
from delivery.bus import BrokerAway, Bus, BusUnavailable
from delivery.events import Batch, Hint
from delivery.stream import Streams
from logs import PlainRefusals, RequestIds, StartRefused, configure_logs
from resolvers.passwords import Hasher
from resolvers.reader import LogReader, batch_of, hint_of
from resolvers.services import Services
from schema import graphiql
from schema.endpoint import Endpoint, not_allowed, not_yet
from schema.origins import Cors, Origins
from schema.socket import SocketEndpoint
from settings import Settings

AGAIN_SECONDS = 1.0  # between two attempts to reach what is not there yet, and at most for a migration in each
END_SECONDS = 2.0  # for each part of a process that ends, after its requests had theirs
REFUSALS = (BusUnavailable, LockError, SchemaError)

log = structlog.get_logger("parley.app")


class Process:
    """What one process holds between its start and its end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(
            settings.database_url, pool_size=settings.database_pool_size, wait_seconds=settings.database_wait_seconds
        )
        self.bus = Bus(settings.broadcast_url)
        self.streams = Streams(self.bus, LogReader(self.database), settings.head_check_seconds)
        self.hasher = Hasher(settings)
        self.services = Services(settings, self.database, self.streams, self.hasher)
        self.endpoint = Endpoint(self.services)
        self.origins = Origins(settings.allowed_origins)
        self.sockets = SocketEndpoint(self.services, self.origins.allows)
        self.serves = False
        self._delivery = AsyncExitStack()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Until everything is there, requests and sockets are turned away.

        Raises what waiting would not mend, in one sentence each: AlreadyServed, SchemaError, BusUnavailable.
        """
        lock = ServerLock(self.settings.database_url)
        lock.acquire()
        waiting: asyncio.Task[None] | None = None
        try:
            try:
                await self._begin()
            except (NotYet, BrokerAway) as missing:
                waiting = asyncio.create_task(self._begin_at_last(missing))
            yield
        finally:
            if waiting is not None:
                waiting.cancel()
                await _ended("start", asyncio.gather(waiting, return_exceptions=True))
            await _ended("delivery", self._delivery.aclose())
            await _ended("database", self.database.stop())
            self.hasher.stop()
            lock.release()

    async def _begin(self) -> None:
        """Open the way to the engines, then let everybody in. May be called again after NotYet and BrokerAway."""
        given = self.settings
        await ensure(given.database_url, upgrade=given.is_sqlite, wait_seconds=AGAIN_SECONDS)
        await self._delivery.enter_async_context(self.bus)
        await self._delivery.enter_async_context(self.streams)
        self._delivery.push_async_callback(self.sockets.stop)
        self.database.after_commit = self._announce
        self.serves = True
        log.info("started", database=given.database_url.split(":", 1)[0], bus=given.broadcast_url.split(":", 1)[0])

    async def _begin_at_last(self, missing: Exception) -> None:
        """Try again until it works, and end the process for what waiting would not mend."""
        told: type[Exception] | None = None
        while not self.serves:
            if type(missing) is not told:
                told = type(missing)
                log.warning("waiting", reason=str(missing), again_seconds=AGAIN_SECONDS)
            await asyncio.sleep(AGAIN_SECONDS)
            try:
                await self._begin()
            except (NotYet, BrokerAway) as error:
                missing = error
            except REFUSALS as refused:
                log.error("start_refused", reason=str(refused))
                raise SystemExit(STARTUP_FAILURE) from None
            except Exception:
                log.exception("start_failed")
                raise SystemExit(STARTUP_FAILURE) from None

    def _announce(self, appended: Sequence[Appended]) -> None:
        self.streams.announce(map(self._news, appended))

    def _news(self, appended: Appended) -> tuple[Hint, Batch | None]:
        hint = hint_of(appended)
        return hint, batch_of(appended) if hint.log in self.streams else None

    async def graphql(self, request: Request) -> ASGIApp:
        if request.method == "POST":
            return self.post
        if self.settings.graphiql == "on" and graphiql.wanted(request):
            return graphiql.page()
        return not_allowed()

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.endpoint if self.serves else not_yet())(scope, receive, send)

    async def socket(self, websocket: WebSocket) -> None:
        if self.serves:
            await self.sockets.handle_socket(websocket)
        else:
            await self.sockets.turn_away(websocket, "Not ready yet")

    async def ready(self, _: Request) -> Response:
        """Whether the database, its schema and the broker can be used."""
        states = {"database": False, "schema": False, "broker": self.serves and self.bus.well}
        try:
            async with self.database.read() as transaction:
                states |= {"database": True, "schema": await is_current(transaction)}
        except (Unavailable, SQLAlchemyError) as error:
            if self.serves:  # else it was told at the start
                log.warning("not_ready", error=type(error).__name__)
        return JSONResponse(states, 200 if all(states.values()) else 503)


class App(Starlette):
    """Starlette, with a way of its own for POST to the GraphQL endpoint: past the router and what serves all routes."""

    def __init__(self, path: str, endpoint: ASGIApp, **more: Any) -> None:
        super().__init__(**more)
        self._path = path
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        straight = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == self._path
        await (self._endpoint if straight else super().__call__)(scope, receive, send)


async def _ended(part: str, ending: Awaitable[object]) -> None:
    """Wait for a part to end, but not for ever: the process ends all the same."""
    try:
        async with asyncio.timeout(END_SECONDS):
            await ending
    except TimeoutError:
        log.warning("did_not_end", part=part)


async def live(_: Request) -> Response:
    return JSONResponse({"live": True})


async def home(_: Request) -> Response:
    return RedirectResponse("/graphql")


def create(settings: Settings) -> Starlette:
    """The application of one process; it connects to nothing before its lifespan begins."""
    configure_logs(settings)
    process = Process(settings)

    @asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncGenerator[None]:
        application.state.process = process
        try:
            async with process.running():
                yield
        except REFUSALS as refused:
            raise StartRefused(str(refused)) from refused
        except asyncio.CancelledError:
            pass  # by a process that ends at once, and has said why

    routes = [
        Route("/graphql", process.graphql, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        WebSocketRoute("/graphql", process.socket),
        Route("/healthz", live),
        Route("/readyz", process.ready),
        Route("/", home),
        *(graphiql.routes if settings.graphiql == "on" else []),
    ]
    middleware = [Middleware(PlainRefusals), Middleware(RequestIds), Middleware(Cors, origins=process.origins)]
    endpoint = RequestIds(Cors(process.post, origins=process.origins))
    return App("/graphql", endpoint, routes=routes, middleware=middleware, lifespan=lifespan)


if __name__ == "__main__":
    from commands import main

    main()
elif __name__ != "__mp_main__":  # what a worker process runs first; uvicorn then imports app by its name
    app = create(Settings())
    # What was loaded stays as long as the process: the collector does not go through it again, nor look for cycles
    # after every 700 new objects. It took 6 % of the time of a server that does nothing but accept messages.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
