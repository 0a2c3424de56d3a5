"""GraphQL over HTTP: what is answered with which status and media type, whatever a client sends."""

import asyncio
import gc
import gzip
import json
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx2
import hypothesis
import pytest
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from resolvers.refusals import ErrorCode
from schema import endpoint, wire
from tests.conftest import OwnServer
from tests.harness import Endpoint, Json, Server, World, eventually, operation, refused
from tests.inside import LogBook
from tests.nonsense import ASKED, BODIES, EXPLORING, KNOWN

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
TYPENAME = "{ __typename }"
USER = "query User($username: String!) { user(username: $username) { username } }"
DEEP = "[" * 60_000 + "]" * 60_000


@pytest.fixture
def book(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> LogBook:
    return LogBook(capsys, caplog)


async def post(server: Endpoint, content: bytes | str, **headers: str) -> httpx2.Response:
    """POST a body as JSON; `accept=` and the like are headers."""
    return await server.http.post("/graphql", content=content, headers={"content-type": JSON} | headers)


async def ask(server: Server, accept: str, **body: Any) -> httpx2.Response:
    return await server.http.post("/graphql", json=body, headers={"accept": accept})


def refusal(response: httpx2.Response) -> str:
    """The sentence of an answer that is one BAD_USER_INPUT and nothing else."""
    answer = response.json()
    assert list(answer) == ["errors"], answer
    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT", error
    return error["message"]


# Media types and statuses


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (JSON, JSON),
        ("*/*", JSON),
        ("text/html", JSON),
        (GRAPHQL_JSON, GRAPHQL_JSON),
        (f"{GRAPHQL_JSON}, {JSON};q=0.9", GRAPHQL_JSON),
        (f"{JSON}, {GRAPHQL_JSON}", GRAPHQL_JSON),
    ],
)
async def test_the_answer_has_the_media_type_that_the_client_accepts(
    server: Server, accept: str, media_type: str
) -> None:
    response = await ask(server, accept, query=TYPENAME)
    assert response.status_code == 200
    assert response.headers["content-type"] == media_type
    assert response.json() == {"data": {"__typename": "Query"}}


async def test_a_client_that_accepts_nothing_in_particular_gets_json(server: Server) -> None:
    async with httpx2.AsyncClient(base_url=server.url, trust_env=False) as http:
        del http.headers["accept"]
        response = await http.post("/graphql", json={"query": TYPENAME})
    assert response.headers["content-type"] == JSON


@pytest.mark.parametrize(
    "body",
    [
        {"query": "{ viewer { username } }"},
        {"query": 'mutation { logout { loggedOut } login(input: {username: "nobody", password: "x"}) { token } }'},
    ],
    ids=["query", "mutation"],
)
async def test_a_refusal_by_a_field_is_an_executed_request(server: Server, body: Json) -> None:
    for accept in (JSON, GRAPHQL_JSON):
        response = await ask(server, accept, **body)
        assert response.status_code == 200
        answer = response.json()
        assert set(answer["data"].values()) == {None}
        assert {error["extensions"]["code"] for error in answer["errors"]} == {"UNAUTHENTICATED"}


NOT_EXECUTED: Mapping[str, Json] = {
    "syntax": {"query": "{"},
    "a field that does not exist": {"query": "{ nope }"},
    "a required variable that is missing": {"query": USER},
    "a variable of the wrong type": {"query": USER, "variables": {"username": 7}},
    "an operation that does not exist": {"query": "query A { __typename }", "operationName": "B"},
    "no operation named among two": {"query": "query A { __typename } query B { __typename }"},
    "only a fragment": {"query": "fragment A on Query { __typename }"},
    "a subscription": {"query": "subscription { myGroupEvents { occurredAt } }"},
}


@pytest.mark.parametrize("body", NOT_EXECUTED.values(), ids=NOT_EXECUTED.keys())
async def test_what_is_not_executed_is_400_and_without_data(server: Server, body: Json) -> None:
    response = await ask(server, GRAPHQL_JSON, **body)
    assert response.status_code == 400
    assert refusal(response)
    # Older clients look into the body of a 200 alone.
    as_json = await ask(server, JSON, **body)
    assert as_json.status_code == 200
    assert as_json.json() == response.json()


async def test_a_subscription_over_http_is_told_where_to_go(server: Server) -> None:
    body = {"query": operation("MyGroupEvents"), "variables": {"snapshot": True}}
    assert "WebSocket with the subprotocol graphql-transport-ws" in refusal(await ask(server, JSON, **body))


