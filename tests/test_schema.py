"""The schema that clients take home: its snapshot, its style, and the documents of graphql/operations."""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    build_client_schema,
    build_schema,
    find_breaking_changes,
    get_introspection_query,
    is_introspection_type,
    is_specified_scalar_type,
    lexicographic_sort_schema,
    parse,
    print_schema,
    validate,
)
from typer.testing import CliRunner

from commands import parser
from commands.schema import types_as_json
from resolvers.refusals import ErrorCode
from schema.schema import sdl
from tests.harness import Server
from tests.harness.client import ROOT

FOLDER = ROOT / "graphql"
SNAPSHOT = FOLDER / "schema.graphql"
POSSIBLE_TYPES = FOLDER / "possible-types.json"
OPERATIONS = sorted((FOLDER / "operations").glob("*.graphql"))
REWRITE = "python3 dev.py export-schema --output graphql/schema.graphql"
REWRITE_POSSIBLE_TYPES = "python3 dev.py export-schema --possible-types --output graphql/possible-types.json"
# The one payload field that can be null: whoever removes themselves cannot see the group any more.
NULLABLE_IN_PAYLOADS = {"RemoveMemberPayload.group"}
WITHOUT_INPUT = {"logout"}


@pytest.fixture(scope="module")
def snapshot() -> GraphQLSchema:
    return build_schema(SNAPSHOT.read_text())


def difference(kept: str, made: str) -> str:
    """What a person needs who has changed the schema; empty when nothing changed."""
    if kept == made:
        return ""
    breaking = find_breaking_changes(build_schema(kept), build_schema(made))
    named = [f"  {change.description}" for change in breaking] or ["  none"]
    return "\n".join(
        ["The schema is not the one in graphql/schema.graphql.", "Breaking changes:", *named, f"To write it: {REWRITE}"]
    )


def own_types(schema: GraphQLSchema) -> Iterator[GraphQLNamedType]:
    for each in schema.type_map.values():
        if not is_introspection_type(each) and not is_specified_scalar_type(each):
            yield each


def fields(each: GraphQLNamedType) -> dict[str, GraphQLField]:
    return each.fields if isinstance(each, GraphQLObjectType | GraphQLInterfaceType) else {}


def described(schema: GraphQLSchema) -> Iterator[tuple[str, str | None]]:
    """Everything that can have a description, by its coordinate."""
    for each in own_types(schema):
        yield each.name, each.description
        if isinstance(each, GraphQLEnumType):
            yield from ((f"{each.name}.{name}", value.description) for name, value in each.values.items())
        if isinstance(each, GraphQLInputObjectType):
            yield from ((f"{each.name}.{name}", field.description) for name, field in each.fields.items())
        for name, field in fields(each).items():
            yield f"{each.name}.{name}", field.description
            yield from ((f"{each.name}.{name}({arg}:)", value.description) for arg, value in field.args.items())


def type_of(given: Any) -> str:
    """The type of a field or an argument, as SDL."""
    return str(given.type)


def is_whole(field: Any) -> bool:
    return isinstance(field.type, GraphQLNonNull)


def of_root(schema: GraphQLSchema) -> Iterator[tuple[str, str, GraphQLField]]:
    """Every root field: its type, its name and itself."""
    for root in (schema.query_type, schema.mutation_type, schema.subscription_type):
        assert root is not None
        yield from ((root.name, name, field) for name, field in root.fields.items())


def test_the_schema_is_the_one_that_clients_took_home() -> None:
    if changed := difference(SNAPSHOT.read_text(), sdl()):
        pytest.fail(changed, pytrace=False)


def test_a_changed_schema_is_told_with_what_it_breaks_and_how_to_write_it() -> None:
    told = difference("type Query { old: Int same: Int }", "type Query { same: Int new: Int }")
    assert "Query.old was removed." in told
    assert "Query.new" not in told
    assert REWRITE in told
    assert "none" in difference("type Query { same: Int }", "type Query { same: Int new: Int }")


def test_the_snapshot_is_sorted(snapshot: GraphQLSchema) -> None:
    assert SNAPSHOT.read_text() == print_schema(lexicographic_sort_schema(snapshot)) + "\n"


def test_the_possible_types_are_those_of_the_schema() -> None:
    made = CliRunner().invoke(parser(), ["export-schema", "--possible-types"]).output
    if POSSIBLE_TYPES.read_text() != made:
        pytest.fail(f"graphql/possible-types.json is not that of the schema. To write it: {REWRITE_POSSIBLE_TYPES}")


