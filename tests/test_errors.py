"""Refusals: a stable code, a sentence and nothing of the inside, the same over HTTP and over a socket."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

import db.messages
import db.users
from db import transactions
from resolvers import following, messages, users
from resolvers.refusals import ErrorCode
from schema import endpoint
from schema import socket as schema_socket
from tests.conftest import OwnServer
from tests.harness import (
    Client,
    Endpoint,
    GraphQLFailure,
    Json,
    Person,
    Server,
    Subscription,
    World,
    eventually,
    operation,
    refused,
)
from tests.harness.client import whole
from tests.harness.world import PASSWORD
from tests.inside import LogBook, process_of

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

SECRET = "the-inside-of-the-server"
MASKED = "Something went wrong on the server."


@pytest.fixture
def book(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> LogBook:
    return LogBook(capsys, caplog)


# Each kind


@dataclass
class Scene:
    """A group with people of every standing, and a group that was."""

    nobody: Client
    admin: Client
    member: Client
    outsider: Client
    invited: Client
    declined: Client
    group: str
    deleted: str
    admin_name: str
    foreign_cursor: str


@pytest.fixture(scope="module")
async def scene(server: Server) -> Scene:
    async with World(server) as world:
        ada, ben, eve, ida, dan = await world.users("ada", "ben", "eve", "ida", "dan")
        group, deleted = await world.group(ada, ben), await world.group(ada, ben)
        foreign = await ada.head(deleted)
        await ada.run("DeleteGroup", input={"groupId": deleted})
        for person in (ida, dan):
            await ada.run("InviteMember", input={"groupId": group, "userId": person.id})
        await dan.run("AnswerInvitation", input={"groupId": group, "accept": False})
        return Scene(
            nobody=server.client(),
            admin=ada.client,
            member=ben.client,
            outsider=eve.client,
            invited=ida.client,
            declined=dan.client,
            group=group,
            deleted=deleted,
            admin_name=ada.username,
            foreign_cursor=foreign,
        )


Given = Callable[[Scene], Json]


def member_input(**more: Any) -> Given:
    return lambda scene: {"input": {"groupId": scene.group, **more}}


REFUSALS: dict[str, tuple[str, str, Given, Json]] = {
    "no token": ("nobody", "MyGroups", lambda _: {}, {"code": "UNAUTHENTICATED"}),
    "a wrong password": (
        "nobody",
        "Login",
        lambda scene: {"input": {"username": scene.admin_name, "password": "wrong horse"}},
        {"code": "UNAUTHENTICATED"},
    ),
    "an unknown user": (
        "nobody",
        "Login",
        lambda _: {"input": {"username": "nobody-at-all", "password": PASSWORD}},
        {"code": "UNAUTHENTICATED"},
    ),
    "an outsider": (
        "outsider",
        "Group",
        lambda scene: {"id": scene.group},
        {"code": "FORBIDDEN", "membershipStatus": None},
    ),
    "an invited person": (
        "invited",
        "GroupHistory",
        lambda scene: {"id": scene.group},
        {"code": "FORBIDDEN", "membershipStatus": "PENDING"},
    ),
    "a person who declined": (
        "declined",
        "SendGroupMessage",
        member_input(content="hello"),
        {"code": "FORBIDDEN", "membershipStatus": "REJECTED"},
    ),
    "a role that may not": (
        "member",
        "UpdateGroup",
        member_input(name="Go"),
        {"code": "FORBIDDEN", "membershipStatus": "ACCEPTED"},
    ),
    "an id of nothing": ("admin", "Group", lambda _: {"id": "nothing"}, {"code": "NOT_FOUND"}),
    "an id of something else": (
        "admin",
        "AddMember",
        lambda scene: {"input": {"groupId": scene.group, "userId": scene.group}},
        {"code": "NOT_FOUND"},
    ),
    "a bad field": (
        "member",
        "SendGroupMessage",
        member_input(content=" "),
        {"code": "BAD_USER_INPUT", "field": "content"},
    ),
    "a bad page": (
        "member",
        "GroupHistory",
        lambda scene: {"id": scene.group, "first": 101},
        {"code": "BAD_USER_INPUT", "field": "first"},
    ),
    "a name that is taken": (
        "nobody",
        "Register",
        lambda scene: {
            "input": {"username": scene.admin_name, "password": PASSWORD, "firstName": "Ada", "lastName": "Test"}
        },
        {"code": "CONFLICT"},
    ),
    "the last admin": ("admin", "LeaveGroup", member_input(), {"code": "CONFLICT"}),
    "a cursor of another group": (
        "member",
        "GroupMessageEvents",
        lambda scene: {"id": scene.group, "after": scene.foreign_cursor},
        {"code": "CURSOR_INVALID"},
    ),
    "a deleted group": ("member", "Group", lambda scene: {"id": scene.deleted}, {"code": "GROUP_DELETED"}),
    "a deleted group, to a stranger": (
        "outsider",
        "Group",
        lambda scene: {"id": scene.deleted},
        {"code": "NOT_FOUND"},
    ),
}
# Others are shown where they arise: RATE_LIMITED in test_sockets, SESSION_EXPIRED in test_sessions, QUERY_TOO_COMPLEX
# in test_documents, SERVICE_UNAVAILABLE and INTERNAL_ERROR below, MEMBERSHIP_ENDED with the streams.


async def over_http(server: Endpoint, client: Client, document: str, variables: Json) -> GraphQLFailure:
    with pytest.raises(GraphQLFailure) as failure:
        await client.execute(document, variables)
    return failure.value


async def over_a_socket(server: Endpoint, client: Client, document: str, variables: Json) -> GraphQLFailure:
    async with server.socket(client.token) as socket:
        answer = await socket.subscribe(document, variables)
        with pytest.raises(GraphQLFailure) as failure:
            whole(await answer.next())
        assert await answer.end() == []
    return failure.value


Ask = Callable[[Endpoint, Client, str, Json], Awaitable[GraphQLFailure]]
TRANSPORTS: dict[str, Ask] = {"HTTP": over_http, "a socket": over_a_socket}
each_transport = pytest.mark.parametrize("ask", TRANSPORTS.values(), ids=TRANSPORTS.keys())


@each_transport
@pytest.mark.parametrize(("who", "name", "given", "extensions"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_refusal_has_its_code_a_sentence_and_its_place(
    server: Server, scene: Scene, book: LogBook, ask: Ask, who: str, name: str, given: Given, extensions: Json
) -> None:
    failure = await ask(server, getattr(scene, who), operation(name), given(scene))
    (error,) = failure.errors
    assert error["extensions"] == extensions
    assert error["message"].endswith(".")
    (root,) = error["path"] if name not in ("GroupHistory", "GroupMessageEvents") else error["path"][:1]
    assert error["locations"]
    assert failure.data == {root: None}
    (line,) = book.lines("operation")
    assert (line["name"], line["code"]) == (name, extensions["code"])
    book.check()


async def test_every_code_that_a_client_can_see_is_in_the_schema(server: Server) -> None:
    document = '{ __type(name: "ErrorCode") { enumValues { name description } } }'
    values = (await server.client().execute(document))["__type"]["enumValues"]
    assert {value["name"] for value in values} == {code.value for code in ErrorCode}
    assert all(value["description"].endswith(".") for value in values)


async def test_a_stream_is_refused_with_the_same_codes(server: Server, scene: Scene) -> None:
    for client, group, code in (
        (scene.nobody, scene.group, "UNAUTHENTICATED"),
        (scene.outsider, scene.group, "FORBIDDEN"),
        (scene.invited, scene.group, "FORBIDDEN"),
        (scene.member, "nothing", "NOT_FOUND"),
        (scene.member, scene.deleted, "GROUP_DELETED"),
    ):
        async with server.socket(client.token) as socket:
            (error,) = await (await socket.follow("GroupMessages", groupId=group)).end()
            assert error["extensions"]["code"] == code
            assert error["extensions"]["retry"] is False
            assert error["message"].endswith(".")


# Defects


def break_down(*_: object, **__: object) -> NoReturn:
    raise RuntimeError(f"{SECRET}: password=hunter2 at /srv/parley")


def masked(error: Json, book: LogBook) -> None:
    """The error tells nothing but an id, and the log has what happened under that id."""
    assert error["message"] == MASKED
    assert set(error["extensions"]) == {"code", "correlationId"}
    assert error["extensions"]["code"] == "INTERNAL_ERROR"
    (line,) = [
        each
        for each in book.lines("unexpected_error")
        if each["correlation_id"] == error["extensions"]["correlationId"]
    ]
    assert line["error"] == "RuntimeError"
    assert SECRET in line["trace"]
    assert "in break_down" in line["trace"]


@each_transport
async def test_a_defect_is_masked_and_its_id_is_in_the_log(
    world: World, book: LogBook, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await world.user()
    monkeypatch.setattr(users, "by_username", break_down)
    document = '{ viewer { username } a: user(username: "ada") { id } b: user(username: "ben") { id } }'
    failure = await ask(world.server, ada.client, document, {})
    assert failure.data == {"viewer": {"username": ada.username}, "a": None, "b": None}
    assert sorted(error["path"] for error in failure.errors) == [["a"], ["b"]]
    for error in failure.errors:
        masked(error, book)
    assert SECRET not in repr(failure.errors)
    assert book.lines("operation")[-1]["code"] == "INTERNAL_ERROR"


async def test_a_defect_outside_of_every_field_is_masked_over_http(
    server: Server, book: LogBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "prepare", break_down)
    response = await server.client().raw("{ __typename }")
    assert response.status_code == 500
    (error,) = response.json()["errors"]
    masked(error, book)
    assert SECRET not in response.text


async def test_a_defect_outside_of_every_field_is_masked_on_a_socket_and_the_socket_lives(
    server: Server, book: LogBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server.socket() as socket:
        with monkeypatch.context() as patch:
            patch.setattr(schema_socket, "prepare", break_down)
            (error,) = await (await socket.subscribe("{ __typename }", id="same")).end()
            masked(error, book)
        assert await (await socket.subscribe("{ __typename }", id="same")).event() == "Query"


async def test_a_defect_at_the_start_of_a_stream_is_masked(
    world: World, book: LogBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await world.user()
    group = await world.group(ada)
    socket, head = await ada.socket(), await ada.head(group)
    monkeypatch.setattr(messages, "position", break_down)
    (error,) = await (await socket.follow("GroupMessages", groupId=group, after=head)).end()
    masked(error, book)
    await socket.ping()


class Failing:
    """Stands in for a read: fails so many times, then goes on as before."""

    def __init__(self, read: Any, times: int) -> None:
        self._read = read
        self.left = times

    async def __call__(self, *args: Any, **options: Any) -> Any:
        if self.left > 0:
            self.left -= 1
            break_down()
        return await self._read(*args, **options)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again at once."""
    monkeypatch.setattr(following, "PAUSE_SECONDS", 0.001)