@pytest.mark.parametrize(
    ("name", "field"), [("A", "a"), ("B", "b")], ids=["the first operation", "the second operation"]
)
async def test_the_operation_that_is_named_is_executed(server: Server, name: str, field: str) -> None:
    document = "query A { a: __typename } query B { b: __typename }"
    response = await ask(server, JSON, query=document, operationName=name)
    assert response.json() == {"data": {field: "Query"}}


@pytest.mark.parametrize("name", [None, ""])
async def test_the_only_operation_needs_no_name(server: Server, name: str | None) -> None:
    response = await ask(server, JSON, query="query A { __typename }", operationName=name)
    assert response.json() == {"data": {"__typename": "Query"}}


# Bodies


def with_variable(value: str) -> str:
    """A request with a variable of this JSON, or what somebody takes for JSON."""
    return json.dumps({"query": TYPENAME, "variables": {"a": "?"}}).replace('"?"', value)


NO_REQUESTS: Mapping[str, bytes | str] = {
    "nothing": b"",
    "white space": b" \n ",
    "null": b"null",
    "a string": b'"x"',
    "a number": b"7",
    "a batch": b"[]",
    "a batch of one": json.dumps([{"query": TYPENAME}]),
    "no query": b"{}",
    "a query that is null": b'{"query": null}',
    "a query that is a number": b'{"query": 7}',
    "a query that is a list": b'{"query": []}',
    "a blank query": b'{"query": " \\n"}',
    "an operation name that is a number": json.dumps({"query": TYPENAME, "operationName": 7}),
    "an operation name that is a list": json.dumps({"query": TYPENAME, "operationName": []}),
    "variables in a list": json.dumps({"query": TYPENAME, "variables": []}),
    "variables in a string": json.dumps({"query": TYPENAME, "variables": "{}"}),
    "extensions in a list": json.dumps({"query": TYPENAME, "extensions": []}),
    "half an object": b'{"query": ',
    "two values": json.dumps({"query": TYPENAME}) * 2,
    "text after the value": json.dumps({"query": TYPENAME}) + "x",
    "invalid UTF-8": b'{"query": "\xff\xfe"}',
    "UTF-16": json.dumps({"query": TYPENAME}).encode("utf-16"),
    "an integer of 5,000 digits": "9" * 5_000,
    "a variable of 5,000 digits": with_variable("9" * 5_000),
    "NaN": with_variable("NaN"),
    "infinity": with_variable("-Infinity"),
    "very deep lists": DEEP,
    "very deep lists in a variable": with_variable(DEEP),
    "very deep objects": '{"a":' * 40_000 + "1" + "}" * 40_000,
    "a compressed body": gzip.compress(json.dumps({"query": TYPENAME}).encode()),
    "a form": b"query=%7B__typename%7D",
}


@pytest.mark.parametrize("accept", [JSON, GRAPHQL_JSON])
@pytest.mark.parametrize("body", NO_REQUESTS.values(), ids=NO_REQUESTS.keys())
async def test_a_body_that_is_no_request_is_400(server: Server, book: LogBook, body: bytes | str, accept: str) -> None:
    response = await post(server, body, accept=accept)
    assert response.status_code == 400
    assert response.headers["content-type"] == accept
    assert refusal(response)
    book.check()


async def test_null_stands_for_the_parts_that_may_be_left_out(server: Server) -> None:
    body = {"query": TYPENAME, "operationName": None, "variables": None, "extensions": None}
    assert (await ask(server, JSON, **body)).json() == {"data": {"__typename": "Query"}}


async def test_parts_that_graphql_does_not_know_are_ignored(server: Server) -> None:
    body: Json = {"query": TYPENAME, "extensions": {"persistedQuery": {}}, "id": 7, "variables": {"undeclared": [1]}}
    assert (await ask(server, JSON, **body)).json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON",
        "application/json ; charset=utf-8",
    ],
)
async def test_json_is_taken_however_it_is_written(server: Server, media_type: str) -> None:
    response = await post(server, json.dumps({"query": TYPENAME}), **{"content-type": media_type})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/plain",
        "application/graphql",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf-16",
    ],
)
async def test_another_media_type_is_415(server: Server, media_type: str) -> None:
    response = await post(server, json.dumps({"query": TYPENAME}), **{"content-type": media_type})
    assert response.status_code == 415
    assert "application/json" in refusal(response)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x-unknown"])
