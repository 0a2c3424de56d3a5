"""Documents that select everything there is below a root field of the schema, and the texts of an answer."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, ClassVar, cast

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    OperationType,
    build_schema,
    get_named_type,
    is_required_argument,
)

from tests.harness import Json
from tests.harness.client import ROOT, JsonValue

# What each way to ask for everything leaves out, which another asks for.
OF_MESSAGES = ("reactions", "mentions", "mentionsAll", "revisions", "thread", "seenBy", "sharesReadPositions")
WAYS = [
    frozenset({one_way, *rest})
    for rest in (OF_MESSAGES, ("members", "messageEdge", "lastMessage", "firstUnread"))
    for one_way in ("edges", "nodes")
]
# What cannot be asked for in a list without pages: the list can have a thousand entries.
TOO_MUCH = {"groups": {"revisions", "reactions", "mentions", "seenBy"}}


@cache
def documents(kind: OperationType) -> list[str]:
    """One for each root field, for an interface one for each of its types, and one for each way: connections by edges
    or by nodes, with or without what is listed of messages. No type stands twice on one path. All of it together would
    be too complex.
    """
    return list(dict.fromkeys(document for left_out in WAYS for document in _Everything(left_out).documents(kind)))


def variables(document: str, known: Mapping[str, Any]) -> Json:
    """Those of the known variables that the document uses."""
    return {name: value for name, value in known.items() if _uses(document, name)}


def texts(value: JsonValue, path: str = "") -> Iterable[tuple[str, str]]:
    """The texts in an answer with their paths; names of enum values say nothing."""
    if isinstance(value, dict):
        for name, below in cast("Json", value).items():
            yield from texts(below, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for below in cast("list[JsonValue]", value):
            yield from texts(below, path)
    elif isinstance(value, str) and not re.fullmatch("[A-Z_]*", value):
        yield path, value


def _uses(document: str, variable: str) -> bool:
    return re.search(rf"\${variable}\b", document) is not None


class _Everything:
    VARIABLES: ClassVar[Mapping[str, str]] = {"id": "ID!", "groupId": "ID!", "username": "String!", "after": "String!"}
    OPTIONAL: ClassVar[Mapping[str, str]] = {"first": "1", "snapshot": "true", "activity": "true"}

    def __init__(self, left_out: frozenset[str]) -> None:
        self._left_out = left_out
        self._schema = build_schema((ROOT / "graphql" / "schema.graphql").read_text(encoding="utf-8"))

    def documents(self, kind: OperationType) -> Iterable[str]:
        root = self._schema.get_root_type(kind)
        assert root is not None
        for name, field in root.fields.items():
            for selection in self._alternatives(_shown_by(field)):
                body = f"{{ {name}{self._arguments(field)} {selection} }}"
                used = ", ".join(f"${each}: {self.VARIABLES[each]}" for each in self.VARIABLES if _uses(body, each))
                yield f"{kind.value} {f'({used})' if used else ''} {body}"

    def _alternatives(self, shown: GraphQLNamedType) -> Iterable[str]:
        if isinstance(shown, GraphQLInterfaceType):
            for each in self._schema.get_possible_types(shown):
                yield f"{{ ... on {each.name} {self._selection(each, ())} }}"
        else:
            yield self._selection(shown, ())

    def _selection(self, shown: GraphQLNamedType, path: tuple[str, ...], without: frozenset[str] = frozenset()) -> str:
        if not isinstance(shown, GraphQLObjectType):
            return ""
        inner = (*path, shown.name)
        below = {name: _shown_by(field) for name, field in shown.fields.items()}
        fields = [
            f"{name}{self._arguments(field)} {self._selection(below[name], inner, without | TOO_MUCH.get(name, set()))}"
            for name, field in shown.fields.items()
            if below[name].name not in inner and name not in self._left_out | without
        ]
        return f"{{ {' '.join(fields)} }}"

    def _arguments(self, field: GraphQLField) -> str:
        """Required ones as variables of the same name; of the others those that say how much."""
        given = {name: f"${name}" for name, argument in field.args.items() if is_required_argument(argument)}
        given |= {name: value for name, value in self.OPTIONAL.items() if name in field.args}
        return f"({', '.join(f'{name}: {value}' for name, value in given.items())})" if given else ""


def _shown_by(field: GraphQLField) -> GraphQLNamedType:
    return get_named_type(cast("GraphQLNamedType", field.type))  # its type argument is not known
