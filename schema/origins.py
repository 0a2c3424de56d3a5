"""Which pages of other origins may use the API: one rule for CORS and for sockets. Knows nothing of GraphQL."""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = re.compile(r"https?://(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)
MAX_AGE_SECONDS = 600


def normalized(origin: str) -> str:
    """scheme://host[:port] in lower case, without a default port."""
    parts = urlsplit(origin.strip().rstrip("/").lower())
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port and parts.port != default else "")


def is_origin(text: str) -> bool:
    """Whether this is an origin with a scheme and a host; `null`, which sandboxed pages send, is none."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def is_bound_to_loopback(scope: Scope) -> bool:
    """Whether the connection came in on a loopback address."""
    try:
        return ipaddress.ip_address((scope.get("server") or ("",))[0]).is_loopback
    except ValueError:
        return False


class Origins:
    """`allowed` from the settings; None: every loopback origin while bound to loopback, else only the own origin."""

    def __init__(self, allowed: Sequence[str] | None) -> None:
        self._any = allowed is not None and "*" in allowed
        self._allowed = (
            None if allowed is None else frozenset(normalized(origin) for origin in allowed if origin != "*")
        )

    def allows(self, origin: str, scope: Scope) -> bool:
        """Whether a page of `origin`, which is not the own one, may use the API."""
        if self._any:
            return True
        if self._allowed is None:
            return is_bound_to_loopback(scope) and LOOPBACK.fullmatch(origin) is not None
        return is_origin(origin) and normalized(origin) in self._allowed


class Cors:
    """Starlette's CORS answers, by the rule of `Origins`.

    No credentials: the token is a header that a page must have itself.
    """

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins
        self._open = CORSMiddleware(
            app,
            allow_origins=["*"],
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-request-id"],
            max_age=MAX_AGE_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = next((value.decode("latin-1") for key, value in scope.get("headers", ()) if key == b"origin"), None)
        allowed = scope["type"] == "http" and origin is not None and self._origins.allows(origin, scope)
        await (self._open if allowed else self._app)(scope, receive, send)
