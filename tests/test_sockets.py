"""GraphQL over graphql-transport-ws: each mistake has the close code that the protocol names, and few cost a socket."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from resolvers import users
from resolvers.refusals import unavailable
from schema import ids
from tests.conftest import OwnServer
from tests.harness import (
    Completed,
    Endpoint,
    GraphQLFailure,
    Json,
    Node,
    Server,
    Socket,
    SocketClosed,
    World,
    eventually,
    operation,
    refused,
)
from tests.inside import LogBook, followed, open_sockets, process_of
from tests.nonsense import EXPLORING, FRAMES

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

INIT: Json = {"type": "connection_init"}
TYPENAME = "{ __typename }"
VIEWER = "{ viewer { username } }"


def subscribe(query: object = TYPENAME, id: object = "1", **payload: object) -> Json:
    return {"type": "subscribe", "id": id, "payload": {"query": query, **payload}}


@pytest.fixture
def book(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> LogBook:
    return LogBook(capsys, caplog)


async def code_after(server: Endpoint, *frames: Json | str | bytes) -> int:
    """The code with which the server closes a fresh socket on which these are said."""
    async with Socket.opened(server.socket_url) as socket:
        for frame in frames:
            await (socket.send(frame) if isinstance(frame, dict) else socket.send_raw(frame))
        return await socket.closed()


@asynccontextmanager
async def bare(server: Endpoint, **options: Any) -> AsyncGenerator[ClientConnection]:
    """A connection below the messages: whatever goes through it is the test's."""
    options = {"subprotocols": [Subprotocol("graphql-transport-ws")], "compression": None, "proxy": None} | options
    async with connect(server.socket_url, ping_interval=None, close_timeout=2, **options) as connection:
        yield connection


async def close_code(connection: ClientConnection) -> int | None:
    """Read to the end; how it ended."""
    async with asyncio.timeout(10):
        try:
            while True:
                await connection.recv()
        except ConnectionClosed:
            return connection.close_code


# The hand-shake


async def test_a_client_that_offers_the_protocol_gets_it_and_the_id_of_its_socket(server: Server) -> None:
    async with bare(server, subprotocols=["graphql-ws", "graphql-transport-ws"]) as connection:
        assert connection.subprotocol == "graphql-transport-ws"
        assert connection.response is not None
        assert len(connection.response.headers["x-request-id"]) == 32


@pytest.mark.parametrize("protocols", [["graphql-ws"], ["soap"], None], ids=["legacy", "unknown", "none"])
async def test_a_client_that_does_not_offer_the_protocol_is_closed_with_4406(
    server: Server, protocols: list[str] | None
) -> None:
    async with bare(server, subprotocols=protocols) as connection:
        assert connection.subprotocol is None
        assert await close_code(connection) == 4406


async def test_a_client_that_offers_compression_talks_without_it(world: World) -> None:
    async with bare(world.server, compression="deflate") as connection:
        assert connection.response is not None
        assert "sec-websocket-extensions" not in connection.response.headers
        await connection.send(json.dumps(INIT))
        assert json.loads(await connection.recv()) == {"type": "connection_ack"}


async def test_there_are_sockets_at_graphql_alone(server: Server) -> None:
    for path in ("/", "/graphql/", "/healthz"):
        with pytest.raises(InvalidStatus):
            async with Socket.opened(server.socket_url.removesuffix("/graphql") + path):
                pass


async def test_a_socket_that_says_nothing_is_closed_with_4408(own_server: OwnServer) -> None:
    server = await own_server(connection_init_seconds=1)
    async with server.socket() as patient, Socket.opened(server.socket_url) as silent:
        assert await silent.closed() == 4408
        await patient.ping()


async def test_what_comes_before_connection_init_is_refused_with_4401_if_it_is_an_operation(server: Server) -> None:
    assert await code_after(server, subscribe()) == 4401
    assert (
        await code_after(server, {"type": "ping"}, {"type": "pong"}, {"type": "complete", "id": "1"}, subscribe())
        == 4401
    )


async def test_a_second_connection_init_is_closed_with_4429(server: Server) -> None:
    assert await code_after(server, INIT, INIT) == 4429
    assert await code_after(server, INIT, subscribe(), INIT) == 4429


