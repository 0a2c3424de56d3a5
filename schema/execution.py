"""How a document is executed: as graphql-core does, without finding out again what is the same each time. Knows no SQL.

A send took 62 µs in graphql-core. Half of that went into which fields a selection has, which depends on the document
alone, and into all that a resolver might ask for, at fields that only show something of their record.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphql import (
    DocumentNode,
    ExecutionResult,
    Executor,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
    Visitor,
    get_nullable_type,  # pyright: ignore[reportUnknownVariableType]  # its wrappers are generic
    is_leaf_type,
    visit,
)
from strawberry.execution.is_awaitable import optimized_is_awaitable

LEAF = "parley-leaf"
TYPENAME = "__typename"

Details: TypeAlias = list[Any]  # of graphql-core: where one field of the answer is selected
Fields: TypeAlias = dict[str, Details]


class Plan:
    """Which fields the selections of a document have on which type; it lives as long as the document is remembered.

    With a directive in it (`@skip`, `@include`) that differs from request to request, and nothing is remembered.
    """

    def __init__(self, document: DocumentNode) -> None:
        directives = _Directives()
        visit(document, directives)
        self.is_fixed = not directives.found
        self.roots: dict[int, Fields] = {}
        self.below: dict[tuple[GraphQLObjectType, int], tuple[Details, Any]] = {}


class _Directives(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def enter_directive(self, *_: object) -> None:
        self.found = True


@dataclass(frozen=True, slots=True)
class Leaf:
    """A field that shows something of its record and needs nothing else for it."""

    read: Callable[[Any], Any]
    written: Callable[[Any], Any]

    def shown(self, source: Any) -> Any:
        """None for null, and for whatever is not as it should be: the plain way finds out which."""
        try:
            value = self.read(source)
            written = None if value is None else self.written(value)
            return None if written is Undefined else written
        except Exception:  # noqa: BLE001  # the plain way reads it again, and tells it as an error of the field
            return None


def mark_leaf(definition: Any, read: Callable[[Any], Any]) -> None:
    """`read` gives the field's value from its record, without waiting and without doing anything."""
    kind: Any = get_nullable_type(definition.type)  # pyright: ignore[reportUnknownVariableType]
    if is_leaf_type(kind) and not definition.args:
        definition.extensions[LEAF] = Leaf(read, kind.coerce_output_value)


class Planned(Executor[Any]):
    """graphql-core's executor with the plan of its document. Whatever is not plain is left to graphql-core."""

    def __init__(self, *arguments: Any, plan: Plan | None = None, **more: Any) -> None:
        super().__init__(*arguments, **more)  # pyright: ignore[reportUnknownMemberType]
        self._plan = plan if plan is not None and plan.is_fixed else None

    def execute_collected_root_fields(
        self,
        root_type: GraphQLObjectType,
        root_value: Any,
        grouped_field_set: Fields,
        serially: bool,
        new_defer_usages: Sequence[Any],
    ) -> Any:
        if self._plan is not None:
            grouped_field_set = self._plan.roots.setdefault(id(self.operation), grouped_field_set)
        return super().execute_collected_root_fields(
            root_type, root_value, grouped_field_set, serially, new_defer_usages
        )

    def collect_subfields(self, return_type: GraphQLObjectType, field_details_list: Details) -> Any:
        if self._plan is None:
            return super().collect_subfields(return_type, field_details_list)
        key = return_type, id(field_details_list)
        known = self._plan.below.get(key)
        if known is None:
            collected = super().collect_subfields(return_type, field_details_list)
            # With the list itself, so that its id stays its own.
            known = self._plan.below[key] = field_details_list, collected
        return known[1]

    def execute_field(
        self,
        parent_type: GraphQLObjectType,
        source: Any,
        field_details_list: Details,
        path: Any,
        position_context: Any,
    ) -> Any:
        name = field_details_list[0].node.name.value
        if name == TYPENAME:
            return parent_type.name
        definition = parent_type.fields.get(name)
        leaf: Leaf | None = definition.extensions.get(LEAF) if definition else None
        if leaf is not None and (shown := leaf.shown(source)) is not None:
            return shown
        return super().execute_field(parent_type, source, field_details_list, path, position_context)


async def execute(
    schema: GraphQLSchema,
    document: DocumentNode,
    plan: Plan,
    operation_name: str | None,
    variables: Mapping[str, Any] | None,
    context: Any,
) -> ExecutionResult:
    """The answer of a query or a mutation; without data where the variables are not what the document says."""
    build: Any = Planned.build  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    executor: Planned | list[GraphQLError] = build(
        schema,
        document,
        context_value=context,
        raw_variable_values=dict(variables or {}),
        operation_name=operation_name,
        is_awaitable=optimized_is_awaitable,
        plan=plan,
    )
    if isinstance(executor, list):
        return ExecutionResult(None, executor)
    result: Any = executor.execute_operation()
    return result if isinstance(result, ExecutionResult) else await result
