"""`serve --demo`: an empty database becomes a world to try, a told one is left alone, any other is refused."""

import os
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from commands import demo
from tests.harness import Client, Json, Node, Stack, as_environment, eventually, refused
from tests.harness.client import ROOT
from tests.processes import free_port

NOW = datetime(2030, 5, 17, 12, 30, tzinfo=UTC)
HIKE, PLOT, CLUB = "Sunday hike", "Allotment 12", "Book club"
ROLES = {
    "ada": {PLOT: "ADMIN", HIKE: "ADMIN", CLUB: "MEMBER"},
    "bob": {PLOT: "MODERATOR", HIKE: "MEMBER"},
    "cyd": {PLOT: "MEMBER", HIKE: "ADMIN"},
    "dan": {PLOT: "MEMBER"},
    "eve": {PLOT: "MEMBER", HIKE: "MEMBER", CLUB: "ADMIN"},
    "fay": {CLUB: "MEMBER"},
    "gus": {},
}


@asynccontextmanager
async def serving_demo(settings: Mapping[str, Any], log: Path) -> AsyncGenerator[Node]:
    """`serve --demo` from its start to its end."""
    node = Node(as_environment(settings), log)
    node.launch("--demo")
    try:
        await eventually(lambda: _is_up(node), 60)
        assert node.process.poll() is None, node.logs()
        yield node
    finally:
        await node.__aexit__()


async def _is_up(node: Node) -> bool:
    return node.process.poll() is not None or await node.is_ready()


async def refusal(settings: Mapping[str, Any]) -> str:
    """The one line with which `serve --demo` refuses."""
    command = [sys.executable, "-W", "error", str(ROOT / "app.py"), "serve", "--demo", "--port", str(free_port())]
    with anyio.fail_after(60):
        done = await anyio.run_process(command, check=False, cwd=ROOT, env=os.environ | as_environment(settings))
    assert (done.returncode, done.stdout) == (2, b""), done.stderr
    assert re.fullmatch(rb"parley: [^\n]+\n", done.stderr), done.stderr
    return done.stderr.decode()


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Iterator[dict[str, Any]]:
    with stack.fresh() as fresh:
        yield fresh