async def test_a_compressed_body_is_415(server: Server, encoding: str) -> None:
    body = gzip.compress(json.dumps({"query": TYPENAME}).encode())
    response = await post(server, body, **{"content-encoding": encoding})
    assert response.status_code == 415
    assert "compressed" in refusal(response)


def of_size(number: int) -> bytes:
    """A good request of so many bytes."""
    body = json.dumps({"query": TYPENAME}).encode()
    return body + b" " * (number - len(body))


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    """The body without a length that is known before, in parts."""
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


async def test_a_body_may_be_as_large_as_the_bound_and_no_larger(server: Server) -> None:
    most = server.settings.max_body_bytes
    headers = {"content-type": JSON}
    for body, status in ((of_size(most), 200), (of_size(most + 1), 413), (of_size(20 * most), 413)):
        assert (await post(server, body)).status_code == status
        chunked = await server.http.post("/graphql", content=chunks(body), headers=headers)
        assert chunked.request.headers["transfer-encoding"] == "chunked"
        assert chunked.status_code == status
    assert f"at most {most:,} bytes" in refusal(chunked)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
async def test_another_method_is_405_and_told_which_are_allowed(server: Server, method: str) -> None:
    response = await server.http.request(method, "/graphql")
    assert response.status_code == 405
    assert {"GET", "POST"} <= {name.strip() for name in response.headers["allow"].split(",")}


async def test_a_query_in_the_address_is_told_to_be_posted(server: Server) -> None:
    for headers in ({"accept": JSON}, {"accept": "text/html"}):
        response = await server.http.get("/graphql", params={"query": TYPENAME}, headers=headers)
        assert response.status_code == 405
        assert "POST" in refusal(response)


async def test_one_connection_survives_every_refusal(server: Server) -> None:
    good = of_size(100)
    limits = httpx2.Limits(max_connections=1)
    async with httpx2.AsyncClient(base_url=server.url, limits=limits, trust_env=False) as http:

        async def port(**request: Any) -> tuple[int, int]:
            """The status, and the client's port."""
            response = await http.request(request.pop("method", "POST"), "/graphql", **request)
            return response.status_code, response.extensions["network_stream"].get_extra_info("client_addr")[1]

        as_json = {"content-type": JSON}
        _, first = await port(content=good, headers=as_json)
        for request, status in (
            ({"content": b"null", "headers": as_json}, 400),
            ({"content": good, "headers": {"content-type": "text/plain"}}, 415),
            ({"content": good, "headers": as_json | {"content-encoding": "gzip"}}, 415),
            ({"content": chunks(of_size(2_000_000)), "headers": as_json}, 413),
            ({"content": of_size(2_000_000), "headers": as_json}, 413),
            ({"method": "PUT", "content": good}, 405),
            ({"content": good, "headers": as_json}, 200),
        ):
            assert await port(**request) == (status, first)


