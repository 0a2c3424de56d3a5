"""Running servers: the real app in this event loop, or `python app.py serve` as a process of its own."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette

from commands.server import options
from settings import Settings
from tests.harness.client import ROOT, Client, Json
from tests.harness.sockets import Socket
from tests.harness.waiting import eventually
from tests.processes import end, free_port, spawn

START_SECONDS, STOP_SECONDS = 60, 10
# Shorter than what a server allows, so that no request meets a connection which is just being closed.
CLIENT_KEEP_ALIVE, SERVER_KEEP_ALIVE = 30, 600


class Endpoint:
    """Where a server answers, and who asks there."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.graphql_url = f"{self.url}/graphql"
        self.socket_url = f"ws://127.0.0.1:{port}/graphql"
        # A proxy of the environment is not asked; no TLS, so no certificates to load (20 ms a client).
        limits = httpx2.Limits(max_connections=200, keepalive_expiry=CLIENT_KEEP_ALIVE)
        self.http = httpx2.AsyncClient(base_url=self.url, limits=limits, timeout=30, trust_env=False, verify=False)

    def client(self, token: str | None = None) -> Client:
        return Client(self.http, self.graphql_url, token)

    def socket(
        self, token: str | None = None, init_payload: Json | None = None, origin: str | None = None
    ) -> AbstractAsyncContextManager[Socket]:
        """An acknowledged socket; see `Socket.connect`."""
        return Socket.connect(self.socket_url, token=token, init_payload=init_payload, origin=origin)


class Server(Endpoint):
    """The app in this event loop."""

    def __init__(self, port: int, settings: Settings, app: Starlette) -> None:
        super().__init__(port)
        self.settings = settings
        self.app = app


class _QuietServer(uvicorn.Server):
    """Leaves the signals to pytest, and never ends the event loop with SystemExit."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def run_until_told(self, listener: socket.socket) -> None:
        try:
            await self.serve(sockets=[listener])
        except SystemExit:
            raise RuntimeError("the app did not start; its log says why") from None


@asynccontextmanager
async def serving(settings: Settings) -> AsyncGenerator[Server]:
    """The real app on a free loopback port, from its start to its orderly end."""
    from app import create  # noqa: PLC0415  (tests of the engines alone need no app)

    app = create(settings)
    shared_loop: dict[str, Any] = {
        "loop": "none",
        "timeout_keep_alive": SERVER_KEEP_ALIVE,
        "timeout_graceful_shutdown": 2,
    }
    config = uvicorn.Config(app, **(options(settings) | shared_loop))
    uvicorn_server = _QuietServer(config)
    with _listener() as listener:
        server = Server(listener.getsockname()[1], settings, app)
        task = asyncio.create_task(uvicorn_server.run_until_told(listener))
        try:
            await eventually(lambda: uvicorn_server.started or task.done(), START_SECONDS)
            if not task.done():
                yield server
        finally:
            await server.http.aclose()
            uvicorn_server.should_exit = True
            await task


def _listener() -> socket.socket:
    # With the protocol left at 0 asyncio does not set TCP_NODELAY, and a request takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    return listener


class Node(Endpoint):
    """`python app.py serve` with the given settings in its environment; the port stays over kill and start.

    `async with Node(environment) as node` starts it and ends it. Settings are written as environment variables:
    `{"DATABASE_URL": …}`.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, port: int | None = None) -> None:
        super().__init__(port or free_port())
        self.environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The last process that was started."""
        assert self._process is not None, "the node was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def logs(self) -> str:
        """All that its processes have written to stdout and stderr."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def launch(self, *arguments: str) -> None:
        """Start the process and return at once. Only from the main thread."""
        command = [sys.executable, ROOT / "app.py", "serve", "--port", str(self.port), *arguments]
        self._process = spawn(command, log=self._log, cwd=ROOT, env=os.environ | self.environment)

    async def start(self) -> None:
        """Start it and return once /readyz says 200. Fails with its log when it ends before."""
        self.launch()
        await eventually(self._ready_or_ended, START_SECONDS)
        if self.process.poll() is not None:
            raise AssertionError(f"the node ended with {self.process.returncode}:\n{self.logs()[-4_000:]}")

    async def is_ready(self) -> bool:
        """Whether /readyz says 200."""
        try:
            return (await self.http.get("/readyz")).is_success
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL; it is gone when this returns."""
        end(self.process, signal.SIGKILL, STOP_SECONDS)

    def terminate(self) -> None:
        """SIGTERM; returns at once, `ended` waits."""
        self.process.terminate()

    async def ended(self, timeout: float = STOP_SECONDS) -> int:  # noqa: ASYNC109
        """Wait until the process has ended; its exit status."""
        await eventually(lambda: self.process.poll() is not None, timeout)
        return self.process.returncode

    async def __aenter__(self) -> "Node":
        try:
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.http.aclose()
        if self._process is not None:
            end(self._process, signal.SIGTERM, STOP_SECONDS)

    async def _ready_or_ended(self) -> bool:
        return self.process.poll() is not None or await self.is_ready()


def as_environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings by name as the environment variables of a node."""
    return {name.upper(): value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
