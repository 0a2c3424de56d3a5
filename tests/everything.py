"""Documents that select everything there is below a root field of the schema, and what an answer to one shows."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, cast

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    OperationType,
    build_schema,
    get_named_type,
    is_required_argument,
)

from tests.harness import Json
from tests.harness.client import ROOT, JsonValue

# What each way to ask for everything leaves out, which another asks for.
OF_MESSAGES = (
    *("reactions", "mentions", "mentionsAll", "revisions", "thread", "seenBy", "sharesReadPositions"),
    "messageEvents",
)
WAYS = [
    frozenset({one_way, *rest})
    for rest in (OF_MESSAGES, ("members", "messageEdge", "lastMessage", "firstUnread"))
    for one_way in ("edges", "nodes")
]
MOST_FIELDS = 480  # of one document, with room for the root
# What cannot be asked for in a list without pages: the list can have a thousand entries.
TOO_MUCH = {"groups": {"revisions", "reactions", "mentions", "seenBy"}}


@dataclass(frozen=True, slots=True)
class Document:
    """A document for one root field, as `Query.node`; of an interface it shows one type. `given`: its arguments."""

    text: str
    root: str
    shows: str
    given: frozenset[str]


@cache
def schema() -> GraphQLSchema:
    return build_schema((ROOT / "graphql" / "schema.graphql").read_text(encoding="utf-8"))


def documents(kind: OperationType) -> list[str]:
    """The texts of `everything`."""
    return [each.text for each in everything(kind)]


@cache
def everything(kind: OperationType, *, varied: bool = False) -> list[Document]:
    """One for each root field, for an interface one for each of its types, and one for each way: connections by edges
    or by nodes, with or without reactions. All of it together would be too complex. Of a type that stands twice on one
    path the second shows only its leaves. `varied`: also with each optional argument in turn.
    """
    found = [each for left_out in WAYS for each in _Everything(left_out, None).documents(kind)]
    given = set[tuple[str, str, str]]()
    for turn in _optional_arguments() if varied else []:
        for each in (each for left_out in WAYS[1::2] for each in _Everything(left_out, turn).documents(kind)):
            more = {(each.root, each.shows, argument) for argument in each.given} - given
            given |= more
            found += [each] if more or f"{each.root}({turn})" in each.given else []
    return list({each.text: each for each in found}.values())


def variables(document: str, known: Mapping[str, Any]) -> Json:
    """Those of the known variables that the document uses."""
    return {name: value for name, value in known.items() if re.search(rf"\${name}\b", document)}


def input_of(mutation: str, known: Mapping[str, Any]) -> Json:
    """Everything that the input of a mutation can say. Raises KeyError for a field of which nothing is known."""
    given = schema().get_root_type(OperationType.MUTATION)
    assert given is not None
    argument = given.fields[mutation].args.get("input")
    return {name: known[name] for name in _alternatives(argument)} if argument else {}


def cursor_of(argument: str, connection: str) -> str:
    """The variable for a cursor of the connection at `Type.field`."""
    return argument + connection.replace(".", "")


def all_fields() -> set[str]:
    """Every `Type.field` that an answer can show."""
    return {f"{each.name}.{name}" for each in _objects() for name in each.fields}


def all_arguments() -> set[str]:
    """Every `Type.field(argument)` of the schema, and `Type.field(argument.alternative)` where one is chosen."""
    return {
        f"{each.name}.{name}({turn})"
        for each in _objects()
        for name, field in each.fields.items()
        for argument, of in field.args.items()
        for turn in _turns(argument, of)
    }


def shown(document: Document, data: Json) -> Iterator[tuple[str, JsonValue]]:
    """Each `Type.field` of which an answer shows something, and what."""
    kind, _, _ = document.root.partition(".")
    yield from _shown(kind, data, document)


def _shown(type_name: str, value: Json, document: Document) -> Iterator[tuple[str, JsonValue]]:
    of = schema().type_map[type_name]
    if not isinstance(of, GraphQLObjectType):
        of = cast("GraphQLObjectType", schema().type_map[document.shows])
    for name, below in value.items():
        if name not in of.fields or below in (None, []):
            continue
        yield f"{of.name}.{name}", below
        for each in cast("list[JsonValue]", below if isinstance(below, list) else [below]):
            if isinstance(each, dict):
                yield from _shown(_shown_by(of.fields[name]).name, cast("Json", each), document)


def texts(value: JsonValue, path: str = "") -> Iterator[tuple[str, str]]:
    """The texts in an answer with their paths; names of enum values say nothing."""
    if isinstance(value, dict):
        for name, below in cast("Json", value).items():
            yield from texts(below, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for below in cast("list[JsonValue]", value):
            yield from texts(below, path)
    elif isinstance(value, str) and not re.fullmatch("[A-Z_]*", value):
        yield path, value


def _objects() -> list[GraphQLObjectType]:
    found = schema().type_map.values()
    return [each for each in found if isinstance(each, GraphQLObjectType) and not each.name.startswith("__")]


def _turns(name: str, argument: GraphQLArgument) -> list[str]:
    """An argument by its name, or each alternative of one that is a choice."""
    alternatives = [] if is_required_argument(argument) else [*_alternatives(argument)]
    return [f"{name}.{each}" for each in alternatives] or [name]


def _alternatives(argument: GraphQLArgument) -> Mapping[str, GraphQLInputField]:
    """The fields of an input; of an argument that is none, none."""
    of = _shown_by(argument)
    return of.fields if isinstance(of, GraphQLInputObjectType) else {}


def _optional_arguments() -> list[str]:
    """Each once, whatever it is an argument of."""
    return list(
        dict.fromkeys(
            turn
            for each in _objects()
            for field in each.fields.values()
            for name, argument in field.args.items()
            if not is_required_argument(argument)
            for turn in _turns(name, argument)
        )
    )


class _Everything:
    GIVEN: ClassVar[Mapping[str, str]] = {"first": "1", "snapshot": "true", "activity": "true"}
    # In their turn; every other is a variable of its own name, or of the name of its alternative.
    VALUES: ClassVar[Mapping[str, str]] = {"last": "1", "firstUnread": "true", "replies": "false"}

    def __init__(self, left_out: frozenset[str], turn: str | None) -> None:
        self._left_out = left_out
        self._turn = turn
        self._variables: dict[str, str] = {}
        self._given: set[str] = set()

    def documents(self, kind: OperationType) -> Iterator[Document]:
        """Those in which the argument is given whose turn it is."""
        root = schema().get_root_type(kind)
        assert root is not None
        for name, field in root.fields.items():
            for shows in self._types(_shown_by(field)):
                for part in self._parts(shows):
                    self._variables, self._given = {}, set()
                    selection = self._selection(shows, (), part=part)
                    if _shown_by(field) is not shows:
                        selection = f"{{ __typename ... on {shows.name} {selection} }}"
                    body = f"{name}{self._arguments(root, name, field)} {selection}"
                    used = ", ".join(f"${each}: {of}" for each, of in self._variables.items())
                    if self._turn is None or any(f"({self._turn})" in each for each in self._given):
                        text = f"{kind.value} {f'({used})' if used else ''} {{ {body} }}"
                        yield Document(text, f"{root.name}.{name}", shows.name, frozenset(self._given))

    def _types(self, shown: GraphQLNamedType) -> list[GraphQLNamedType]:
        is_interface = isinstance(shown, GraphQLInterfaceType)
        return list(schema().get_possible_types(shown)) if is_interface else [shown]

    def _parts(self, shown: GraphQLNamedType) -> list[frozenset[str]]:
        """The fields of the type in as many parts as it takes to stay within the bound of a document."""
        if not isinstance(shown, GraphQLObjectType):
            return [frozenset()]
        parts, size = [list[str]()], 0
        for name in shown.fields:
            more = len(re.findall(r"\w+", re.sub(r"\([^)]*\)", "", self._selection(shown, (), part=frozenset({name})))))
            if size + more > MOST_FIELDS:
                parts, size = [*parts, []], 0
            parts[-1].append(name)
            size += more
        return [frozenset(part) for part in parts]

    def _selection(
        self,
        shown: GraphQLNamedType,
        path: tuple[str, ...],
        without: frozenset[str] = frozenset(),
        part: frozenset[str] | None = None,
    ) -> str:
        if not isinstance(shown, GraphQLObjectType):
            return ""
        inner = (*path, shown.name)
        fields = [
            f"{name}{self._arguments(shown, name, field)} "
            + self._selection(_shown_by(field), inner, without | TOO_MUCH.get(name, set()))
            for name, field in shown.fields.items()
            if name not in self._left_out | without and (part is None or name in part)
            if shown.name not in path or self._is_leaf(field)
        ]
        return f"{{ {' '.join(fields)} }}"

    @staticmethod
    def _is_leaf(field: GraphQLField) -> bool:
        return not field.args and not isinstance(_shown_by(field), GraphQLObjectType)

    def _arguments(self, of: GraphQLObjectType, name: str, field: GraphQLField) -> str:
        """Required ones, those that say how much, and the one whose turn it is."""
        given = {
            argument: self._variable(argument, _shown_by(each).name)
            for argument, each in field.args.items()
            if is_required_argument(each)
        }
        given |= {argument: value for argument, value in self.GIVEN.items() if argument in field.args}
        argument, _, _ = (self._turn or "").partition(".")
        if self._turn and argument in field.args and argument not in given and self._fits(field.args[argument]):
            given |= {argument: self._in_its_turn(argument, f"{of.name}.{name}", field)}
        if {"last", "before"} & {*given}:
            given = {each: value for each, value in given.items() if each != "first"} | {"last": "1"}
        self._given |= {f"{of.name}.{name}({self._turn if each == argument else each})" for each in given}
        return f"({', '.join(f'{each}: {value}' for each, value in given.items())})" if given else ""

    def _fits(self, argument: GraphQLArgument) -> bool:
        """Whether the choice whose turn it is is one of this argument, and not of another of its name."""
        assert self._turn is not None
        return self._turn in _turns(self._turn.partition(".")[0], argument)

    def _in_its_turn(self, argument: str, place: str, field: GraphQLField) -> str:
        assert self._turn is not None
        _, _, way = self._turn.partition(".")
        given = field.args[argument]
        if argument in ("after", "before") and _shown_by(field).name.endswith("Connection"):
            return self._variable(cursor_of(argument, place), "String")
        value = self._value(way or argument, _shown_by(_alternatives(given)[way] if way else given))
        return f"{{{way}: {value}}}" if way else value

    def _value(self, name: str, of: GraphQLNamedType) -> str:
        if isinstance(of, GraphQLEnumType):
            return f"[{' '.join(of.values)}]"
        return self.VALUES.get(name) or self._variable(name, of.name)

    def _variable(self, name: str, of: str) -> str:
        self._variables[name] = f"{of}!"
        return f"${name}"


def _shown_by(field: GraphQLField | GraphQLArgument | GraphQLInputField) -> GraphQLNamedType:
    """Its type without what wraps it."""
    return get_named_type(cast("GraphQLNamedType", field.type))  # its type argument is not known