@pytest.mark.usefixtures("leaves_nothing_behind")
async def test_a_client_that_goes_away_in_the_middle_of_its_request_is_forgotten(server: Server, book: LogBook) -> None:
    head = f"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\n"
    for sent in (f"{head}Content-Length: 100\r\n\r\n{{", f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{", head):
        _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(server.url).port)
        writer.write(sent.encode())
        await writer.drain()
        assert (await post(server, of_size(100))).status_code == 200
        writer.close()
        await writer.wait_closed()
    book.check()


@pytest.mark.usefixtures("leaves_nothing_behind")
async def test_what_a_client_that_goes_away_had_asked_for_is_done(world: World, book: LogBook) -> None:
    ada = await world.user()
    group = await world.group(ada)
    asked = {"query": operation("SendGroupMessage"), "variables": {"input": {"groupId": group, "content": "hello"}}}
    body = json.dumps(asked).encode()
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\n"
        f"Authorization: Bearer {ada.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(world.server.url).port)
    writer.write(head.encode() + body)
    await writer.drain()
    writer.close()

    async def is_there() -> bool:
        return bool((await ada.run("GroupHistory", id=group))["messages"]["edges"])

    await eventually(is_there)
    book.check()


# Variables

SEND = operation("SendGroupMessage")
PAGE = "query ($first: Int) { myGroups(first: $first) { nodes { id } } }"
ROLE = """mutation ($role: MemberRole!) {
    changeMemberRole(input: {groupId: 1, userId: 1, role: $role}) { membership { id } }
}"""
MEMBERS = """mutation ($ids: [ID!]) { createGroup(input: {name: "Chess", memberIds: $ids}) { group { id } } }"""

VARIABLES: Mapping[str, tuple[str, Json]] = {
    "a required one is missing": (USER, {}),
    "a required one is null": (USER, {"username": None}),
    "a number for a string": (USER, {"username": 7}),
    "a boolean for a string": (USER, {"username": True}),
    "a list for a string": (USER, {"username": ["ada"]}),
    "an object for a string": (USER, {"username": {"username": "ada"}}),
    "a string for a number": (PAGE, {"first": "7"}),
    "a fraction for a whole number": (PAGE, {"first": 7.5}),
    "a boolean for a number": (PAGE, {"first": True}),
    "a number beyond 32 bits": (PAGE, {"first": 2**31}),
    "a number beyond 64 bits": (PAGE, {"first": 2**64}),
    "a number beyond all floats": (PAGE, {"first": 10**400}),
    "a number for an enum": (ROLE, {"role": 1}),
    "an unknown value of an enum": (ROLE, {"role": "OWNER"}),
    "an enum in small letters": (ROLE, {"role": "admin"}),
    "an input that is missing": (SEND, {}),
    "an input that is null": (SEND, {"input": None}),
    "an input that is a string": (SEND, {"input": "hello"}),
    "an input that is a list": (SEND, {"input": []}),
    "an input without its fields": (SEND, {"input": {}}),
    "an input with a field too many": (SEND, {"input": {"groupId": "1", "content": "x", "nope": 1}}),
    "an input with a null": (SEND, {"input": {"groupId": "1", "content": None}}),
    "an input with a fraction for an id": (SEND, {"input": {"groupId": 1.5, "content": "x"}}),
    "a list with a null": (MEMBERS, {"ids": [None]}),
    "a list in a list": (MEMBERS, {"ids": [["1"]]}),
    "an object in a list": (MEMBERS, {"ids": [{}]}),
    "half of a surrogate pair for a number": (PAGE, {"first": "\ud800"}),
    "half of a surrogate pair in an unknown field": (SEND, {"input": {"\udfff": 1}}),
}


@pytest.mark.parametrize(("document", "variables"), VARIABLES.values(), ids=VARIABLES.keys())
async def test_bad_variables_are_the_clients_mistake(
    server: Server, book: LogBook, document: str, variables: Json
) -> None:
    body = json.dumps({"query": document, "variables": variables})
    assert (await post(server, body, accept=GRAPHQL_JSON)).status_code == 400
    answer = (await post(server, body)).json()
    assert "data" not in answer
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"BAD_USER_INPUT"}
    book.check()


async def test_a_whole_number_may_stand_for_an_id(world: World) -> None:
    ada = await world.user()
    with refused("NOT_FOUND"):
        await ada.run("Group", id=7)


LONE = ("\ud800", "a\udfffb", "\udc00\ud800")


async def code(world: World, name: str, token: str | None, **variables: Any) -> str | None:
    """The code that this is refused with. Halves of pairs travel escaped: no client can write them in UTF-8."""
    body = json.dumps({"query": operation(name), "variables": variables})
    answer = (await post(world.server, body, authorization=f"Bearer {token}")).json()
    return answer["errors"][0]["extensions"]["code"] if "errors" in answer else None


@pytest.mark.parametrize("text", LONE, ids=["high", "low", "swapped"])
async def test_half_of_a_surrogate_pair_is_refused_where_text_is_kept(world: World, book: LogBook, text: str) -> None:
    ada = await world.user()
    sent = {"groupId": await world.group(ada), "content": "hello"}
    for name, given in (
        ("SendGroupMessage", sent | {"content": text}),
        ("SendGroupMessage", sent | {"clientMessageId": text}),
        ("CreateGroup", {"name": text}),
        ("CreateGroup", {"name": "Chess", "description": text}),
        ("UpdateViewer", {"firstName": text}),
        ("UpdateViewer", {"avatarUrl": "/" + text}),
        ("ChangePassword", {"currentPassword": "x", "newPassword": text * 8}),
    ):
        assert await code(world, name, ada.token, input=given) == "BAD_USER_INPUT"
    book.check()


