"""What the documents show is run, what they list is compared with the code, and where they point is something."""

import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from anyio import run_process
from graphql import OperationDefinitionNode, parse, print_ast
from typer.main import get_command

import dev
from commands import parser
from resolvers import groups, mentions, pages, reactions, revisions, text
from resolvers.refusals import ErrorCode
from schema import documents, frames
from settings import Settings
from tests import sources, transcripts
from tests.conftest import OwnServer
from tests.harness import Client, Json, Node, Subscription, World, as_environment, refused
from tests.harness.client import ROOT
from tests.harness.stacks import FOR_TESTS
from tests.permission_table import permission_table

DOCS = ROOT / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
ROW = re.compile(r"^\|(.*)\|$", re.MULTILINE)


def shown(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def prose(file: Path) -> str:
    """The document without its fenced blocks."""
    return transcripts.FENCE.sub("", shown(file))


def section(file: Path, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    level = heading.split(" ", 1)[0]
    below = shown(file).split(f"\n{heading}\n", 1)[1]
    return re.split(rf"\n#{{1,{len(level)}}} ", below, maxsplit=1)[0]


def rows(markdown: str) -> list[list[str]]:
    """The cells of every row of the tables, without their heads."""
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in ROW.findall(markdown)]
    rules = [number for number, row in enumerate(cells) if set("".join(row)) <= set("-: ")]
    return [row for number, row in enumerate(cells) if number not in rules and number + 1 not in rules]


# What is shown is run


async def test_what_the_protocol_shows_is_what_happens(own_server: OwnServer, tmp_path: Path) -> None:
    server = await own_server()
    await transcripts.run(shown(DOCS / "protocol.md"), server.url, tmp_path)


def operations_of_the_first_page() -> dict[str, str]:
    """What GraphiQL's editor holds when it is opened, by name."""
    document = parse(shown(ROOT / "web" / "graphiql" / "welcome.graphql"))
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    return {each.name.value: print_ast(each) for each in operations if each.name}


async def test_two_people_talk_within_the_minute_of_the_readme(own_server: OwnServer) -> None:
    steps = re.findall(r"`(\w+)`", section(ROOT / "README.md", "## A message within a minute"))
    assert steps == ["CreateGroup", "FindUser", "AddMember", "MyGroups", "GroupMessages", "SendGroupMessage"]
    create, find, add, mine, follow, send = (operations_of_the_first_page()[name] for name in steps)
    server = await own_server()
    ada, bob = await registered(server.client(), "ada"), await registered(server.client(), "bob")
    group_id = (await ada.execute(create))["createGroup"]["group"]["id"]
    user_id = (await ada.execute(find, {"username": "bob"}))["user"]["id"]
    await ada.execute(add, {"groupId": group_id, "userId": user_id})
    assert (await bob.execute(mine))["myGroups"]["nodes"][0]["id"] == group_id
    async with server.socket(bob.token) as opened:
        messages = await opened.subscribe(follow, {"groupId": group_id})
        event = await asked_until_heard(ada, send, group_id, messages)
        assert event["message"]["content"] == "Hello!"


async def registered(client: Client, username: str) -> Client:
    person = {"username": username, "password": "correct horse", "firstName": username, "lastName": "Test"}
    client.token = (await client.run("Register", input=person))["token"]
    return client


async def asked_until_heard(ada: Client, send: str, group_id: str, messages: Subscription) -> Any:
    """The first event. Without `after` nobody knows when a stream begins, so Ada repeats herself, as a person would."""
    for _ in range(30):
        await ada.execute(send, {"groupId": group_id, "content": "Hello!"})
        with suppress(TimeoutError):
            return await messages.event(timeout=1)
    raise AssertionError("Bob hears nothing")


async def test_a_backup_is_made_and_restored_as_the_document_says(tmp_path: Path) -> None:
    shell = [each.text for each in transcripts.blocks(section(DOCS / "operations.md", "## Backup and restore"))]
    backup, restore = shell
    environment = as_environment({"database_url": f"sqlite:///{tmp_path}/parley.db", **FOR_TESTS})
    async with Node(environment, tmp_path / "log") as node, World(node) as world:
        ada = await world.user()
        group_id = await world.group(ada)
        await world.send(ada, group_id, "kept")
        before = await ada.head(group_id)
        await run_process(["sh", "-ec", backup], cwd=tmp_path)
        await world.send(ada, group_id, "lost")
        after = await ada.head(group_id)
        node.terminate()
        await node.ended()
        await run_process(["sh", "-ec", restore], cwd=tmp_path)
        await node.start()
        assert contents(await ada.run("GroupMessageEvents", id=group_id, after=before)) == []
        await world.send(ada, group_id, "new")
        assert contents(await ada.run("GroupMessageEvents", id=group_id, after=before)) == ["new"]
        with refused("CURSOR_INVALID"):
            await ada.run("GroupMessageEvents", id=group_id, after=after)


def contents(group: Json) -> list[str]:
    return [event["message"]["content"] for event in group["messageEvents"]["events"]]


# What is made from the code


def table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines])