async def test_an_id_that_is_taken_is_closed_with_4409(world: World) -> None:
    ada = await world.user()
    socket = await ada.socket()
    await socket.subscribe(operation("MyGroupEvents"), id="same")
    with pytest.raises(SocketClosed) as closed:
        await (await socket.subscribe(TYPENAME, id="same")).next()
    assert closed.value.code == 4409


# The token

PAYLOADS: Mapping[str, object] = {
    "an unknown token": "Bearer " + "x" * 43,
    "another scheme": "Basic YTpi",
    "no scheme": "x" * 43,
    "nothing": "",
    "no token": "Bearer ",
    "a number": 7,
    "a list": [],
    "half of a surrogate pair": "Bearer \ud800",
    "NUL": "Bearer \x00",
    "a very long one": "Bearer " + "x" * 10_000,
}


@pytest.mark.parametrize("value", PAYLOADS.values(), ids=PAYLOADS.keys())
async def test_a_bad_token_is_closed_with_4403(server: Server, book: LogBook, value: object) -> None:
    assert await code_after(server, INIT | {"payload": {"authorization": value}}) == 4403
    book.check()


@pytest.mark.parametrize("key", ["authorization", "Authorization", "AUTHORIZATION"])
async def test_the_token_is_found_under_its_key_in_any_case(world: World, key: str) -> None:
    ada = await world.user()
    async with world.server.socket(init_payload={key: f"Bearer {ada.token}", "other": 1}) as socket:
        answer = await (await socket.subscribe(VIEWER)).event()
        assert answer == {"username": ada.username}


@pytest.mark.parametrize("payload", [None, {}, {"authorization": None}, {"other": 1}])
async def test_a_socket_without_a_token_is_for_what_needs_no_viewer(server: Server, payload: Json | None) -> None:
    async with server.socket(init_payload=payload) as socket:
        for document in (VIEWER, 'mutation { createGroup(input: {name: "Chess"}) { group { id } } }'):
            with refused("UNAUTHENTICATED"):
                await (await socket.subscribe(document)).event()
        for name, variables in (("GroupMessages", {"groupId": "1"}), ("MyGroupEvents", {})):
            ended = await (await socket.follow(name, **variables)).end()
            assert [error["extensions"]["code"] for error in ended] == ["UNAUTHENTICATED"]
        names = {"firstName": "Ada", "lastName": "Test"}
        registering = {"username": f"ada-{id(socket)}", "password": "correct horse", **names}
        registered = await (await socket.follow("Register", input=registering)).event()
        assert registered["viewer"]["firstName"] == "Ada"


# Messages that are none

MALFORMED: Mapping[str, Json | str | bytes] = {
    "nothing": "",
    "no JSON": "{",
    "null": "null",
    "a number": "7",
    "a string": '"ping"',
    "a list": "[]",
    "a list of messages": json.dumps([{"type": "ping"}]),
    "very deep lists": "[" * 60_000,
    "an integer of 5,000 digits": "9" * 5_000,
    "NaN": "NaN",
    "an object without a type": {},
    "a type that is null": {"type": None},
    "a type that is a number": {"type": 7},
    "a type that is a list": {"type": ["ping"]},
    "an unknown type": {"type": "start", "id": "1", "payload": {"query": TYPENAME}},
    "half of a surrogate pair for a type": {"type": "\ud800"},
    "an acknowledgement": {"type": "connection_ack"},
    "a server's next": {"type": "next", "id": "1", "payload": {"data": {}}},
    "a server's error": {"type": "error", "id": "1", "payload": []},
    "a ping with a number": {"type": "ping", "payload": 7},
    "a pong with a list": {"type": "pong", "payload": []},
    "a complete without an id": {"type": "complete"},
    "a complete with a number": {"type": "complete", "id": 7},
    "a complete with an empty id": {"type": "complete", "id": ""},
    "a subscribe without an id": {"type": "subscribe", "payload": {"query": TYPENAME}},
    "a subscribe with a number for an id": subscribe(id=7),
    "a subscribe with null for an id": subscribe(id=None),
    "a subscribe with an empty id": subscribe(id=""),
    "a subscribe with a very long id": subscribe(id="x" * 10_000),
    "a subscribe without a payload": {"type": "subscribe", "id": "1"},
    "a subscribe with a null payload": {"type": "subscribe", "id": "1", "payload": None},
    "a subscribe with a list": {"type": "subscribe", "id": "1", "payload": [TYPENAME]},
    "a subscribe without a query": {"type": "subscribe", "id": "1", "payload": {}},
    "a query that is null": subscribe(None),
    "a query that is a number": subscribe(7),
    "an operation name that is a number": subscribe(operationName=7),
    "variables in a list": subscribe(variables=[]),
    "variables in a string": subscribe(variables="{}"),
    "extensions in a list": subscribe(extensions=[]),
    "a binary message": json.dumps({"type": "ping"}).encode(),
    "an empty binary message": b"",
}