def test_a_union_has_possible_types_like_an_interface() -> None:
    schema = build_schema("type Query { it: It } union It = B | A type A { a: Int } type B { b: Int }")
    assert json.loads(types_as_json(schema)) == {"It": ["A", "B"]}


async def test_a_server_tells_of_itself_what_the_snapshot_says(server: Server) -> None:
    query = get_introspection_query(
        specified_by_url=True, directive_is_repeatable=True, schema_description=True, one_of=True
    )
    told = build_client_schema(await server.client().execute(query))  # pyright: ignore[reportArgumentType]  # a TypedDict
    assert difference(SNAPSHOT.read_text(), print_schema(lexicographic_sort_schema(told)) + "\n") == ""


def test_everything_has_a_description(snapshot: GraphQLSchema) -> None:
    assert [name for name, text in described(snapshot) if not (text or "").strip()] == []


def test_a_description_is_a_sentence(snapshot: GraphQLSchema) -> None:
    assert [name for name, text in described(snapshot) if not (text or "").endswith((".", ".`"))] == []


def test_a_mutation_takes_one_input_and_gives_one_payload(snapshot: GraphQLSchema) -> None:
    for root, name, field in of_root(snapshot):
        if root == "Mutation":
            stem = name[0].upper() + name[1:]
            wanted = {} if name in WITHOUT_INPUT else {"input": f"{stem}Input!"}
            assert {argument: type_of(value) for argument, value in field.args.items()} == wanted
            assert type_of(field) == f"{stem}Payload"


def test_a_payload_is_whole(snapshot: GraphQLSchema) -> None:
    nullable = {
        f"{each.name}.{name}"
        for each in own_types(snapshot)
        if each.name.endswith("Payload")
        for name, field in fields(each).items()
        if not is_whole(field)
    }
    assert nullable == NULLABLE_IN_PAYLOADS


def test_a_root_field_can_be_refused_alone(snapshot: GraphQLSchema) -> None:
    """A subscription has one root field, and its events are whole."""
    whole = {(root, name) for root, name, field in of_root(snapshot) if is_whole(field)}
    assert {root for root, _ in whole} == {"Subscription"}


def test_a_list_of_unbounded_length_is_a_connection(snapshot: GraphQLSchema) -> None:
    connections = [each for each in own_types(snapshot) if each.name.endswith("Connection")]
    for each in connections:
        shape = {name: type_of(field) for name, field in fields(each).items()}
        edge = shape["edges"].strip("[]!")
        node = type_of(fields(snapshot.type_map[edge])["node"])
        assert edge == f"{node.removesuffix('!')}Edge"  # one for each type of node, whatever the list
        asked = {"edges": f"[{edge}!]!", "nodes": f"[{node}]!", "pageInfo": "PageInfo!"}
        assert shape.items() >= asked.items()
    assert len(connections) == 6


def test_the_error_codes_of_the_schema_are_those_of_the_refusals(snapshot: GraphQLSchema) -> None:
    codes = snapshot.type_map["ErrorCode"]
    assert isinstance(codes, GraphQLEnumType)
    assert set(codes.values) == {code.value for code in ErrorCode}


@pytest.mark.parametrize("file", OPERATIONS, ids=lambda file: file.stem)
def test_a_document_is_valid_and_holds_the_one_operation_that_it_is_named_after(
    file: Path, snapshot: GraphQLSchema
) -> None:
    document = parse(file.read_text())
    assert [error.message for error in validate(snapshot, document)] == []
    operations = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    assert [each.name.value if each.name else None for each in operations] == [file.stem]


def selected(files: Iterable[Path]) -> set[tuple[str, str]]:
    """The root fields that these documents ask for."""
    found: set[tuple[str, str]] = set()
    for definition in itertools.chain.from_iterable(parse(file.read_text()).definitions for file in files):
        if isinstance(definition, OperationDefinitionNode):
            root = definition.operation.value.title()
            selections = definition.selection_set.selections
            found |= {(root, each.name.value) for each in selections if isinstance(each, FieldNode)}
    return found


def test_every_root_field_has_a_document(snapshot: GraphQLSchema) -> None:
    assert {(root, name) for root, name, _ in of_root(snapshot)} - selected(OPERATIONS) == set()