def settings_table() -> str:
    lines: list[list[str]] = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        lines.append([f"`{name.upper()}`", default, field.description or ""])
    return table(["Variable", "Default", "What it sets"], lines)


def usage(command: Any) -> str:
    """A command as it is typed, as its --help has it."""
    words: list[str] = [command.name]
    for each in command.params:
        word = each.name.upper() if each.param_type_name == "argument" else each.opts[0]
        value = "" if each.param_type_name == "argument" or each.is_flag else f" {each.name.upper()}"
        words.append(f"{word}{value}" if each.required else f"[{word}{value}]")
    return " ".join(words)


def commands_table() -> str:
    known: Any = get_command(parser())
    lines = [[f"`{usage(each)}`", " ".join((each.help or "").split())] for each in known.commands.values()]
    return table(["Command", "What it does"], lines)


MADE: dict[str, tuple[Path, Callable[[], str]]] = {
    "settings": (DOCS / "operations.md", settings_table),
    "commands": (DOCS / "operations.md", commands_table),
    "permissions": (DOCS / "features.md", permission_table),
}


@pytest.mark.parametrize("part", MADE)
def test_a_table_says_what_the_code_says(part: str) -> None:
    file, make = MADE[part]
    kept = re.search(rf"<!-- {part} -->\n(.*?)<!-- end -->", shown(file), re.DOTALL)
    assert kept, f"{file.name} has no part {part}"
    assert kept[1].strip() == make(), f"put this between the marks in {file.name}:\n{make()}"


def test_every_error_code_has_a_row_that_says_what_to_do() -> None:
    table_of_codes = section(DOCS / "protocol.md", "## Errors").split("\n\n")[1]
    listed = {row[0].strip("`"): row[2] for row in rows(table_of_codes)}
    assert list(listed) == [code.value for code in ErrorCode]
    assert all(listed.values())


LIMITS: dict[str, tuple[int, ...]] = {
    "Bytes of a password": (text.MIN_PASSWORD_BYTES, text.MAX_PASSWORD_BYTES),
    "Characters of a first name, a last name, a nickname": (text.MAX_PERSON_NAME,),
    "Characters of an `avatarUrl`": (text.MAX_URL,),
    "Characters of a group's name": (text.MAX_GROUP_NAME,),
    "Characters of a group's description": (text.MAX_DESCRIPTION,),
    "Characters of a message's content": (text.MAX_CONTENT,),
    "Earlier contents of one message": (revisions.MOST_REVISIONS,),
    "Places of a text that mention somebody": (mentions.MOST_MENTIONS,),
    "People whom one message mentions, in all that it ever said": (mentions.MOST_MENTIONS,),
    "Characters of a reaction": (text.MAX_EMOJI,),
    "Different reactions to one message": (reactions.MOST_EMOJI,),
    "Characters of a `clientMessageId`": (text.MAX_CLIENT_MESSAGE_ID,),
    "Objects of a page": (pages.LARGEST_PAGE,),
    "`memberIds` of `createGroup`": (groups.MAX_INITIAL_MEMBERS,),
    "Tokens of a document": (documents.MAX_TOKENS,),
    "Levels of a document": (documents.MAX_DEPTH,),
    "Fields of a document": (documents.MAX_FIELDS,),
    "Objects that a document can ask for": (documents.MAX_OBJECTS,),
    "Entries of one name in a selection": (documents.MAX_SAME_NAME,),
    "Characters of an operation's `id` on a socket": (frames.LONGEST_ID,),
    "Bytes of events that wait for one slow reader": (frames.MAX_OUTBOX_BYTES,),
    "Seconds that one frame may wait for a reader": (int(frames.SEND_SECONDS),),
}