def let_people_come_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on users are read once a field has been refused."""
    refused, read_events, read_people = asyncio.Event(), messages.events_after, users.get_many

    async def events_after(*arguments: Any, **more: Any) -> NoReturn:
        try:
            await read_events(*arguments, **more)
        finally:
            refused.set()
        raise AssertionError("not refused")

    async def get_many(*arguments: Any) -> Any:
        await refused.wait()
        return await read_people(*arguments)

    monkeypatch.setattr("resolvers.messages.events_after", events_after)
    monkeypatch.setattr("resolvers.users.get_many", get_many)


async def test_a_refused_field_cancels_nothing_that_another_field_waits_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both show a user who is on the way when one of them is dropped, with the group that it is shown in."""
    ada = await world.user()
    group_id = await world.group(ada)
    document = """query ($id: ID!) {
      refused: group(id: $id) { createdBy { id } messageEvents(after: "nothing") { cursor } }
      group(id: $id) { createdBy { id } }
    }"""
    let_people_come_late(monkeypatch)
    with refused("CURSOR_INVALID") as refusal:
        await ada.client.execute(document, {"id": group_id})
    assert refusal.value.data == {"refused": None, "group": {"createdBy": {"id": ada.id}}}


async def test_an_event_comes_though_a_field_in_it_is_refused_while_others_are_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = await world.users("ada", "bob")
    document = """subscription { myGroupEvents(snapshot: true) {
      actor { id } group { createdBy { id } messageEvents(after: "nothing") { cursor } }
    } }"""
    stream = await (await bob.socket()).subscribe(document)
    await stream.next()
    let_people_come_late(monkeypatch)
    await world.group(ada, bob)
    payload = await stream.next()
    assert payload["data"]["myGroupEvents"] == {"actor": {"id": ada.id}, "group": None}
    assert [error["extensions"]["code"] for error in payload["errors"]] == ["CURSOR_INVALID"]


