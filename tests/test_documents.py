"""Documents: what may be asked at most, and that a remembered document answers as a new one does."""

import gc
import weakref
from collections.abc import Callable, Mapping

import pytest
from graphql import build_client_schema, build_schema, get_introspection_query, lexicographic_sort_schema, print_schema

from schema.cohorts import shareable
from schema.documents import LARGEST_REMEMBERED, MAX_DEPTH, MAX_FIELDS, MAX_OBJECTS, MAX_SAME_NAME, MAX_TOKENS, prepare
from schema.schema import schema
from tests.harness import Endpoint, Json, Server, World, operation, refused
from tests.harness.client import ROOT
from tests.inside import LogBook

TOO_COMPLEX = "QUERY_TOO_COMPLEX"
OPERATIONS = sorted(path.stem for path in (ROOT / "graphql" / "operations").glob("*.graphql"))


@pytest.fixture
def book(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> LogBook:
    return LogBook(capsys, caplog)


async def codes(server: Endpoint, document: str, variables: Json | None = None) -> set[str]:
    """The codes of all errors; nothing for an answer without errors."""
    answer = (await server.client().raw(document, variables)).json()
    return {error["extensions"]["code"] for error in answer.get("errors", [])}


# Limits


def of_depth(levels: int) -> str:
    """A field in a field in a field."""
    chain = ["group(id: 1)", *("group" if level % 2 else "lastMessage" for level in range(levels - 2))]
    return "{ " + " { ".join(chain) + " { id " + "} " * levels


def of_fields(number: int) -> str:
    return "{ " + " ".join(f"f{each}: __typename" for each in range(number)) + " }"


def of_same_name(number: int) -> str:
    return "{ " + "__typename " * number + "}"


def of_fragments(number: int) -> str:
    """Each spread counts, and what it spreads."""
    return "{ " + "".join(f"f{each}: viewer {{ ...F }} " for each in range(number // 3)) + "} fragment F on User { id }"


LIMITS: Mapping[str, tuple[Callable[[int], str], int]] = {
    "levels": (of_depth, MAX_DEPTH),
    "fields": (of_fields, MAX_FIELDS),
    "entries of one name": (of_same_name, MAX_SAME_NAME),
}


@pytest.mark.parametrize(("document", "most"), LIMITS.values(), ids=LIMITS.keys())
async def test_a_document_may_go_to_the_limit_and_not_beyond(
    server: Server, book: LogBook, document: Callable[[int], str], most: int
) -> None:
    assert TOO_COMPLEX not in await codes(server, document(most))
    with refused(TOO_COMPLEX) as failure:
        await server.client().execute(document(most + 1))
    assert f" {most} " in str(failure.value)
    book.check()


async def test_fragments_count_wherever_they_are_spread(server: Server) -> None:
    assert TOO_COMPLEX not in await codes(server, of_fragments(MAX_FIELDS))
    assert await codes(server, of_fragments(MAX_FIELDS + 3)) == {TOO_COMPLEX}


async def test_a_document_has_a_bounded_number_of_tokens(server: Server) -> None:
    def of_tokens(number: int) -> str:
        return "{" + " a" * (number - 2) + "}"

    with refused(TOO_COMPLEX) as failure:
        await server.client().execute(of_tokens(MAX_TOKENS + 1))
    assert "Syntax Error" in str(failure.value)
    with refused(TOO_COMPLEX) as failure:
        await server.client().execute(of_tokens(MAX_TOKENS))
    assert "Syntax Error" not in str(failure.value)


# Pages of 100 groups, each with 100 messages: about 20,000 objects.
LARGE = "myGroups(first: 100) { nodes { messages(first: 100) { nodes { id } } } }"
SNAPSHOT = "subscription { myGroupEvents(snapshot: true) { ... on GroupsSnapshotEvent { groups { %s } } } }"

OBJECTS: Mapping[str, tuple[str, bool]] = {
    "two large pages": (f"{{ a: {LARGE} b: {LARGE} }}", True),
    "three large pages": (f"{{ a: {LARGE} b: {LARGE} c: {LARGE} }}", False),
    "pages of a variable are as large as can be": (
        "query ($n: Int) { " + " ".join(f"{alias}: {LARGE}".replace("100", "$n") for alias in "abc") + " }",
        False,
    ),
    "pages without a size have 50": (
        "{ " + " ".join(f"{alias}: {LARGE}".replace("(first: 100)", "") for alias in "abc") + " }",
        True,
    ),
    "a page below nothing does not make room": (
        f"{{ n: myGroups(first: -900000) {{ nodes {{ id }} }} a: {LARGE} b: {LARGE} c: {LARGE} }}",
        False,
    ),
    "the last ones count like the first": (
        f"{{ a: {LARGE} b: {LARGE} c: {LARGE} }}".replace("messages(first", "messages(last"),
        False,
    ),
    "null is no size": (f"{{ a: {LARGE} b: {LARGE} c: {LARGE} }}".replace("first: 100", "first: null"), False),
    "members of members of members": (
        "{ group(id: 1) { " + "members { nodes { group { " * 3 + "id" + " } } }" * 3 + " } }",
        False,
    ),
    "a fragment does not hide pages": (
        f"{{ ...F ...G }} fragment F on Query {{ a: {LARGE} ...G }} fragment G on Query {{ b: {LARGE} c: {LARGE} }}",
        False,
    ),
    "a snapshot of a thousand groups": (SNAPSHOT % "id lastMessage { sender { id } }", True),
    "a snapshot with a page for each group": (SNAPSHOT % "messages(first: 100) { nodes { id } }", False),
}


@pytest.mark.parametrize(("document", "is_allowed"), OBJECTS.values(), ids=OBJECTS.keys())
async def test_a_document_may_ask_for_a_bounded_number_of_objects(
    server: Server, document: str, is_allowed: bool
) -> None:
    found = await codes(server, document)
    assert (TOO_COMPLEX not in found) == is_allowed, found
    if not is_allowed:
        with refused(TOO_COMPLEX) as failure:
            await server.client().execute(document)
        assert f"{MAX_OBJECTS:,} objects" in str(failure.value)


@pytest.mark.parametrize("size", ["9" * 5_000, "-" + "9" * 5_000, "2147483648", "-1", "0", "101", "1.5", '"1"', "true"])
async def test_a_bad_page_size_in_a_document_is_the_clients_mistake(world: World, book: LogBook, size: str) -> None:
    ada = await world.user()
    with refused("BAD_USER_INPUT"):
        await ada.client.execute(f"{{ myGroups(first: {size}) {{ nodes {{ id }} }} }}")
    book.check()


@pytest.mark.parametrize("name", OPERATIONS)
async def test_every_operation_of_the_contract_is_within_the_limits(server: Server, name: str) -> None:
    assert TOO_COMPLEX not in await codes(server, operation(name))


# Documents that are built to hurt

NESTED: Mapping[str, Callable[[int], str]] = {
    "lists": lambda depth: f"{{ user(username: {'[' * depth}1{']' * depth}) {{ id }} }}",
    "objects": lambda depth: f"{{ user(username: {'{a: ' * depth}1{'}' * depth}) {{ id }} }}",
    "types": lambda depth: f"query ($a: {'[' * depth}Int{']' * depth}) {{ __typename }}",
    "default values": lambda depth: f"query ($a: Int = {'[' * depth}1{']' * depth}) {{ __typename }}",
    "inline fragments": lambda depth: "{ ... " * depth + "{ __typename }" + "}" * depth,
    "fields": lambda depth: "{ viewer " * depth + "{ id }" + "}" * depth,
    "kinds of kinds": lambda depth: "{ __schema { types " + "{ ofType " * depth + "{ name }" + "}" * depth + "} }",
    "fragments": lambda depth: (
        "{ ...F0 }"
        + "".join(f" fragment F{each} on Query {{ ...F{each + 1} }}" for each in range(depth))
        + f" fragment F{depth} on Query {{ __typename }}"
    ),
}


@pytest.mark.parametrize("nested", NESTED.values(), ids=NESTED.keys())
async def test_no_depth_of_nesting_makes_the_server_fail(
    server: Server, book: LogBook, nested: Callable[[int], str]
) -> None:
    for depth in (1, 10, 30, 50, 100, 130, 160, 200, 250, 300, 400, 500, 800, 1_200, 1_900):
        found = await codes(server, nested(depth))
        assert found <= {"BAD_USER_INPUT", "UNAUTHENTICATED", TOO_COMPLEX}, depth
    book.check()


CYCLES = {
    "itself": "{ ...A } fragment A on Query { ...A }",
    "two": "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
    "below a field": "{ viewer { ...A } } fragment A on User { id ...B } fragment B on User { ... on User { ...A } }",
    "not used": "{ __typename } fragment A on Query { ...B } fragment B on Query { ...C } fragment C on Query { ...A }",
}


@pytest.mark.parametrize("document", CYCLES.values(), ids=CYCLES.keys())
async def test_a_cycle_of_fragments_is_the_clients_mistake(server: Server, book: LogBook, document: str) -> None:
    assert await codes(server, document) == {"BAD_USER_INPUT"}
    book.check()


ONE = 'user(username: "a") { id } '
SCHEMA = "__schema { types { name fields { name args { name type { name } } } inputFields { name } } }"
COSTLY: Mapping[str, str] = {
    "one field many times": "{ " + ONE * 240 + "}",
    "one field many times in inline fragments": "{ " + ("... { " + ONE * 48 + "} ") * 5 + "}",
    "one field many times in a fragment that nobody spreads": "{ __typename } fragment F on Query { " + ONE * 430 + "}",
    "many spreads of small fragments": "{ "
    + " ".join(f"...F{each}" for each in range(240))
    + " }"
    + "".join(f" fragment F{each} on Query {{ viewer {{ id }} }}" for each in range(240)),
    "fragments that double": "{ ...F0 }"
    + "".join(f" fragment F{each} on Query {{ ...F{each + 1} ...F{each + 1} }}" for each in range(200))
    + " fragment F200 on Query { __typename }",
    "many unknown fields of an input": "mutation { createGroup(input: {"
    + " ".join(f"a{each}: 1" for each in range(1_200))
    + "}) { group { id } } }",
    "many times the schema": "{ "
    + " ".join(f"s{each}: __schema {{ ...F }}" for each in range(100))
    + " } "
    + f"fragment F on __Schema {SCHEMA.removeprefix('__schema ')}",
    "kinds of fields of kinds of fields": "{ __schema { types "
    + "{ fields { type " * 4
    + "{ name }"
    + "} }" * 4
    + "} }",
}


@pytest.mark.parametrize("document", COSTLY.values(), ids=COSTLY.keys())
async def test_a_document_that_is_built_to_be_costly_is_refused(server: Server, book: LogBook, document: str) -> None:
    assert TOO_COMPLEX in await codes(server, document)
    book.check()


# Introspection


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "specified_by_url": True,
            "directive_is_repeatable": True,
            "schema_description": True,
            "input_value_deprecation": True,
            "one_of": True,
        },
        {"descriptions": True, "input_value_deprecation": True},
    ],
    ids=["graphql-core", "everything", "GraphiQL"],
)
async def test_the_whole_schema_can_be_asked_for(server: Server, options: dict[str, bool]) -> None:
    found = await server.client().execute(get_introspection_query(**options), operation="IntrospectionQuery")
    asked = lexicographic_sort_schema(build_client_schema(found))  # pyright: ignore[reportArgumentType]
    kept = build_schema((ROOT / "graphql" / "schema.graphql").read_text())
    assert set(asked.type_map) == set(kept.type_map)
    if "specified_by_url" in options:
        assert print_schema(asked) == print_schema(lexicographic_sort_schema(kept))