def test_the_limits_are_those_of_the_code() -> None:
    defaults = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    for what, bound, setting, _ in rows(section(DOCS / "protocol.md", "## Limits")):
        if setting:
            assert bound == f"{defaults[setting.strip('`')]:,}", what
        elif what != "Characters of a username":
            assert bound == " to ".join(f"{number:,}" for number in LIMITS[what]), what
    assert "{3,32}" in text.USERNAME.pattern


# What the code says and a document repeats


def test_every_refusal_of_a_start_is_in_the_troubleshooting_and_no_other() -> None:
    made = sources.refusals()
    listed = {row[0].strip("` ") for row in rows(section(DOCS / "operations.md", "## Troubleshooting"))}
    assert made - listed == set(), "sentences that the document does not have"
    assert listed - made == set(), "sentences that nothing says"


def test_every_event_of_the_log_is_listed_and_no_other() -> None:
    listed = {
        event for row in rows(section(DOCS / "operations.md", "## Logs")) for event in re.findall(r"`(\w+)`", row[0])
    }
    assert sources.logged() == listed


# Where the documents point


def headings(file: Path) -> set[str]:
    """The anchors of a document, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", prose(file), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def links(file: Path) -> Iterator[tuple[str, Path, str]]:
    """The text, the file and the anchor of every link that stays in the checkout."""
    for link in LINK.finditer(prose(file)):
        target, _, anchor = link["target"].partition("#")
        if "://" not in target:
            yield link["text"], (file.parent / target).resolve() if target else file, anchor


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_leads_somewhere(file: Path) -> None:
    for words, target, anchor in links(file):
        assert target.exists(), f"[{words}] leads to {target.relative_to(ROOT)}"
        assert not anchor or anchor in headings(target), f"[{words}] leads to #{anchor}"


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_function_that_a_document_names_is_where_it_says(file: Path) -> None:
    for words, target, _ in links(file):
        if target.suffix == ".py" and (name := re.fullmatch(r"`([\w.]+)`", words)):
            assert name[1] in sources.defined(target), f"{target.relative_to(ROOT)} has no {name[1]}"


def test_the_way_of_one_message_names_its_functions() -> None:
    named = [words for words, target, _ in links(DOCS / "architecture.md") if target.suffix == ".py" and "`" in words]
    assert len(named) > 30


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_command_that_a_document_shows_is_one(file: Path) -> None:
    assert set(re.findall(r"python3 dev\.py ([a-z-]+)", shown(file))) <= dev.SERVED.keys() | dev.TOOLS.keys()


def test_the_commands_of_a_contributor_are_all_of_them() -> None:
    first_words = {row[0].strip("`").split()[0] for row in rows(section(ROOT / "CONTRIBUTING.md", "## Commands"))}
    assert first_words >= dev.TOOLS.keys()
    assert first_words <= dev.SERVED.keys() | dev.TOOLS.keys()


# The features and their tests


@cache
def defined_tests(file: str) -> set[str]:
    return {name for name in sources.defined(ROOT / "tests" / file) if name.startswith("test_")}


def feature_lines() -> list[str]:
    """The points of the list, each with its continuation lines."""
    return [line for line in re.split(r"\n(?=- |\n|#)", shown(DOCS / "features.md")) if line.startswith("- ")]


def test_every_feature_has_a_test_that_exists() -> None:
    wrong: list[str] = []
    for line in feature_lines():
        tests = re.findall(r"`(test_\w+\.py)::(test_\w+)`", line)
        missing = [
            f"{file}::{name}"
            for file, name in tests
            if not (ROOT / "tests" / file).is_file() or name not in defined_tests(file)
        ]
        wrong += missing or ([] if tests else [f"no test: {line}"])
    assert wrong == []
    assert len(feature_lines()) > 50


# The other documents


@pytest.mark.parametrize("file", DECISIONS, ids=lambda file: file.stem)
def test_a_decision_has_its_context_its_options_its_choice_and_its_price(file: Path) -> None:
    number = file.name[:4]
    assert [each.name for each in DECISIONS if each.name.startswith(number)] == [file.name]
    assert re.findall(r"^# (\d+)\. ", shown(file)) == [str(int(number))]
    assert re.findall(r"^## (.+)$", shown(file), re.MULTILINE) == ["Context", "Options", "Choice", "Price"]


def test_the_changelog_begins_with_this_version() -> None:
    version = tomllib.loads(shown(ROOT / "pyproject.toml"))["project"]["version"]
    assert re.findall(r"^## (\S+)", shown(ROOT / "CHANGELOG.md"), re.MULTILINE)[0] == version