async def test_an_event_that_cannot_be_shown_comes_once_it_can(
    world: World, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await world.user()
    group = await world.group(ada)
    stream = await nested(ada, group, await ada.head(group))
    failing = Failing(messages.newest, 2)
    monkeypatch.setattr(messages, "newest", failing)
    for content in ("first", "second"):
        await send_quietly(ada, group, content)
        assert (await stream.event())["message"]["content"] == content
    assert failing.left == 0
    await stream.nothing()


async def nested(person: Person, group_id: str, after: str) -> Subscription:
    """Follow a group with events that need a read of their own to be shown."""
    document = """subscription ($groupId: ID!, $after: String) {
        groupMessages(groupId: $groupId, after: $after) { cursor message { content group { lastMessage { id } } } }
    }"""
    return await (await person.socket()).subscribe(document, {"groupId": group_id, "after": after})


async def send_quietly(person: Person, group_id: str, content: str) -> None:
    """Send, and ask for nothing back."""
    document = "mutation ($input: SendGroupMessageInput!) { sendGroupMessage(input: $input) { replayed } }"
    await person.client.execute(document, {"input": {"groupId": group_id, "content": content}})


async def test_an_event_that_cannot_be_shown_at_all_is_not_skipped_but_ends_the_stream_with_the_last_cursor(
    world: World, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await world.user()
    group = await world.group(ada)
    stream = await nested(ada, group, await ada.head(group))
    await send_quietly(ada, group, "first")
    last = (await stream.event())["cursor"]
    with monkeypatch.context() as patch:
        patch.setattr(messages, "newest", break_down)
        await send_quietly(ada, group, "second")
        (error,) = await stream.end()
    assert error["extensions"] == {"code": "SERVICE_UNAVAILABLE", "retry": True, "cursor": last}
    assert SECRET not in error["message"]
    again = await nested(ada, group, last)
    assert (await again.event())["message"]["content"] == "second"


# The database


def lose_the_connection(*_: object) -> NoReturn:
    raise OperationalError(f"SELECT {SECRET}", None, Exception(SECRET))


@each_transport
async def test_a_database_that_is_away_is_not_the_clients_mistake(
    world: World, book: LogBook, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await world.user()
    monkeypatch.setattr(db.users, "by_username", lose_the_connection)
    failure = await ask(world.server, ada.client, operation("User"), {"username": "ada"})
    assert failure.extensions == {"code": "SERVICE_UNAVAILABLE", "retry": True, "committed": False}
    assert SECRET not in str(failure)
    book.check()


async def test_a_write_that_fails_before_its_commit_says_that_nothing_was_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await world.user()
    group = await world.group(ada)
    with monkeypatch.context() as patch:
        patch.setattr(db.messages, "add", lose_the_connection)
        failure = await over_http(world.server, ada.client, operation("SendGroupMessage"), sent(group))
    assert failure.extensions == {"code": "SERVICE_UNAVAILABLE", "retry": True, "committed": False}
    assert (await ada.run("GroupHistory", id=group))["messages"]["edges"] == []


async def test_a_read_that_fails_after_the_commit_does_not_say_that_nothing_was_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = await world.users("ada", "bob")
    group = await world.group(ada, bob)
    document = """
        mutation($id: ID!, $userId: ID!) {
          removeMember(input: {groupId: $id, userId: $userId}) { group { createdBy { username } } }
        }"""
    with monkeypatch.context() as patch:
        patch.setattr(db.users, "get_many", lose_the_connection)
        failure = await over_http(world.server, ada.client, document, {"id": group, "userId": bob.id})
    assert failure.extensions == {"code": "SERVICE_UNAVAILABLE", "retry": True}
    assert (await ada.run("Group", id=group))["memberCount"] == 1


async def test_a_commit_without_an_answer_is_said_to_be_unknown_and_its_repeat_settles_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await world.user()
    group = await world.group(ada)
    commit, on_postgres = Connection.commit, transactions.on_postgres

    def unanswered(connection: Connection) -> None:
        commit(connection)
        lose_the_connection()

    async def unanswered_on_postgres(connection: Any, call: Any, text: str, *parameters: Any) -> Any:
        answer = await on_postgres(connection, call, text, *parameters)
        if text == "COMMIT":
            lose_the_connection()
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "commit", unanswered)
        patch.setattr(transactions, "on_postgres", unanswered_on_postgres)
        failure = await over_http(world.server, ada.client, operation("SendGroupMessage"), sent(group))
    assert failure.extensions == {"code": "SERVICE_UNAVAILABLE", "retry": True}
    assert "not known whether this was done" in str(failure)
    assert (await ada.run("SendGroupMessage", **sent(group)))["replayed"] is True


def sent(group_id: str) -> Json:
    return {"input": {"groupId": group_id, "content": "hello", "clientMessageId": "1"}}


async def test_more_passwords_at_once_than_may_wait_are_turned_away(own_server: OwnServer) -> None:
    server = await own_server(argon2_threads=1, argon2_waiting=1)
    hasher, go = process_of(server).hasher, threading.Event()
    variables = {"input": {"username": "nobody", "password": PASSWORD}}

    async def login() -> str | None:
        return (await over_http(server, server.client(), operation("Login"), variables)).code

    hasher._pool.submit(go.wait)  # pyright: ignore[reportPrivateUsage]  # the one thread is busy until then
    try:
        waiting = [asyncio.create_task(login()) for _ in range(2)]
        await eventually(lambda: hasher._busy == len(waiting))  # pyright: ignore[reportPrivateUsage]
        assert await login() == "SERVICE_UNAVAILABLE"
    finally:
        go.set()
    assert await asyncio.gather(*waiting) == ["UNAUTHENTICATED"] * 2