@pytest.mark.parametrize("begin", [[], [INIT]], ids=["before connection_init", "after connection_init"])
@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_the_protocol_does_not_know_is_closed_with_4400(
    server: Server, book: LogBook, frame: Json | str | bytes, begin: list[Json]
) -> None:
    assert await code_after(server, *begin, frame) == 4400
    book.check()


@pytest.mark.parametrize("payload", [7, "x", [], True], ids=["number", "string", "list", "boolean"])
async def test_a_connection_init_with_something_else_than_an_object_is_closed_with_4400(
    server: Server, payload: object
) -> None:
    assert await code_after(server, INIT | {"payload": payload}) == 4400


async def test_the_reason_of_a_close_is_a_sentence(server: Server) -> None:
    async with bare(server) as connection:
        await connection.send('{"type": "subscribe", "id": "1"}')
        assert await close_code(connection) == 4400
        assert connection.close_reason is not None
        assert connection.close_reason.startswith("subscribe needs a payload with query")


async def test_what_may_be_left_out_may_also_be_null_and_unknown_fields_are_ignored(server: Server) -> None:
    async with server.socket(init_payload={}) as socket:
        for frame in (
            {"type": "ping", "payload": None},
            {"type": "pong", "payload": {"a": 1}},
            {"type": "pong", "x": 1},
        ):
            await socket.send(frame)
        await socket.send({"type": "complete", "id": "never began"})
        answer = await socket.subscribe(TYPENAME)
        assert await answer.event() == "Query"
        await socket.ping()


async def test_nulls_and_extensions_in_a_subscribe_are_taken(server: Server) -> None:
    async with bare(server) as connection:
        await connection.send(json.dumps(INIT))
        await connection.send(json.dumps(subscribe(variables=None, operationName=None, extensions={"a": 1})))
        frames = [json.loads(await connection.recv()) for _ in range(3)]
    assert frames[1:] == [
        {"id": "1", "type": "next", "payload": {"data": {"__typename": "Query"}}},
        {"id": "1", "type": "complete"},
    ]


# Frames


def of_size(number: int) -> str:
    """A ping of so many bytes."""
    ping = json.dumps({"type": "ping", "payload": {"é": ""}}, ensure_ascii=False)
    return ping.replace('""', '"' + "x" * (number - len(ping.encode())) + '"')


async def test_a_message_may_be_as_large_as_the_bound_and_a_larger_one_is_closed_with_1009(server: Server) -> None:
    most = server.settings.max_frame_bytes
    async with bare(server) as connection:
        await connection.send(of_size(most))
        assert json.loads(await connection.recv()) == {"type": "pong"}
        await connection.send(of_size(most + 1))
        assert await close_code(connection) == 1009


