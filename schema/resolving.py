"""Resolvers as graphql-core calls them, put together once for each field instead of once for each call. Knows no SQL.

Strawberry looks up the names, types and parameters of a resolver anew whenever it calls it: about half of the 92 µs of
executing a send. What it finds is known when the schema is made.
"""

from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import MISSING
from functools import partial
from operator import attrgetter
from typing import Any, TypeAlias

from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLObjectType,
    GraphQLSchema,
)
from strawberry import Info
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.base import StrawberryMaybe

from .plain import mark_plain

Convert = Callable[[Any], Any]
Resolve = Callable[..., Any]
Kind: TypeAlias = Any  # graphql-core's input types, whose wrappers are generic
Converts = Mapping[str, tuple[str, Convert | None]]
OWN = GraphQLCoreConverter.DEFINITION_BACKREF


def prepare_resolvers(core: GraphQLSchema) -> None:
    """Let every field that needs nothing more of Strawberry call our function itself. Streams stay as they are: what
    they show is what their source gave, whatever their arguments are.
    """
    for kind in core.type_map.values():
        if isinstance(kind, GraphQLObjectType) and OWN in kind.extensions:
            for field in kind.fields.values():
                if kind is core.subscription_type:
                    mark_plain(field, _itself, asks=False)
                else:
                    _prepare(field)


def check_one_of(core: GraphQLSchema) -> None:
    """Let graphql-core know of `@oneOf`, so that a document that breaks it is refused before it is executed: Strawberry
    looks at it when it reads the values.
    """
    for kind in core.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            kind.is_one_of = kind.extensions[OWN].is_one_of


def _prepare(field: GraphQLField) -> None:
    if (found := _reading(field.extensions[OWN])) is not None:
        read, asks = found
        mark_plain(field, read, asks=asks)
        if not asks:
            field.resolve = partial(_alone, read)
            return
    field.resolve = prepared(field) or field.resolve


def _itself(event: Any) -> Any:
    return event


def _alone(read: Convert, source: Any, _: Any) -> Any:
    return read(source)


def _reading(own: Any) -> tuple[Resolve, bool] | None:
    """What gives the field's value from its record, and whether it asks for the `Info` as well: an attribute, or a
    method of nothing but `self`, or of `self` and `info`.
    """
    resolver = own.base_resolver
    if own.extensions:
        return None
    if resolver is None:
        return attrgetter(own.python_name), False
    names = [parameter.name for parameter in resolver.signature.parameters.values()]
    if resolver.is_async or names not in (["self"], ["self", "info"]):
        return None
    return resolver.wrapped_func, "info" in names


def prepared(field: Any) -> Resolve | None:
    """None for a field with what only Strawberry knows how to do: extensions, permissions, and other parameters than
    `self`, `info` and arguments.
    """
    own: Any = field.extensions[OWN]  # a StrawberryField
    resolver = own.base_resolver
    if own.extensions or resolver is None or resolver.self_parameter is None or resolver.info_parameter is None:
        return None
    if resolver.root_parameter is not None or resolver.parent_parameter is not None:
        return None
    function: Resolve = resolver.wrapped_func
    info_name = resolver.info_parameter.name
    try:
        converts = {name: _named(argument.extensions[OWN], argument.type) for name, argument in field.args.items()}
    except NotImplementedError:
        return None

    def resolve(source: Any, info: Any, **given: Any) -> Any:
        return function(source, **{info_name: Info(info, own)}, **_converted(converts, given))

    return (lambda *source, **given: Later(partial(resolve, *source, **given))) if resolver.is_async else resolve


class Later:
    """What an async resolver gives, called when it is waited for. graphql-core drops what lies below a null, also
    before it has begun, and Python tells of each coroutine that was dropped so.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self._call = call

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._call().__await__()


def _named(own: Any, kind: Kind) -> tuple[str, Convert | None]:
    """The Python name of an argument or an input's field, and what becomes of its value."""
    if isinstance(own.type, StrawberryMaybe):
        raise NotImplementedError
    return own.python_name, _conversion(kind)


def _conversion(kind: Kind) -> Convert | None:
    """None for leaves: graphql-core has made them what they are."""
    if isinstance(kind, GraphQLInputObjectType):
        return _input(kind)
    inner = getattr(kind, "of_type", None)  # of a list, or of what may not be null
    if inner is None:
        return None
    return partial(_list, _conversion(inner)) if isinstance(kind, GraphQLList) else _conversion(inner)


def _input(kind: GraphQLInputObjectType) -> Convert:
    own: Any = kind.extensions[OWN]
    if own.from_input is not None:
        raise NotImplementedError
    converts = {name: _named(field.extensions[OWN], field.type) for name, field in kind.fields.items()}
    absent = {
        field.python_name: None
        for field in own.fields
        if field.default_value is MISSING and field.default_factory is MISSING
    }
    return lambda given: own.origin(**absent | _converted(converts, given))


def _converted(converts: Converts, given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in given.items():
        python_name, convert = converts[name]
        values[python_name] = value if convert is None or value is None else convert(value)
    return values


def _list(convert: Convert | None, values: list[Any]) -> list[Any]:
    """Always a copy: graphql-core gives one default to every request."""
    return list(values) if convert is None else [None if value is None else convert(value) for value in values]