@pytest.fixture(scope="module")
async def node(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """A server with a demo world. What other tests count must stay."""
    async with serving_demo(settings, tmp_path_factory.mktemp("demo") / "log") as node:
        yield node


async def logged_in(node: Node, username: str) -> Client:
    login = await node.client().run("Login", input={"username": username, "password": printed_password(node)})
    return node.client(login["token"])


def printed_password(node: Node) -> str:
    (password,) = re.findall(r"^  password of each: (\S+)$", node.logs(), re.MULTILINE)
    return password


async def groups_of(person: Client) -> dict[str, Json]:
    """A person's groups by name."""
    edges = (await person.run("MyGroups"))["edges"]
    return {edge["node"]["name"]: edge["node"] for edge in edges}


async def history(person: Client, group_id: str) -> list[Json]:
    """All messages, oldest first, read back from the end page by page."""
    found: list[Json] = []
    before = None
    while True:
        page = (await person.run("GroupHistory", id=group_id, last=100, before=before))["messages"]
        found = [edge["node"] for edge in page["edges"]] + found
        before = page["pageInfo"]["startCursor"]
        if not page["pageInfo"]["hasPreviousPage"]:
            return found


async def test_an_empty_database_is_filled_and_the_log_ins_that_are_printed_work(node: Node) -> None:
    assert f"GraphiQL and the API at {node.graphql_url}\n" in node.logs()
    assert "Demo world: made just now." in node.logs()
    assert re.findall(r"^  ([a-z]{3}): ", node.logs(), re.MULTILINE) == [*ROLES, "try"]
    for username in ROLES:
        person = await logged_in(node, username)
        assert (await person.run("Viewer"))["username"] == username


async def test_everybody_has_the_groups_and_the_roles_of_the_story(node: Node) -> None:
    for username, roles in ROLES.items():
        found = await groups_of(await logged_in(node, username))
        assert {name: group["viewerMembership"]["role"] for name, group in found.items()} == roles, username


async def test_one_invitation_is_open_and_one_was_declined(node: Node) -> None:
    (invitation,) = await (await logged_in(node, "dan")).run("MyInvitations")
    assert (invitation["groupName"], invitation["invitedBy"]["username"]) == (CLUB, "eve")
    hike = (await groups_of(await logged_in(node, "cyd")))[HIKE]["id"]
    with refused("FORBIDDEN") as refusal:
        await (await logged_in(node, "fay")).run("Group", id=hike)
    assert refusal.value.extensions["membershipStatus"] == "REJECTED"


async def test_what_is_printed_of_a_person_is_true(node: Node) -> None:
    about = dict(re.findall(r"^  (\w+): (.+)$", node.logs(), re.MULTILINE))
    for username, roles in ROLES.items():
        said = re.findall(rf"(admin|moderator|member) of ({HIKE}|{PLOT}|{CLUB})", about[username])
        assert {(name, role.upper()) for role, name in said} <= set(roles.items()), username
    plot = (await groups_of(await logged_in(node, "ada")))[PLOT]["id"]
    messages = await history(await logged_in(node, "ada"), plot)
    assert f"where {len(messages)} messages wait" in about["ada"]


SHOWN = """query ($id: ID!) { group(id: $id) { unreadCount mentionCount messages(last: 100) { nodes {
  content editedAt deletedAt sender { username } threadRoot { content } thread { replyCount }
  mentions { user { username } } reactions { emoji users(first: 5) { nodes { username } } } } } } }"""


async def shown(person: Client, name: str) -> Json:
    """What the newest messages of a group of that name show beside their content, and what is unread."""
    return (await person.execute(SHOWN, {"id": (await groups_of(person))[name]["id"]}))["group"]


async def test_messages_were_edited_deleted_reacted_and_replied_to(node: Node) -> None:
    hike = (await shown(await logged_in(node, "bob"), HIKE))["messages"]["nodes"]
    assert [each["content"] for each in hike if each["editedAt"]] == ["Put me down for three."]
    (insoles,) = [each for each in hike if "insoles" in each["content"]]
    reacted = {each["emoji"]: [user["username"] for user in each["users"]["nodes"]] for each in insoles["reactions"]}
    assert reacted == {"🎉": ["ada", "eve"], "tada": ["cyd"]}
    club = (await shown(await logged_in(node, "ada"), CLUB))["messages"]["nodes"]
    assert [(each["content"], each["sender"]["username"]) for each in club if each["deletedAt"]] == [("", "fay")]
    assert [each["thread"]["replyCount"] for each in club if each["thread"]] == [1, 3]
    assert [each["content"] for each in club if each["threadRoot"]] == [
        *("Every word.", "Because of the dog?", "I say nothing.", "FAY.")
    ]


async def test_people_and_everybody_are_mentioned(node: Node) -> None:
    cyd = await logged_in(node, "cyd")
    said = [await shown(cyd, name) for name in (PLOT, HIKE)]
    mentions = [each for group in said for message in group["messages"]["nodes"] for each in message["mentions"]]
    assert [each["user"] and each["user"]["username"] for each in mentions] == [None, "bob", "eve"]
    assert [group["mentionCount"] for group in said] == [1, 0]
    listed = [edge["node"]["content"] for edge in (await (await logged_in(node, "eve")).run("MyMentions"))["edges"]]
    assert listed == ["What a day, @all. Thank you!", "You did well on the steps, @eve."]


async def test_people_have_read_up_to_different_places(node: Node) -> None:
    unread = {name: (await shown(await logged_in(node, name), CLUB))["unreadCount"] for name in ("ada", "fay")}
    assert unread["ada"] == 2
    assert unread["fay"] > unread["ada"]


async def test_the_history_is_several_pages_by_several_people_over_weeks(node: Node) -> None:
    ada = await logged_in(node, "ada")
    messages = await history(ada, (await groups_of(ada))[PLOT]["id"])
    assert len(messages) > 200
    assert {message["sender"]["username"] for message in messages} == {"ada", "bob", "cyd", "dan", "eve"}
    moments = [datetime.fromisoformat(message["createdAt"]) for message in messages]
    assert moments == sorted(set(moments))
    assert moments[-1] - moments[0] > timedelta(days=21)
    assert moments[-1] < datetime.now(UTC)
    assert len({message["content"] for message in messages}) > 0.95 * len(messages)


async def test_a_second_time_the_log_ins_are_printed_and_nothing_is_changed(
    node: Node, settings: dict[str, Any], tmp_path: Path
) -> None:
    eve = await logged_in(node, "eve")
    club = (await groups_of(eve))[CLUB]["id"]
    await eve.run("SendGroupMessage", input={"groupId": club, "content": "Somebody has tried it out."})
    newcomer = {"username": "new.here", "password": "correct horse", "firstName": "New", "lastName": "Here"}
    await node.client().run("Register", input=newcomer)
    before = await groups_of(eve)
    node.terminate()
    await node.ended()

    async with serving_demo(settings, tmp_path / "log") as again:
        assert "Demo world: there already, and left as it is." in again.logs()
        assert await groups_of(await logged_in(again, "eve")) == before
    await node.start()


async def test_other_data_is_refused_in_one_line_and_left_alone(stack: Stack, tmp_path: Path) -> None:
    """Ada alone is no demo world: she may be anybody."""
    with stack.fresh() as settings:
        async with Node(as_environment(settings), tmp_path / "log") as node:
            ada = {"username": "ada", "password": "correct horse", "firstName": "Ada", "lastName": "Test"}
            await node.client().run("Register", input=ada)
        assert "--demo is for an empty database" in await refusal(settings)
        async with Node(as_environment(settings), tmp_path / "again.log") as node:
            ada_again = await node.client().run("Login", input={"username": "ada", "password": ada["password"]})
            assert await node.client(ada_again["token"]).run("User", username="bob") is None


def test_the_story_is_the_same_each_time_and_ends_the_day_before() -> None:
    text = demo.FILE.read_text("utf-8")
    story = demo.read(text, NOW)
    assert story == demo.read(text, NOW + timedelta(hours=5))
    assert [step.at for step in story.steps] == sorted(step.at for step in story.steps)
    assert story.steps[-1].at < NOW.replace(hour=0, minute=0)
    assert sum(step.verb == "says" for step in story.steps) > 300


def test_a_line_that_says_nothing_is_named() -> None:
    with pytest.raises(ValueError, match=r"demo\.txt has a line that says nothing: What now\?"):
        demo.read("Head\n\nperson ada Ada Okafor: somebody\nWhat now?\n", NOW)
