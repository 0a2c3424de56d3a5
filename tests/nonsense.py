"""What clients may say when they are wrong, or worse: strategies for Hypothesis. Knows the documents, and no server."""

import json
from datetime import datetime
from typing import Any, TypeAlias

import hypothesis
from graphql import ListTypeNode, NamedTypeNode, NonNullTypeNode, TypeNode, parse
from graphql.language import InputObjectTypeDefinitionNode, OperationDefinitionNode
from hypothesis import strategies as st

from tests.harness import Json, operation
from tests.harness.client import ROOT

Anything: TypeAlias = st.SearchStrategy[Any]

OPERATIONS = sorted(path.stem for path in (ROOT / "graphql" / "operations").glob("*.graphql"))
INPUTS = {
    each.name.value: each
    for each in parse((ROOT / "graphql" / "schema.graphql").read_text(encoding="utf-8")).definitions
    if isinstance(each, InputObjectTypeDefinitionNode)
}
WORDS = """
    { } ( ) [ ] ... on query mutation fragment subscription $a : ! = 1 -1 1.5e400 null true ADMIN @include(if: $a)
    "x" \"\"\"y\"\"\" a viewer id group myGroups nodes __typename __schema # , & |
"""
# They stand for what exists only when the test runs.
KNOWN = ("@group", "@person", "@message", "@cursor", "@name")

EXPLORING = hypothesis.settings(
    max_examples=300,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)

TEXTS = st.text(max_size=20) | st.sampled_from(["", "ada", "1", "\ud800", "\x00", "x" * 5_000, "e\u0301", "\u202e"])
LEAVES: Anything = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES: Anything = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)


# Over HTTP

DOCUMENTS: Anything = (
    st.lists(st.sampled_from(WORDS.split()), max_size=25).map(" ".join)
    | st.sampled_from(OPERATIONS).map(operation)
    | TEXTS
    | VALUES
)
REQUESTS: Anything = st.fixed_dictionaries(
    {"query": DOCUMENTS}, optional={"variables": VALUES, "operationName": VALUES, "extensions": VALUES}
)


def as_bytes(value: object) -> bytes:
    """JSON, or with NaN and the infinities what some take for it."""
    return json.dumps(value).encode()


BODIES = st.binary(max_size=60) | (VALUES | REQUESTS).map(as_bytes)


def _fitting(named: NamedTypeNode) -> Anything:
    if (defined := INPUTS.get(named.name.value)) is not None:
        fields = {field.name.value: argument(field.type) for field in defined.fields or ()}
        required = {field.name.value for field in defined.fields or () if isinstance(field.type, NonNullTypeNode)}
        return st.fixed_dictionaries(
            {name: value for name, value in fields.items() if name in required},
            optional={name: value for name, value in fields.items() if name not in required},
        )
    return {
        "ID": st.sampled_from(KNOWN),
        "String": TEXTS | st.sampled_from(KNOWN),
        "Int": st.integers(-1, 101),
        "Boolean": st.booleans(),
        "DateTime": TEXTS | st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
        "MemberRole": st.sampled_from(["MEMBER", "MODERATOR", "ADMIN"]),
        "MessageEventKind": st.sampled_from(["SENT", "EDITED", "DELETED", "REACTED"]),
    }[named.name.value]


def mostly(fitting: Anything) -> Anything:
    """Nine times of ten what fits: a document is refused for its first argument that does not."""
    return st.integers(1, 10).flatmap(lambda number: VALUES if number == 10 else fitting)


def argument(kind: TypeNode) -> Anything:
    """Values for an argument: what fits its type, and now and then what has nothing to do with it."""
    if isinstance(kind, NonNullTypeNode):
        return argument(kind.type)
    if isinstance(kind, ListTypeNode):
        return mostly(st.lists(argument(kind.type), max_size=3))
    assert isinstance(kind, NamedTypeNode)
    return mostly(_fitting(kind))


def asked(name: str) -> st.SearchStrategy[tuple[str, Json]]:
    """The document of an operation, and something for each of its variables, or for some of them."""
    (definition, *_) = parse(operation(name)).definitions
    assert isinstance(definition, OperationDefinitionNode)
    given = {each.variable.name.value: argument(each.type) for each in definition.variable_definitions or ()}
    whole: st.SearchStrategy[Json] = st.fixed_dictionaries(given)
    some: st.SearchStrategy[Json] = st.fixed_dictionaries({}, optional=given)
    return st.tuples(st.just(operation(name)), whole | whole | some)


# What the test needs is not ended by it: its log-in, its group.
ENDING = ("Logout", "ChangePassword", "DeleteGroup", "LeaveGroup")
ASKED = st.sampled_from([name for name in OPERATIONS if name not in ENDING]).flatmap(asked)


# Over a socket

KINDS = ("connection_init", "connection_ack", "ping", "pong", "subscribe", "next", "error", "complete")
GOOD: tuple[Json, ...] = (
    {"type": "connection_init"},
    {"type": "ping"},
    {"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }"}},
    {"type": "subscribe", "id": "2", "payload": {"query": operation("MyGroupEvents")}},
    {"type": "subscribe", "id": "3", "payload": {"query": operation("Logout")}},
    {"type": "complete", "id": "2"},
)
MESSAGES: Anything = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | VALUES},
    optional={"id": st.sampled_from(["1", "2"]) | VALUES, "payload": REQUESTS | VALUES, "else": VALUES},
)
_GOOD: Anything = st.sampled_from(GOOD)
# One bad message ends a socket: good ones are frequent, so that others are heard in every state.
FRAMES = (MESSAGES | _GOOD | _GOOD | _GOOD | VALUES).map(json.dumps) | st.text(max_size=30) | st.binary(max_size=30)
