"""How this process logs: one line of JSON an event, with the id of its request. Knows nothing of the rooms."""

import json
import logging
import secrets
import sys
import time
from asyncio import CancelledError
from collections.abc import MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from settings import Settings

QUIET = ("alembic", "httpx2", "strawberry", "sqlalchemy", "aiosqlite", "asyncio")
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
INVALID_FRAME = "Invalid UTF-8 sequence received from client"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _Stderr:
    """Writes to whatever stderr is at that moment."""

    def msg(self, message: str) -> None:
        with suppress(OSError):  # a full disk, a closed pipe: what cannot be told must not stop what it tells of
            sys.stderr.write(f"{message}\n")

    debug = info = warning = error = critical = exception = log = msg


def _json(value: Any, **_: Any) -> str:
    """What orjson refuses (halves of surrogate pairs that a client sent) is escaped."""
    try:
        return orjson.dumps(value, default=str).decode()
    except TypeError:
        return json.dumps(value, default=str)


def _with_request_id(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if (request_id := REQUEST_ID.get()) is not None:
        line["request_id"] = request_id
    return line


def _with_timestamp(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """In UTC. structlog's own took a sixth of a line."""
    second, microsecond = divmod(time.time_ns() // 1000, 1_000_000)
    line["timestamp"] = f"{_written(second)}.{microsecond:06}Z"
    return line


@lru_cache(1)
def _written(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _is_ours(record: logging.LogRecord) -> bool:
    """No error of the server's is what any client can cause with a bad frame, nor what was cancelled: a pool tells so
    of a connection that it was still closing when a stopping process waited no longer (`did_not_end`).
    """
    was_cancelled = record.exc_info is not None and isinstance(record.exc_info[1], CancelledError)
    return not was_cancelled and INVALID_FRAME not in str(record.msg)


def configure_logs(settings: Settings) -> None:
    """structlog for ours, the same lines for what libraries log."""
    level = LEVELS[settings.log_level]
    shared: list[Any] = [
        _with_request_id,
        structlog.processors.add_log_level,
        _with_timestamp,
        structlog.processors.format_exc_info,
    ]
    last = (
        structlog.processors.JSONRenderer(_json) if settings.log_format == "json" else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    handler.addFilter(_is_ours)
    root = logging.getLogger()
    root.handlers = [
        each for each in root.handlers if not isinstance(each.formatter, structlog.stdlib.ProcessorFormatter)
    ]
    root.addHandler(handler)
    root.setLevel(max(level, logging.INFO))
    logging.getLogger("uvicorn.error").addFilter(_is_ours)  # under `uvicorn` it has a handler of its own
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class StartRefused(Exception):
    """What keeps a process from serving, in one sentence."""


class PlainRefusals:
    """Tells the server why a start was refused, without the traceback: the sentence says what to do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_plainly(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                _, refused, sentence = message["message"].rpartition(f"{StartRefused.__name__}: ")
                message = {**message, "message": sentence.strip() if refused else message["message"]}
            await send(message)

        await self._app(scope, receive, send_plainly)


class RequestIds:
    """Gives each request and each socket an id: in every log line of it, and in the answer as X-Request-Id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(16)
        header = (b"x-request-id", request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        outside = REQUEST_ID.set(request_id)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            REQUEST_ID.reset(outside)
