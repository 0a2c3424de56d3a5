"""The commands beside `serve`, run as an operator runs them, beside a running server."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias
from uuid import UUID

import anyio
import pytest
from typer.testing import CliRunner, Result

from commands import common, exports, parser
from commands.common import services
from resolvers import users
from schema import ids
from settings import Settings
from tests.conftest import OwnServer
from tests.harness import Server, World, eventually, refused
from tests.harness.client import ROOT
from tests.harness.servers import as_environment
from tests.harness.stacks import FOR_TESTS
from tests.processes import free_port

COMMANDS = ["serve", "migrate", "create-user", "issue-token", "disable-user", "export-schema", "export-log"]
SDL = ROOT / "graphql" / "schema.graphql"
NAMES = ["--first-name", "Ada", "--last-name", "Lovelace"]
PASSWORD = "correct horse battery"


Invoke: TypeAlias = Callable[..., Result]


class Done(NamedTuple):
    code: int
    out: str
    err: str


def environment(settings: Settings) -> dict[str, str]:
    """What makes a command use the database of a running server."""
    shared = settings.model_dump(include={"database_url", "argon2_time_cost", "argon2_memory_kib", "token_days"})
    return os.environ | as_environment(shared)


def line(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(ROOT / "app.py"), *arguments]


async def run(settings: Settings, *arguments: str, stdin: str = "") -> Done:
    with anyio.fail_after(60):
        done = await anyio.run_process(
            line(*arguments), input=stdin.encode(), check=False, cwd=ROOT, env=environment(settings)
        )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


async def output(settings: Settings, *arguments: str, stdin: str = "") -> str:
    """What a command that succeeds prints."""
    done = await run(settings, *arguments, stdin=stdin)
    assert (done.code, done.err) == (0, "")
    return done.out


async def refusal(settings: Settings, *arguments: str, stdin: str = "") -> str:
    """The one line of a command that refuses."""
    done = await run(settings, *arguments, stdin=stdin)
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(r"parley: [^\n]+\n", done.err), done.err
    return done.err.removeprefix("parley: ").rstrip()


@pytest.fixture
def alone(tmp_path: Path) -> Settings:
    """An empty SQLite file, for what is the same on every database."""
    return Settings(database_url=f"sqlite:///{tmp_path}/parley.db", **FOR_TESTS)


@pytest.fixture
def invoke(alone: Settings, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command in this process."""
    for name, value in environment(alone).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(common, "configure_logs", str)  # the runner's stderr is closed after each command

    def run_here(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(parser(), arguments, input=stdin)

    return run_here


def sentence(result: Result) -> str:
    """The one line of a command that refuses."""
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"parley: [^\n]+\n", result.stderr), result.stderr
    return result.stderr.removeprefix("parley: ").rstrip()


async def test_the_commands_are_listed_with_what_they_do(alone: Settings) -> None:
    listed = await output(alone, "--help")
    assert [command for command in COMMANDS if not re.search(rf"\n +{command} +[A-Z]", listed)] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_it_does_and_what_it_takes(invoke: Invoke, command: str) -> None:
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert re.search(r"Usage: .*\n\n  [A-Z][^\n]+", done.output)
    undescribed = re.findall(r"^  (--(?!help)\S+)(?: <[a-z ]+>)?(?: +\[\w+\])?\s*$", done.output, re.MULTILINE)
    assert undescribed == []


def test_a_command_that_does_not_exist_is_a_matter_of_usage(invoke: Invoke) -> None:
    assert invoke("creat-user").exit_code == 2


@pytest.mark.parametrize("command", [["create-user", "ada", *NAMES], ["migrate"], ["serve", "--demo", "--port", "0"]])
async def test_a_command_does_not_wait_for_a_database_that_is_not_there(command: list[str]) -> None:
    nowhere = Settings(database_url=f"postgresql://ada:hunter2@127.0.0.1:{free_port()}/chat")
    line = await refusal(nowhere, *command)
    assert line.startswith("Cannot use PostgreSQL at 127.0.0.1:")
    assert "hunter2" not in line


