"""One setting says which pages may use the API: for CORS and for the hand-shake of sockets alike."""

from collections.abc import Mapping

import pytest
from pydantic import ValidationError
from websockets.exceptions import InvalidStatus

from schema.origins import Origins
from settings import Settings
from tests.conftest import OwnServer
from tests.harness import Endpoint, Server

LOOPBACK = (
    "http://localhost",
    "http://localhost:3000",
    "https://localhost:8443",
    "http://LOCALHOST:3000",
    "http://127.0.0.1:5173",
    "http://127.9.9.9:1",
    "http://[::1]:8080",
)
FOREIGN = (
    "https://evil.example",
    "null",
    "file://",
    "",
    "http://",
    "://",
    "localhost",
    "localhost:3000",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://evil.example:3000",
    "http://localhost:3000@evil.example",
    "http://evil.example#http://localhost:3000",
    "http://localhost:3000/",
    "http://localhost:x",
    "http://0.0.0.0:3000",
    "http://192.168.0.1",
    "http://[::1",
    "http://[::2]:8080",
    "chrome-extension://abcdefgh",
)


async def cors(server: Endpoint, origin: str) -> Mapping[str, str]:
    """The CORS headers of the answer to a page's request."""
    headers = {"origin": origin}
    response = await server.http.post("/graphql", json={"query": "{ __typename }"}, headers=headers)
    # The answer is the same for all: a browser is who keeps it from the page.
    assert response.json() == {"data": {"__typename": "Query"}}
    return only_cors(response.headers)


def only_cors(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control-")}


async def preflight(server: Endpoint, origin: str) -> tuple[int, dict[str, str]]:
    """The answer to what a browser asks before it lets a page send JSON and a token."""
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    response = await server.http.options("/graphql", headers=headers)
    return response.status_code, only_cors(response.headers)


async def is_allowed(server: Endpoint, origin: str) -> bool:
    """Whether a page of this origin may use the API; every door must say the same."""
    status, asked = await preflight(server, origin)
    found = {
        "preflight": status == 200 and asked.get("access-control-allow-origin") in ("*", origin),
        "answer": (await cors(server, origin)).get("access-control-allow-origin") in ("*", origin),
        "socket": await socket_opens(server, origin),
    }
    assert len(set(found.values())) == 1, (origin, found)
    return found["socket"]


async def socket_opens(server: Endpoint, origin: str) -> bool:
    try:
        async with server.socket(origin=origin) as socket:
            await socket.ping()
            return True
    except InvalidStatus as refused:
        if refused.response.status_code != 403:
            raise
        return False


@pytest.mark.parametrize("origin", LOOPBACK)
async def test_every_page_of_this_machine_may_use_a_server_of_this_machine(server: Server, origin: str) -> None:
    assert await is_allowed(server, origin)


@pytest.mark.parametrize("origin", [origin for origin in FOREIGN if origin])
async def test_a_page_of_another_origin_may_not(server: Server, origin: str) -> None:
    assert not await is_allowed(server, origin)
    status, asked = await preflight(server, origin)
    assert (status, asked) == (405, {})


async def test_who_sends_no_origin_is_no_page_and_may(server: Server) -> None:
    response = await server.http.post("/graphql", json={"query": "{ __typename }"})
    assert only_cors(response.headers) == {}
    async with server.socket() as socket:
        await socket.ping()


async def test_a_page_learns_what_it_may_send_and_read_and_for_how_long(server: Server) -> None:
    origin = "http://localhost:3000"
    status, asked = await preflight(server, origin)
    assert status == 200
    assert {"GET", "POST"} <= set(asked["access-control-allow-methods"].split(", "))
    allowed = {name.strip().lower() for name in asked["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type"} <= allowed
    assert asked["access-control-max-age"] == "600"
    # The token is a header that the page has itself: no cookie may ride along.
    assert "access-control-allow-credentials" not in asked
    answer = await cors(server, origin)
    assert answer["access-control-expose-headers"] == "x-request-id"
    assert "access-control-allow-credentials" not in answer


async def test_refusals_can_be_read_by_the_page_as_well(server: Server) -> None:
    headers = {"origin": "http://localhost:3000", "content-type": "text/plain"}
    response = await server.http.post("/graphql", content=b"x", headers=headers)
    assert response.status_code == 415
    assert response.headers["access-control-allow-origin"] == "*"


LISTS: Mapping[str, Mapping[str, bool]] = {
    "https://app.example/, http://[::1]:3000,https://B.example:443 , https://c.example:8443": {
        "https://app.example": True,
        "https://APP.example": True,
        "https://app.example:443": True,
        "http://[::1]:3000": True,
        "https://b.example": True,
        "https://c.example:8443": True,
        "http://app.example": False,
        "https://app.example:8443": False,
        "https://c.example": False,
        "https://www.app.example": False,
        "https://app.example.evil.example": False,
        "http://localhost:3000": False,
        "null": False,
    },
    "https://app.example,*": {"https://anything.example": True, "null": True},
}


@pytest.mark.parametrize(("setting", "origins"), LISTS.items(), ids=["a list", "any"])
async def test_a_list_of_origins_allows_these_and_no_others(
    own_server: OwnServer, setting: str, origins: Mapping[str, bool]
) -> None:
    server = await own_server(allowed_origins=setting)
    assert {origin: await is_allowed(server, origin) for origin in origins} == origins
    # The own page needs no entry.
    assert await socket_opens(server, server.url)


def test_without_a_list_a_server_for_others_allows_its_own_page_alone() -> None:
    origins = Origins(None)
    for address in ("192.168.0.7", "2001:db8::1", "0.0.0.0"):  # noqa: S104  # an address to be asked at
        for origin in (*LOOPBACK, *FOREIGN):
            assert not origins.allows(origin, {"type": "http", "server": (address, 8000)})
    # A server on a UNIX socket does not know who it is for.
    assert not origins.allows("http://localhost:3000", {"type": "http", "server": ("/run/parley", None)})
    assert not origins.allows("http://localhost:3000", {"type": "http", "server": None})


def test_an_empty_list_allows_nobody() -> None:
    assert Settings(allowed_origins="").allowed_origins == ()  # pyright: ignore[reportArgumentType]
    for origin in (*LOOPBACK, *FOREIGN):
        assert not Origins(()).allows(origin, {"type": "http", "server": ("127.0.0.1", 8000)})


@pytest.mark.parametrize(
    "setting", ["app.example", "localhost:3000", "https://", "null", "https://a.example, b.example"]
)
def test_what_is_no_origin_is_refused_in_the_setting(setting: str) -> None:
    """Were it taken, it would mean something else than its author thinks."""
    with pytest.raises(ValidationError) as refused:
        Settings(allowed_origins=setting)  # pyright: ignore[reportArgumentType]
    assert "https://" in str(refused.value)
