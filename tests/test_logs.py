"""What is logged: one line for each operation, and never a token, a password or what somebody wrote."""

import errno
import hashlib
import json
import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from sqlalchemy import select, text

from db import tables
from db.engine import Transaction
from logs import configure_logs
from settings import Settings
from tests.conftest import OwnNodes, OwnServer
from tests.harness import Endpoint, GraphQLFailure, Json, Server, Socket, SocketClosed, World, eventually
from tests.inside import LogBook, process_of

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")


@pytest.fixture
def book(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> LogBook:
    return LogBook(capsys, caplog)


class FullDisk:
    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        pass


async def test_a_line_that_cannot_be_written_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await world.user()
    group = await world.group(ada)
    monkeypatch.setattr("sys.stderr", FullDisk())
    messages = await ada.messages(group)
    assert (await world.send(ada, group))["seq"] == (await messages.event())["seq"]


# One line for each operation


def without(line: Json, *names: str) -> Json:
    return {name: value for name, value in line.items() if name not in names}


async def test_each_operation_over_http_has_one_line_with_the_id_of_its_answer(world: World, book: LogBook) -> None:
    ada = await world.user()
    before = len(book.lines("operation"))
    response = await ada.client.raw("query Me { viewer { username } }")
    (line,) = book.lines("operation")[before:]
    assert without(line, "ms", "timestamp") == {
        "event": "operation",
        "level": "info",
        "transport": "http",
        "kind": "query",
        "name": "Me",
        "code": "OK",
        "request_id": response.headers["x-request-id"],
    }
    assert 0 < line["ms"] < 10_000
    age = datetime.now(UTC) - datetime.fromisoformat(line["timestamp"])
    assert timedelta(0) <= age < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("document", "kind", "name", "code"),
    [
        ("{ __typename }", "query", None, "OK"),
        ("query A { viewer { id } }", "query", "A", "UNAUTHENTICATED"),
        ("mutation B { logout { loggedOut } }", "mutation", "B", "UNAUTHENTICATED"),
        ("subscription C { myGroupEvents { groupId } }", "subscription", "C", "BAD_USER_INPUT"),
        ("{", None, None, "BAD_USER_INPUT"),
        ("query D { nope }", None, None, "BAD_USER_INPUT"),
        ("", None, None, "BAD_USER_INPUT"),
        (f"query {'E' * 300} {{ __typename }}", "query", "E" * 64, "OK"),
        ("query F { " + "a " * 100 + "}", None, None, "QUERY_TOO_COMPLEX"),
    ],
)
async def test_a_line_names_the_operation_as_far_as_it_is_known_and_its_first_code(
    server: Server, book: LogBook, document: str, kind: str | None, name: str | None, code: str
) -> None:
    await server.client().raw(document)
    (line,) = book.lines("operation")
    assert (line["kind"], line["name"], line["code"]) == (kind, name, code)


async def test_a_body_that_is_no_request_has_a_line_as_well(server: Server, book: LogBook) -> None:
    response = await server.http.post("/graphql", content=b"x")
    (line,) = book.lines("operation")
    assert (line["kind"], line["name"], line["code"]) == (None, None, "BAD_USER_INPUT")
    assert line["request_id"] == response.headers["x-request-id"]


