"""Fields that only show something of their record, and how a selection of them is shown. Knows no SQL.

The event of a message, with its cursor, four fields and its sender's name, took 30 µs up to its JSON, and takes 12 so:
graphql-core looks at the arguments, the path and all that a resolver might ask for before it reads a field.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutine
from typing import Any, TypeAlias

from graphql import (
    GraphQLObjectType,
    Undefined,
    get_nullable_type,  # pyright: ignore[reportUnknownVariableType]  # its wrappers are generic
    is_leaf_type,
    is_non_null_type,  # pyright: ignore[reportUnknownVariableType]  # its wrappers are generic
)

LEAF, BRANCH = "parley-leaf", "parley-branch"
TYPENAME = "__typename"
UNSEEN: Any = object()
"""In place of what is not as it should be, or has to be waited for: graphql-core reads it again, and finds out."""

Details: TypeAlias = list[Any]  # of graphql-core: where one field of the answer is selected
Fields: TypeAlias = Mapping[str, Details]
Below = Callable[[GraphQLObjectType, Details], Fields]
Show = Callable[[Any, Any], Any]
"""What a field shows of a record to whoever asks; UNSEEN, or an exception, for what is left to graphql-core."""
Selection: TypeAlias = list[tuple[str, Details, Show | None]]
"""Each field of a selection; None with those that graphql-core has to execute."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A field that is read from its record without waiting, with what is known of the operation if it `asks` for it."""

    read: Callable[..., Any]
    asks: bool
    is_nullable: bool

    def value(self, source: Any, info: Any) -> Any:
        value = self.read(source, info) if self.asks else self.read(source)
        if value is None and not self.is_nullable:
            return UNSEEN
        return value


@dataclass(frozen=True, slots=True)
class Leaf(Plain):
    """A field with a value of its own."""

    written: Callable[[Any], Any]

    def show(self, source: Any, info: Any) -> Any:
        value = self.value(source, info)
        if value is None or value is UNSEEN:
            return value
        written = self.written(value)
        return UNSEEN if written is None or written is Undefined else written


@dataclass(frozen=True, slots=True)
class Branch(Plain):
    """A field that goes on to another record."""

    kind: GraphQLObjectType

    def reached(self, source: Any, info: Any) -> Any:
        """The other record, or None."""
        value = self.value(source, info)
        if iscoroutine(value):
            value.close()  # it has not begun
            return UNSEEN
        is_of_kind: Any = self.kind.is_type_of
        if value is None or value is UNSEEN or is_of_kind is None or is_of_kind(value, None) is True:
            return value
        return UNSEEN


def mark_plain(definition: Any, read: Callable[..., Any], *, asks: bool) -> None:
    """`read` gives the field's value from its record, and from the `Info` if it `asks`, without doing anything."""
    kind: Any = get_nullable_type(definition.type)  # pyright: ignore[reportUnknownVariableType]
    is_nullable = not is_non_null_type(definition.type)
    if is_leaf_type(kind):
        definition.extensions[LEAF] = Leaf(read, asks, is_nullable, kind.coerce_output_value)
    elif isinstance(kind, GraphQLObjectType):
        definition.extensions[BRANCH] = Branch(read, asks, is_nullable, kind)


def selection(kind: GraphQLObjectType, fields: Fields, below: Below) -> Selection:
    """The fields that are selected on a type; `below` says which are further down."""
    return [(name, details, _show(kind, details, below)) for name, details in fields.items()]


def _show(kind: GraphQLObjectType, details: Details, below: Below) -> Show | None:
    name = details[0].node.name.value
    if name == TYPENAME:
        return partial(_typename, kind.name)
    if name not in kind.fields:
        return None
    extensions: Mapping[str, Any] = kind.fields[name].extensions
    leaf: Leaf | None = extensions.get(LEAF)
    if leaf is not None:
        return leaf.show
    branch: Branch | None = extensions.get(BRANCH)
    if branch is None:
        return None
    parts = [(name, _show(branch.kind, each, below)) for name, each in below(branch.kind, details).items()]
    plain = [(name, show) for name, show in parts if show is not None]
    return _showing(branch, plain) if len(plain) == len(parts) else None


def _typename(name: str, _: Any, __: Any) -> str:
    return name


def _showing(branch: Branch, parts: list[tuple[str, Show]]) -> Show:
    def show(source: Any, info: Any) -> Any:
        reached = branch.reached(source, info)
        if reached is None or reached is UNSEEN:
            return reached
        data: dict[str, Any] = {}
        for name, show_part in parts:
            shown = show_part(reached, info)
            if shown is UNSEEN:
                return UNSEEN
            data[name] = shown
        return data

    return show
