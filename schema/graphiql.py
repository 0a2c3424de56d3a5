"""The GraphiQL page and the files it names, from web/graphiql: nothing is built or comes from another host.

Knows nothing of the schema that the page is for.
"""

import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

_ROOT = Path(__file__).resolve().parent.parent
_FOLDER = _ROOT / "web" / "graphiql"
_OPERATIONS = "operations.json"
_NAMED = re.compile(r"(?<=graphql/assets/)[\w./-]+")
_MEDIA_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".graphql": "text/plain",
    ".json": "application/json",
}
_YEAR = 365 * 24 * 60 * 60

_SAFE = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
_POLICY = {
    "default-src": "'self'",
    "script-src": "'self'",
    # The hash is of the one style element that GraphiQL's menus and dialogs add to lock scrolling.
    "style-src": "'self' 'sha256-nzTgYzXYDNe6BAHiiI7NNlfK8n/auuOAhh2t92YvuXo='",
    # 'self' covers ws: and wss: of the page's own host (Chromium 71, Safari 16); a bare ws: would allow every host.
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self' data:",
    "object-src": "'none'",
    "base-uri": "'none'",
    # Without the script the bar's forms would send a password as an ordinary form.
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_PAGE_HEADERS = {
    **_SAFE,
    "content-security-policy": "; ".join(f"{directive} {sources}" for directive, sources in _POLICY.items()),
    "cache-control": "no-cache",
    "vary": "accept",
}


@dataclass(frozen=True)
class _Asset:
    body: bytes
    media_type: str

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()[:16]

    @cached_property
    def compressed(self) -> bytes:
        return gzip.compress(self.body, compresslevel=6, mtime=0)


@cache
def _index() -> str:
    return (_FOLDER / "index.html").read_text("utf-8")


@cache
def _assets() -> Mapping[str, _Asset]:
    """Every file that the page names, and the modules beside it, by their names; no other file can be asked for."""
    names = {*_NAMED.findall(_index()), *(path.name for path in _FOLDER.glob("*.js"))}
    return {name: _Asset(_content(name), _MEDIA_TYPES[Path(name).suffix]) for name in sorted(names)}


def _content(name: str) -> bytes:
    return _operations() if name == _OPERATIONS else (_FOLDER / name).read_bytes()


def _operations() -> bytes:
    """The sections of the pane, each operation with its document of graphql/operations and the variables to begin
    with.
    """
    sections: dict[str, dict[str, Any]] = json.loads((_FOLDER / _OPERATIONS).read_bytes())
    return json.dumps(
        [
            {
                "section": section,
                "operations": [
                    {"name": name, "document": _document(name), "variables": variables}
                    for name, variables in operations.items()
                ],
            }
            for section, operations in sections.items()
        ]
    ).encode()


def _document(name: str) -> str:
    return (_ROOT / "graphql" / "operations" / f"{name}.graphql").read_text("utf-8")


@cache
def _html() -> bytes:
    return _NAMED.sub(lambda name: f"{name[0]}?v={_assets()[name[0]].digest}", _index()).encode()


def wanted(request: Request) -> bool:
    """Whether this request for /graphql is a browser that opens the page: it names text/html and carries no query."""
    reads = request.method in ("GET", "HEAD") and "query" not in request.query_params
    return reads and "text/html" in request.headers.get("accept", "")


def page() -> Response:
    """The page. The first call reads the files from the disk; later ones answer from memory."""
    return Response(_html(), media_type="text/html", headers=_PAGE_HEADERS)


def _caching(request: Request, asset: _Asset) -> dict[str, str]:
    current = request.query_params.get("v") == asset.digest
    lasting = f"public, max-age={_YEAR}, immutable" if current else "no-cache"
    return {**_SAFE, "etag": f'W/"{asset.digest}"', "cache-control": lasting, "vary": "accept-encoding"}


# Not async: Starlette runs it in a thread, where compressing a megabyte for the first time delays nobody.
def _asset(request: Request) -> Response:
    asset = _assets().get(request.path_params["name"])
    if asset is None:
        return PlainTextResponse("There is no such file.\n", 404, headers=_SAFE)
    headers = _caching(request, asset)
    if f'"{asset.digest}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(asset.body, media_type=asset.media_type, headers=headers)
    return Response(asset.compressed, media_type=asset.media_type, headers={**headers, "content-encoding": "gzip"})


routes: list[BaseRoute] = [Route("/graphql/assets/{name:path}", _asset, methods=["GET"])]