async def test_requests_have_different_ids(server: Server) -> None:
    answers = [await server.client().raw("{ __typename }") for _ in range(5)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 5


async def test_operations_on_a_socket_have_lines_with_the_id_of_the_socket(world: World, book: LogBook) -> None:
    ada = await world.user()
    group = await world.group(ada)
    before = len(book.lines("operation"))
    async with world.server.socket(ada.token) as socket:
        stream = await socket.follow("GroupMessages", groupId=group, after=await ada.head(group))
        for content in ("one", "two"):
            await world.send(ada, group, content)
            await stream.event()
        refused = await socket.subscribe("query Refused { group(id: 7) { id } }")
        with pytest.raises(GraphQLFailure):
            await refused.event()
        assert await refused.end() == []
        await stream.complete()
        await socket.ping()

        def lines() -> list[Json]:
            return [line for line in book.lines("operation")[before:] if line["transport"] == "websocket"]

        await eventually(lambda: len(lines()) == 2)
    first, second = lines()
    assert len({first["request_id"], second["request_id"]}) == 1
    shaken = socket._connection.response  # pyright: ignore[reportPrivateUsage]
    assert shaken is not None
    assert first["request_id"] == shaken.headers["x-request-id"]
    kept = [(each["kind"], each["name"], each["code"], each.get("events")) for each in (first, second)]
    assert kept == [("query", "Refused", "NOT_FOUND", None), ("subscription", "GroupMessages", "OK", 2)]


async def test_a_stream_that_is_ended_has_the_code_of_its_end(world: World, book: LogBook) -> None:
    ada, ben = await world.users("ada", "ben")
    group = await world.group(ada, ben)
    stream = await ben.messages(group)
    await ada.run("RemoveMember", input={"groupId": group, "userId": ben.id})
    await stream.end()
    await eventually(lambda: [each["code"] for each in book.lines("operation") if each["kind"] == "subscription"])
    (line,) = [each for each in book.lines("operation") if each["kind"] == "subscription"]
    assert (line["code"], line["events"]) == ("MEMBERSHIP_ENDED", 0)


# Nothing that is nobody's business


class Secrets:
    """What must not be seen: each is told apart from all else by chance."""

    def __init__(self) -> None:
        self.all: dict[str, str] = {}

    def new(self, name: str) -> str:
        return self.keep(name, f"Sesame {secrets.token_hex(8)}")

    def keep(self, name: str, value: str) -> str:
        self.all[name] = value
        return value

    def keep_token(self, name: str, token: str) -> str:
        digest = hashlib.sha256(token.encode())
        self.keep(f"the digest of {name}", digest.hexdigest())
        self.keep(f"the written digest of {name}", repr(digest.digest()))
        return self.keep(name, token)

    def seen_in(self, log: str) -> list[str]:
        """The names of those that are in the log, as they are or as JSON writes them."""
        forms = {name: {value, json.dumps(value).strip('"')} for name, value in self.all.items()}
        return [name for name, written in forms.items() if any(form in log for form in written)]


SEEN = 18  # operations that such a day has at least


async def live_a_day(server: Endpoint, kept: Secrets) -> None:
    """Everything that people do, right and wrong, with secrets wherever they can stand."""
    client, password = server.client(), kept.new("a password")
    named = {"firstName": kept.new("a first name"), "lastName": "Test", "username": f"ada-{secrets.token_hex(6)}"}
    ada = await client.run("Register", input={"password": password, **named})
    client.token = kept.keep_token("a token", ada["token"])
    login = {"username": named["username"], "password": password}
    other = kept.keep_token("another token", (await server.client().run("Login", input=login))["token"])
    for wrong in ({"password": kept.new("a wrong password")}, {"username": kept.new("a password in the wrong field")}):
        with pytest.raises(GraphQLFailure):
            await server.client().run("Login", input=login | wrong)

    group = (await client.run("CreateGroup", input={"name": kept.new("the name of a group")}))["group"]
    sent = {"groupId": group["id"], "content": kept.new("a message"), "clientMessageId": kept.new("a client's id")}
    await talk(server, client.token, group, sent, kept)
    for document in (
        f'{{ user(username: "{kept.new("a literal")}") {{ id }} }}',
        f'{{ user(username: "{kept.new("a literal of a mistake")}") {{ nope }} }}',
        f"{{ # {kept.new('a comment')}",
        "query ($a: Int) { __typename }",
    ):
        await client.raw(document, {"a": kept.new("a variable")})
    for token in (kept.new("a bad token").replace(" ", ""), kept.keep("a long token", "x" * 300)):
        await server.client(kept.keep(f"as sent: {token[:9]}", token)).raw("{ viewer { id } }")
        with suppress(SocketClosed):
            async with server.socket(token):
                pass
    await server.http.get("/graphql", params={"query": kept.new("a query in an address")})
    changed = {"currentPassword": password, "newPassword": kept.new("a new password")}
    await client.run("ChangePassword", input=changed)
    with pytest.raises(GraphQLFailure):
        await server.client(other).run("Viewer")
    await client.run("Logout")


async def talk(server: Endpoint, token: str, group: Json, sent: Json, kept: Secrets) -> None:
    """The same on sockets."""
    async with server.socket(token) as socket:
        news = await socket.follow("MyGroupEvents", snapshot=True)
        await news.event()
        stream = await socket.follow("GroupMessages", groupId=group["id"], after=group["headCursor"])
        await (await socket.follow("SendGroupMessage", input=sent)).event()
        assert (await stream.event())["message"]["content"] == sent["content"]
        conflict = await socket.follow("SendGroupMessage", input=sent | {"content": kept.new("another message")})
        with pytest.raises(GraphQLFailure):
            await conflict.event()
        mistaken = await socket.subscribe(f'{{ user(username: "{kept.new("a mistake on a socket")}") {{ nope }} }}')
        await mistaken.end()
        await socket.send({"type": kept.new("a type that does not exist")})
        assert await socket.closed() == 4400
    async with Socket.opened(f"{server.socket_url}?token={kept.new('a token in an address').replace(' ', '')}"):
        pass


async def hashes(server: Server) -> Sequence[str]:
    async with process_of(server).database.read() as transaction:
        return list((await transaction.execute(select(tables.users.c.password_hash))).scalars())


async def test_no_token_password_hash_or_content_is_in_the_log(server: Server, book: LogBook) -> None:
    kept = Secrets()
    await live_a_day(server, kept)
    for number, value in enumerate(await hashes(server)):
        kept.keep(f"hash {number}", value)
    assert len(book.lines("operation")) >= SEEN
    assert kept.seen_in(book.text) == []
    assert "argon2" not in book.text


async def test_no_token_password_or_content_is_in_what_a_process_writes_even_when_it_tells_all(
    own_nodes: OwnNodes,
) -> None:
    """`serve` itself, with the web server's own words, at the level of debugging."""
    (node,) = await own_nodes(log_level="debug")
    kept = Secrets()
    await live_a_day(node, kept)
    await eventually(lambda: node.logs().count('"event":"operation"') >= SEEN)
    assert kept.seen_in(node.logs()) == []
    assert "Traceback" not in node.logs()


async def test_a_defect_in_the_database_does_not_tell_what_was_to_be_written(
    own_server: OwnServer, book: LogBook
) -> None:
    server = await own_server()
    kept = Secrets()

    async def lose(transaction: Transaction) -> None:
        await transaction.execute(text("ALTER TABLE messages RENAME COLUMN content TO mislaid"))

    async with World(server) as world:
        ada = await world.user()
        group = await world.group(ada)
        await process_of(server).database.write(lose)
        with pytest.raises(GraphQLFailure) as failure:
            await world.send(ada, group, kept.new("a message"), client_message_id=kept.new("a client's id"))
    assert failure.value.code == "INTERNAL_ERROR"
    (line,) = book.lines("unexpected_error")
    assert line["correlation_id"] == failure.value.extensions["correlationId"]
    assert "messages.py" in line["trace"]
    assert kept.seen_in(book.text) == []


# The shape of lines


@pytest.fixture
def restored() -> Iterator[None]:
    """The other tests' servers log on as they were told."""
    root = logging.getLogger()
    handlers, level, told = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**told)


async def test_every_line_is_one_object_in_json_whoever_writes_it(
    restored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(Settings())
    try:
        raise ValueError("half of a pair: \ud800")
    except ValueError:
        structlog.get_logger().exception("ours", value="\udfff", where=Settings)
        logging.getLogger("uvicorn.error").exception("theirs %s", "\n")
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["level"], theirs["event"]) == ("ours", "error", "theirs \n")
    assert all("ValueError: half of a pair" in line["exception"] for line in (ours, theirs))


async def test_lines_for_people_and_the_level_are_settings(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Settings(log_format="console", log_level="warning"))
    structlog.get_logger().info("too quiet")
    structlog.get_logger().warning("loud", number=7)
    logging.getLogger("sqlalchemy.engine").info("too quiet")
    written = capsys.readouterr().err
    assert "loud" in written
    assert "too quiet" not in written
    assert not written.startswith("{")