@pytest.mark.parametrize("text", LONE, ids=["high", "low", "swapped"])
async def test_half_of_a_surrogate_pair_names_nothing(world: World, book: LogBook, text: str) -> None:
    ada = await world.user()
    group = await world.group(ada)
    assert await code(world, "User", ada.token, username=text) is None
    assert await code(world, "Node", ada.token, id=text) is None
    assert await code(world, "Group", ada.token, id=text) == "NOT_FOUND"
    assert await code(world, "GroupHistory", ada.token, id=group, after=text, first=1) == "CURSOR_INVALID"
    assert await code(world, "GroupMessageEvents", ada.token, id=group, after=text) == "CURSOR_INVALID"
    assert await code(world, "Login", None, input={"username": text, "password": text}) == "UNAUTHENTICATED"
    book.check()


async def test_every_other_character_comes_back_as_it_was_sent(world: World) -> None:
    ada = await world.user()
    group = await world.group(ada)
    content = "".join(map(chr, [*range(1, 0x250), 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF, 0x1F469, 0x200D, 0x10FFFF]))
    assert (await world.send(ada, group, content))["content"] == content


# Several root fields


async def test_a_refused_root_field_does_not_take_its_siblings_along(world: World) -> None:
    ada, eve = await world.users("ada", "eve")
    group = await world.group(ada)
    document = """query ($id: ID!) {
        viewer { username } group(id: $id) { id } missing: group(id: 7) { id } node(id: $id) { id }
    }"""
    answer = (await eve.client.raw(document, {"id": group})).json()
    assert answer["data"] == {"viewer": {"username": eve.username}, "group": None, "missing": None, "node": None}
    found = {tuple(error["path"]): error["extensions"]["code"] for error in answer["errors"]}
    assert found == {("group",): "FORBIDDEN", ("missing",): "NOT_FOUND"}


async def test_a_refused_mutation_does_not_stop_the_next_one(world: World) -> None:
    ada = await world.user()
    document = """mutation ($long: String!) {
        refused: createGroup(input: {name: $long}) { group { name } }
        done: createGroup(input: {name: "Chess"}) { group { name } }
    }"""
    answer = (await ada.client.raw(document, {"long": "x" * 101})).json()
    assert answer["data"] == {"refused": None, "done": {"group": {"name": "Chess"}}}
    (error,) = answer["errors"]
    assert error["path"] == ["refused"]
    assert error["extensions"] == {"code": "BAD_USER_INPUT", "field": "name"}


# The token


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
async def test_the_word_bearer_is_taken_in_any_case(world: World, scheme: str) -> None:
    ada = await world.user()
    headers = {"authorization": scheme + ada.token}
    answer = (await world.server.client().raw("{ viewer { username } }", headers=headers)).json()
    assert answer["data"]["viewer"]["username"] == ada.username


@pytest.mark.parametrize("value", ["Bearer", "Basic YTpi", "x", "Bearer " + "x" * 8_000, "Bearer \xff"])
async def test_a_token_that_is_none_fails_only_what_needs_a_viewer(server: Server, book: LogBook, value: str) -> None:
    headers = [(b"authorization", value.encode("latin-1"))]
    body = {"query": "{ __typename viewer { username } }"}
    answer = (await server.http.post("/graphql", json=body, headers=headers)).json()
    assert answer["data"] == {"__typename": "Query", "viewer": None}
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]
    book.check()


# Anything at all


async def check_answer(server: Server, body: bytes, **headers: str) -> None:
    """One answer in JSON, and whatever is wrong is the client's mistake."""
    response = await post(server, body, **headers)
    assert response.status_code < 500, response.text
    answer = response.json()
    assert answer.keys() <= {"data", "errors"}
    codes = {error["extensions"]["code"] for error in answer.get("errors", [])}
    assert codes <= set(ErrorCode) - {ErrorCode.INTERNAL_ERROR, ErrorCode.SERVICE_UNAVAILABLE}, answer


@EXPLORING
@hypothesis.given(body=BODIES, accept=st.sampled_from([JSON, GRAPHQL_JSON]))
async def test_no_body_makes_the_server_fail(server: Server, book: LogBook, body: bytes, accept: str) -> None:
    await check_answer(server, body, accept=accept)
    book.check()