async def test_a_user_made_with_a_password_from_stdin_logs_in(server: Server) -> None:
    made = await output(server.settings, "create-user", "Ada.L", *NAMES, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert made == "Created ada.l.\n"
    login = await server.client().run("Login", input={"username": "ada.l", "password": PASSWORD})
    assert login["viewer"]["displayName"] == "Ada Lovelace"


async def test_a_user_made_without_a_password_gets_one_that_is_printed(server: Server) -> None:
    made = await output(server.settings, "create-user", "ada.made", *NAMES)
    (password,) = re.findall(r"^Password: (\S{20,})$", made, re.MULTILINE)
    await server.client().run("Login", input={"username": "ada.made", "password": password})


async def test_on_a_terminal_the_password_is_asked_for_twice_and_not_shown(alone: Settings) -> None:
    ours, theirs = pty.openpty()
    command = line("create-user", "ada.typed", *NAMES)
    process = subprocess.Popen(  # noqa: ASYNC220  # the pty is what is tested; it starts in a moment
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        cwd=ROOT,
        env=environment(alone),
    )
    os.close(theirs)
    shown = ""
    for prompt in ("Password (empty: one is made): ", "Repeat for confirmation: "):
        while not shown.endswith(prompt):
            shown += (await asyncio.to_thread(os.read, ours, 1_000)).decode()
        os.write(ours, f"{PASSWORD}\n".encode())
    await eventually(lambda: process.poll() is not None, 30)
    shown += os.read(ours, 1_000).decode()
    os.close(ours)
    assert process.returncode == 0, shown
    assert "Created ada.typed." in shown
    assert PASSWORD not in shown
    async with services(alone) as made:
        await users.login(made, username="ada.typed", password=PASSWORD)


@pytest.mark.parametrize(
    ("username", "stdin", "why"),
    [
        ("ab", PASSWORD, "username must be 3 to 32 of the characters"),
        ("all", PASSWORD, "username must not be all"),
        ("short", "seven77", "password must be 8 to 1,024 bytes long"),
        ("nothing", "", "There is no password on stdin."),
    ],
)
def test_a_user_that_cannot_be_is_refused_in_one_line(invoke: Invoke, username: str, stdin: str, why: str) -> None:
    assert why in sentence(invoke("create-user", username, *NAMES, "--password-stdin", stdin=stdin))


async def test_a_username_that_is_taken_is_refused_in_one_line(server: Server, world: World) -> None:
    ada = await world.user("ada")
    assert await refusal(server.settings, "create-user", ada.username, *NAMES) == "This username is taken."


async def test_issue_token_prints_the_token_and_nothing_else(server: Server, world: World) -> None:
    ada = await world.user("ada")
    token = await output(server.settings, "issue-token", ada.username.upper(), "--days", "2")
    assert re.fullmatch(r"[\w-]{43}\n", token)
    assert (await server.client(token.rstrip()).run("Viewer"))["id"] == ada.id


@pytest.mark.parametrize("command", ["issue-token", "disable-user"])
@pytest.mark.parametrize("username", ["nobody.here", "not a name"])
def test_an_unknown_user_is_one_line(invoke: Invoke, command: str, username: str) -> None:
    assert f"There is no user {username!r}" in sentence(invoke(command, username))


async def test_a_disabled_user_is_out_at_once_and_open_sockets_are_closed(own_server: OwnServer) -> None:
    server = await own_server(head_check_seconds=0.05)
    async with World(server) as world:
        ada, grace = await world.users("ada", "grace")
        group_id = await world.group(grace, ada)
        socket = await ada.socket()
        stream = await socket.follow("GroupMessages", groupId=group_id, after=await ada.head(group_id))

        assert await output(server.settings, "disable-user", ada.username) == f"{ada.username} is disabled.\n"

        with refused("UNAUTHENTICATED"):
            await ada.run("Viewer")
        (error,) = await stream.end()
        assert error["extensions"]["code"] == "SESSION_EXPIRED"
        assert await socket.closed() == 4403
        assert await output(server.settings, "disable-user", ada.username) == f"{ada.username} was disabled already.\n"
        assert "There is no user" in await refusal(server.settings, "issue-token", ada.username)
        with refused("UNAUTHENTICATED"):
            await server.client().run("Login", input={"username": ada.username, "password": PASSWORD})


async def test_export_schema_prints_the_sdl_that_is_kept_in_the_checkout(alone: Settings) -> None:
    assert await output(alone, "export-schema") == SDL.read_text(encoding="utf-8")


def test_export_schema_writes_a_file(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("export-schema", "--output", str(tmp_path / "s.graphql")).output == ""
    assert (tmp_path / "s.graphql").read_text(encoding="utf-8") == SDL.read_text(encoding="utf-8")
    assert "nowhere" in sentence(invoke("export-schema", "--output", str(tmp_path / "nowhere" / "s.graphql")))


async def test_migrate_says_where_the_schema_is_and_may_be_repeated(server: Server) -> None:
    said = await output(server.settings, "migrate")
    assert re.fullmatch(r"The schema of the database is \d{4}, which is this version's\.\n", said)
    assert await output(server.settings, "migrate") == said


async def test_export_log_gives_every_event_of_a_group_in_order_as_json_lines(server: Server, world: World) -> None:
    ada, grace = await world.users("ada", "grace")
    group_id = await world.group(ada, grace, name="Chess")
    start = await ada.head(group_id)
    first = await world.send(grace, group_id, "e4, “König”\n\U0001f3c1", "mine-1")
    await ada.run("UpdateGroup", input={"groupId": group_id, "name": "Go"})
    reply = {"groupId": group_id, "content": "d5", "replyToId": first["id"]}
    second = (await grace.run("SendGroupMessage", input=reply))["message"]
    edited = await grace.run("EditMessage", input={"messageId": second["id"], "content": "c5"})
    deleted = await ada.run("DeleteMessage", input={"messageId": second["id"]})
    await ada.run("RemoveMember", input={"groupId": group_id, "userId": grace.id})

    events = [json.loads(each) for each in (await output(server.settings, "export-log", group_id)).splitlines()]

    assert [event["kind"] for event in events] == [
        "GROUP_CREATED",
        "MEMBER_ADDED",
        "MESSAGE_SENT",
        "DETAILS_CHANGED",
        "MESSAGE_SENT",
        "MESSAGE_EDITED",
        "MESSAGE_DELETED",
        "MEMBER_REMOVED",
    ]
    assert [event["seq"] for event in events] == list(range(1, 9))
    sent, removed = events[2], events[-1]
    person = {"id": grace.id, "username": grace.username}
    assert sent["message"] == {
        "id": first["id"],
        "seq": 3,
        "sender": person,
        "mentions": [],
        "threadRootId": None,
        "content": "e4, “König”\n\U0001f3c1",
        "clientMessageId": "mine-1",
        "editedAt": None,
        "deletedAt": None,
        "deletedBy": None,
    }
    tombstone = events[4]["message"]
    assert [event["message"] for event in events[5:7]] == [tombstone, tombstone]
    assert (tombstone["content"], tombstone["deletedBy"]["id"]) == ("", ada.id)
    assert tombstone["threadRootId"] == first["id"]
    assert tombstone["editedAt"] == edited["message"]["editedAt"]
    assert tombstone["deletedAt"] == deleted["message"]["deletedAt"]
    assert sent["actor"] == person
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", sent["occurredAt"])
    assert sent["occurredAt"] == first["createdAt"]
    assert (removed["actor"]["id"], removed["subject"], removed["message"]) == (ada.id, person, None)
    assert events[1]["cursor"] == start
    by_uuid = await output(server.settings, "export-log", str(ids.group(group_id)))
    assert [json.loads(each) for each in by_uuid.splitlines()] == events
    assert await ada.head(group_id) == removed["cursor"]


@pytest.mark.parametrize("group_id", ["nonsense", str(UUID(int=1)), ids.encode(ids.USER, UUID(int=1))])
def test_an_unknown_group_is_one_line(invoke: Invoke, group_id: str) -> None:
    assert sentence(invoke("export-log", group_id)) == "There is no such group."


@pytest.mark.parametrize("page_size", [1, 2, 3, 4, 5, 100])
async def test_export_log_reads_page_by_page_without_a_gap_or_a_double(
    server: Server, world: World, page_size: int
) -> None:
    ada = await world.user("ada")
    group_id = await world.group(ada)
    for number in range(3):
        await world.send(ada, group_id, str(number))
    async with services(server.settings) as made:
        lines = [each async for each in exports.lines(made, ids.group(group_id), page_size)]
    assert [json.loads(each)["seq"] for each in lines] == [1, 2, 3, 4]


async def test_export_log_ends_where_the_log_ended_when_it_began(server: Server, world: World) -> None:
    ada = await world.user("ada")
    group_id = await world.group(ada)
    await world.send(ada, group_id, "one")
    await world.send(ada, group_id, "two")
    seqs: list[int] = []
    async with services(server.settings) as made:
        async for each in exports.lines(made, ids.group(group_id), 2):
            seqs.append(json.loads(each)["seq"])
            await world.send(ada, group_id, "and another one")
    assert seqs == [1, 2, 3]


async def test_export_log_ends_quietly_when_its_reader_has_gone(server: Server, world: World) -> None:
    ada = await world.user("ada")
    group_id = await world.group(ada)
    reader, writer = os.pipe()
    os.close(reader)
    done = await anyio.run_process(
        line("export-log", group_id), stdout=writer, check=False, cwd=ROOT, env=environment(server.settings)
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