async def test_a_message_in_many_frames_is_one_message(server: Server) -> None:
    most = server.settings.max_frame_bytes
    async with bare(server) as connection:
        await connection.send([*'{"type": "ping"}'])
        assert json.loads(await connection.recv()) == {"type": "pong"}
        await connection.send(["x" * (most // 2), "x" * (most // 2), "x"])
        assert await close_code(connection) == 1009


async def test_the_bound_of_a_message_holds_even_if_the_web_server_has_none(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another ASGI server may pass everything on."""
    services = process_of(server).services
    smaller = services.settings.model_copy(update={"max_frame_bytes": 1_000})
    monkeypatch.setattr(process_of(server).sockets, "services", replace(services, settings=smaller))
    assert await code_after(server, INIT, of_size(1_000), of_size(1_001)) == 1009


BROKEN: Mapping[str, tuple[bytes, int]] = {
    "an unknown opcode": (b"\x83\x80abcd", 1002),
    "reserved bits": (b"\xff" * 20, 1002),
    "no mask": (b"\x81\x02ab", 1002),
    "a long control frame": (b"\x89\xfe\x01\x00abcd" + b"a" * 256, 1002),
    "a continuation of nothing": (b"\x80\x80abcd", 1002),
    "half a close code": (b"\x88\x81abcda", 1002),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", 1002),
    "a length of 2^63": (b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xffabcd", 1009),
}


@pytest.mark.parametrize(("sent", "code"), BROKEN.values(), ids=BROKEN.keys())
async def test_bytes_that_are_no_frames_are_closed_with_the_code_of_websockets(
    server: Server, book: LogBook, sent: bytes, code: int
) -> None:
    async with bare(server) as connection:
        connection.transport.write(sent)
        assert await close_code(connection) == code
    book.check()


async def test_a_text_message_that_is_not_utf_8_is_closed_with_1007(server: Server, book: LogBook) -> None:
    async with bare(server) as connection:
        await connection.send(b"\xff\xfe", text=True)
        assert await close_code(connection) == 1007
    book.check()


# Operations


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ("", None),
        (" \n", None),
        ("{", None),
        ("{ nope }", None),
        ("query A { __typename } query B { __typename }", None),
        ("query A { __typename }", "B"),
        ("fragment A on Query { __typename }", None),
        (operation("User"), None),
        ("subscription { myGroupEvents { nope } }", None),
        ('{ user(username: "\ud800") { id } }', None),
        ("subscription { myGroupEvents { groupId } __typename }", None),
    ],
)
async def test_a_mistake_in_a_document_is_an_error_and_the_socket_lives_with_its_other_operations(
    world: World, book: LogBook, document: str, name: str | None
) -> None:
    ada = await world.user()
    group = await world.group(ada)
    socket = await ada.socket()
    messages = await socket.follow("GroupMessages", groupId=group, after=await ada.head(group))
    mistaken = await socket.subscribe(document, operation=name, id="mistaken")
    errors = await mistaken.end()
    assert {error["extensions"]["code"] for error in errors} == {"BAD_USER_INPUT"}
    await world.send(ada, group, "still here")
    assert (await messages.event())["message"]["content"] == "still here"
    assert await (await socket.subscribe(TYPENAME, id="mistaken")).event() == "Query"
    book.check()


async def test_queries_and_mutations_are_answered_with_one_next_and_complete(world: World) -> None:
    ada = await world.user()
    group = await world.group(ada)
    socket = await ada.socket()
    sending = await socket.follow("SendGroupMessage", input={"groupId": group, "content": "hello"})
    assert (await sending.event())["message"]["content"] == "hello"
    history = await socket.follow("GroupHistory", id=group)
    (edge,) = (await history.event())["messages"]["edges"]
    assert edge["node"]["content"] == "hello"
    for answered in (sending, history):
        assert await answered.end() == []


async def test_a_refused_field_comes_in_next_beside_its_siblings(world: World) -> None:
    ada = await world.user()
    answer = await (await ada.socket()).subscribe("{ viewer { username } group(id: 7) { id } }")
    payload = await answer.next()
    assert payload["data"] == {"viewer": {"username": ada.username}, "group": None}
    assert [(error["path"], error["extensions"]["code"]) for error in payload["errors"]] == [(["group"], "NOT_FOUND")]
    assert await answer.end() == []


async def test_operations_with_the_same_text_do_not_share_their_variables(world: World) -> None:
    ada, ben = await world.users("ada", "ben")
    socket = await ada.socket()
    asked = [await socket.follow("User", username=each.username) for each in (ada, ben, ada)]
    assert [(await each.event())["id"] for each in asked] == [ada.id, ben.id, ada.id]


async def test_completing_a_subscription_ends_it_and_frees_its_id(world: World) -> None:
    ada = await world.user()
    group = await world.group(ada)
    socket = await ada.socket()
    for content in ("first", "second"):
        variables = {"groupId": group, "after": await ada.head(group)}
        messages = await socket.subscribe(operation("GroupMessages"), variables, id="same")
        await world.send(ada, group, content)
        assert (await messages.event())["message"]["content"] == content
        await messages.complete()
    await world.send(ada, group, "nobody listens")
    await socket.ping()
    assert not messages.waiting
    await eventually(lambda: ids.group(group) not in followed(world.server))


async def test_an_id_is_free_again_when_its_operation_has_ended(server: Server) -> None:
    async with server.socket() as socket:
        for document, ended in ((TYPENAME, Completed), ("{", GraphQLFailure), (TYPENAME, Completed)):
            answer = await socket.subscribe(document, id="same")
            if ended is Completed:
                assert await answer.event() == "Query"
            with pytest.raises(ended):
                await answer.next()


async def came_to_rest(server: Endpoint) -> None:
    """No socket is open and no log is followed."""
    try:
        await eventually(lambda: (open_sockets(server), followed(server)) == (0, set()))
    except AssertionError:
        pytest.fail(f"{open_sockets(server)} sockets are open, and followed is {followed(server)}")


async def drop(connection: ClientConnection) -> None:
    """As a network does it: without a word."""
    connection.transport.abort()


async def test_a_client_may_close_in_the_middle_of_everything(world: World, book: LogBook) -> None:
    ada = await world.user()
    group = await world.group(ada)
    for end in (ClientConnection.close, drop):
        async with bare(world.server) as connection:
            await connection.send(json.dumps(INIT | {"payload": {"authorization": f"Bearer {ada.token}"}}))
            await connection.send(json.dumps(subscribe(operation("MyGroupEvents"), "1", variables={"snapshot": True})))
            variables = {"groupId": group, "after": await ada.head(group)}
            await connection.send(json.dumps(subscribe(operation("GroupMessages"), "2", variables=variables)))
            sent = {"input": {"groupId": group, "content": "last words"}}
            await connection.send(json.dumps(subscribe(operation("SendGroupMessage"), "3", variables=sent)))
            await connection.recv()
            await end(connection)
        await came_to_rest(world.server)
    book.check()


async def test_more_operations_than_a_socket_may_run_are_refused_and_the_others_live(own_server: OwnServer) -> None:
    server = await own_server(max_operations_per_socket=2)
    async with World(server) as world:
        ada = await world.user()
        group = await world.group(ada)
        socket = await ada.socket()
        head = await ada.head(group)
        running = [await socket.follow("GroupMessages", groupId=group, after=head) for _ in range(2)]
        (error,) = await (await socket.follow("MyGroupEvents")).end()
        assert error["extensions"] == {"code": "RATE_LIMITED", "retryAfter": 1}
        await world.send(ada, group)
        for messages in running:
            await messages.event()
        await running[0].complete()
        assert await (await socket.subscribe(TYPENAME)).event() == "Query"


async def test_more_sockets_than_a_process_may_hold_are_closed_with_1013(own_server: OwnServer) -> None:
    server = await own_server(max_sockets=2)
    async with server.socket() as first:
        async with server.socket(), Socket.opened(server.socket_url) as third:
            assert await third.closed() == 1013
            await first.ping()

        async def is_free() -> bool:
            try:
                async with server.socket():
                    return True
            except SocketClosed:
                return False

        await eventually(is_free)


async def test_a_socket_whose_token_cannot_be_checked_is_closed_with_1013(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await world.user()

    async def away(*_: object) -> None:
        raise unavailable()

    monkeypatch.setattr(users, "authenticate", away)
    assert await code_after(world.server, INIT | {"payload": {"authorization": f"Bearer {ada.token}"}}) == 1013


async def test_a_real_node_has_the_same_bounds(two_nodes: tuple[Node, Node]) -> None:
    for node in two_nodes:
        assert await code_after(node, INIT, "[") == 4400
        assert await code_after(node, INIT, of_size(100 * 1024)) == 1009


# Anything at all

NAMED = {1009, 4400, 4401, 4403, 4409, 4429}


@EXPLORING
@hypothesis.given(begin=st.sampled_from([[], [INIT]]), said=st.lists(FRAMES, max_size=6))
async def test_nothing_that_a_client_says_ends_without_a_code_of_the_protocol(
    server: Server, book: LogBook, begin: list[Json], said: list[str | bytes]
) -> None:
    async with bare(server) as connection:
        with suppress(ConnectionClosed):
            for frame in [*map(json.dumps, begin), *said, b"a binary message is the end"]:
                await connection.send(frame)
        assert await close_code(connection) in NAMED
    book.check()