@EXPLORING
@hypothesis.given(asked=ASKED)
async def test_no_variables_make_the_server_fail(
    server: Server, member: tuple[str, Mapping[str, str]], book: LogBook, asked: tuple[str, Json]
) -> None:
    (document, variables), (token, known) = asked, member
    body = json.dumps({"query": document, "variables": variables})
    for word, value in known.items():
        body = body.replace(word, value)
    await check_answer(server, body.encode(), authorization=f"Bearer {token}")
    book.check()


@pytest.fixture(scope="module")
async def member(server: Server) -> tuple[str, Mapping[str, str]]:
    """The token of somebody with a group, and what `KNOWN` stands for."""
    async with World(server) as world:
        ada, ben = await world.users("ada", "ben")
        group = await world.group(ada, ben)
        message = await world.send(ada, group)
        known = (group, ben.id, message["id"], await ada.head(group), ben.username)
        return ada.token, dict(zip(KNOWN, known, strict=True))


@asynccontextmanager
async def raw_connection(server: Endpoint) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(server.url).port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


ASK = b'{"query": "{ __typename }"}'
ASKING = b"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(ASK)
ANSWER = b'{"data":{"__typename":"Query"}}'


DATA_SEGS_IN = 152  # where it stands in Linux's struct tcp_info


async def test_an_answer_leaves_in_one_packet(server: Server) -> None:
    async with raw_connection(server) as (reader, writer), asyncio.timeout(20):
        for count in range(1, 10):
            writer.write(ASKING + b"\r\n" + ASK)
            assert (await reader.readuntil(ANSWER)).startswith(b"HTTP/1.1 200 OK\r\n")
            info = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, DATA_SEGS_IN + 4)
            assert int.from_bytes(info[DATA_SEGS_IN:], sys.byteorder) == count


async def test_what_was_answered_does_not_wait_for_the_garbage_collector(server: Server) -> None:
    def kept() -> int:
        return sum(type(each) is RequestResponseCycle for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = kept()
        async with raw_connection(server) as (reader, writer), asyncio.timeout(20):
            for _ in range(10):
                writer.write(ASKING + b"\r\n" + ASK)
                await reader.readuntil(ANSWER)
            assert kept() <= before + 1, "the connection has its last one"
    finally:
        gc.enable()


async def test_who_waits_to_be_told_to_go_on_is_told_before_the_answer(server: Server) -> None:
    async with raw_connection(server) as (reader, writer), asyncio.timeout(20):
        writer.write(ASKING + b"Expect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(ASK)
        assert (await reader.readuntil(ANSWER)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_requests_on_the_heels_of_each_other_are_answered_in_their_order(server: Server) -> None:
    head = b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with raw_connection(server) as (reader, writer), asyncio.timeout(20):
        writer.write(ASKING + b"\r\n" + ASK + head + ASKING + b"Connection: close\r\n\r\n" + ASK)
        first, second, third = (await reader.read()).split(b"HTTP/1.1 ")[1:]
    assert first.endswith(ANSWER)
    assert second.endswith(b"\r\n\r\n"), "there is no body"
    assert third.endswith(ANSWER)


BODY = b'POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"query":'


@pytest.mark.parametrize("earlier", [False, True], ids=["at once", "after an answer"])
@pytest.mark.parametrize(
    ("sent", "answered"),
    [(b"\r\n", b""), (BODY[:40], b""), (BODY, b"HTTP/1.1 408 Request Timeout")],
    ids=["an empty line", "half a head", "half a body"],
)
async def test_who_sends_half_of_a_request_is_cut_in_time(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch, sent: bytes, answered: bytes, *, earlier: bool
) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(endpoint, "BODY_SECONDS", 0.3)
    async with raw_connection(await own_server()) as (reader, writer), asyncio.timeout(20):
        if earlier:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.readuntil(b'{"live":true}')
        writer.write(sent)
        assert (await reader.read()).split(b"\r\n")[0] == answered


async def test_who_connects_and_says_nothing_is_cut_in_time(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.3)
    async with raw_connection(await own_server()) as (reader, _), asyncio.timeout(20):
        assert not await reader.read()


async def test_the_time_for_a_head_is_over_once_it_came(own_server: OwnServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.1)
    server = await own_server()
    async with raw_connection(server) as (reader, _), World(server) as world:
        ada = await world.user()
        group_id = await world.group(ada)
        stream = await ada.messages(group_id)
        async with asyncio.timeout(20):
            assert not await reader.read()  # a later connection's time is over as well, if it still runs
        assert (await world.send(ada, group_id))["seq"] == (await stream.event())["seq"]