async def test_typename_is_free_of_charge_where_the_rest_is_not_asked(server: Server) -> None:
    assert await codes(server, "{ __typename viewer { __typename } }") == {"UNAUTHENTICATED"}


# Remembered documents


async def test_a_remembered_document_answers_as_at_first(world: World) -> None:
    ada = await world.user()
    document = (
        f"query ($username: String!) {{ new{ada.username.replace('-', '_')}: user(username: $username) {{ id }} }}"
    )
    answers = [(await ada.client.raw(document, {"username": ada.username})).json() for _ in range(3)]
    assert answers[0]["data"]
    assert answers == [answers[0]] * 3


async def test_a_remembered_mistake_is_the_same_mistake_for_everybody(world: World) -> None:
    ada, ben = await world.users("ada", "ben")
    document = f"{{ nope{ada.username.replace('-', '_')} {{ id }} }}"
    answers = [(await each.client.raw(document)).json() for each in (ada, ben, ada)]
    assert len(answers[0]["errors"]) == 1
    assert answers == [answers[0]] * 3


async def test_a_remembered_document_remembers_no_variables_and_nobody(world: World) -> None:
    ada, ben = await world.users("ada", "ben")
    document = """query ($username: String!, $with: Boolean!) {
        viewer { id } user(username: $username) @include(if: $with) { id }
    }"""
    for person, other, included in ((ada, ben, True), (ben, ada, True), (ada, ada, False)):
        answer = await person.client.execute(document, {"username": other.username, "with": included})
        assert answer == {"viewer": {"id": person.id}} | ({"user": {"id": other.id}} if included else {})
    assert await codes(world.server, document, {"username": "ada", "with": True}) == {"UNAUTHENTICATED"}


async def test_one_text_with_two_operations_is_executed_as_it_is_asked_each_time(server: Server) -> None:
    document = "query A { a: __typename } query B { b: __typename }"
    client = server.client()
    for name in "ABBA":
        assert await client.execute(document, operation=name) == {name.lower(): "Query"}
    with refused("BAD_USER_INPUT"):
        await client.execute(document)


@pytest.mark.parametrize("size", [LARGEST_REMEMBERED - 1, LARGEST_REMEMBERED + 1])
async def test_a_document_that_is_too_large_to_remember_is_answered_all_the_same(server: Server, size: int) -> None:
    document = "{ __typename } #".ljust(size, "x")
    for _ in range(2):
        assert await server.client().execute(document) == {"__typename": "Query"}


def test_nothing_is_kept_of_a_subscription_that_is_too_large_to_remember() -> None:
    text = "subscription { groupMessages(groupId: 1) { seq } } #".ljust(LARGEST_REMEMBERED + 1, "x")
    prepared = prepare(schema.core, text, None)
    assert shareable(prepared, text, None, {}) is not None
    document = weakref.ref(prepared.document)
    del prepared
    gc.collect()
    assert document() is None
