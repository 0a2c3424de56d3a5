"""How a document is executed: as graphql-core does, without finding out again what is the same each time. Knows no SQL.

A send took 62 µs in graphql-core. Half of that went into which fields a selection has, which depends on the document
alone, and into all that a resolver might ask for, at fields that only show something of their record.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from graphql import (
    DocumentNode,
    ExecutionResult,
    Executor,
    GraphQLError,
    GraphQLObjectType,
    GraphQLResolveInfoHelpers,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    Undefined,
    Visitor,
    coerce_input_value,  # pyright: ignore[reportUnknownVariableType]  # its types are generic
    create_source_event_stream,  # pyright: ignore[reportUnknownVariableType]  # executors are generic
    is_non_null_type,  # pyright: ignore[reportUnknownVariableType]  # its wrappers are generic
    visit,
)
from graphql.execution.executor import CollectedErrors
from graphql.execution.values import VariableValues, VariableValueSource, get_argument_values
from graphql.pyutils import Path, gather_with_cancel
from strawberry import Info
from strawberry.execution.is_awaitable import optimized_is_awaitable

from .context import Context
from .plain import BRANCH, UNSEEN, Branch, Details, Selection, Show, selection
from .resolving import Later
from .sharing import Sharing

Recall = Callable[[Any], ExecutionResult | None]
Fields: TypeAlias = dict[str, Details]
Kind: TypeAlias = Any  # its types, whose wrappers are generic


class Plan:
    """What is known of a document once it was executed; it lives as long as the document is remembered.

    `executors`: for each operation one to begin the next from, without a context. `roots` and `below`: which fields are
    selected on which type, and `selections` how they are shown; with a directive (`@skip`, `@include`) that differs
    from request to request, and is not remembered. `sharing`: with whom the events of each operation may be shared.
    """

    def __init__(self, document: DocumentNode) -> None:
        directives = _Directives()
        visit(document, directives)
        self.is_fixed = not directives.found
        self.executors: dict[int, Planned] = {}
        self.sharing: dict[int, Sharing | None] = {}
        self.roots: dict[int, Fields] = {}
        self.below: dict[tuple[GraphQLObjectType, int], tuple[Details, Any]] = {}
        self.selections: dict[int, tuple[Fields, Selection]] = {}


class _Directives(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.found = False

    def enter_directive(self, *_: object) -> None:
        self.found = True


@dataclass(frozen=True, slots=True)
class _Known:
    """What a plain field may know of its operation, in place of all that graphql-core tells a resolver."""

    context: Any


class Planned(Executor[Any]):
    """graphql-core's executor with the plan of its document. Whatever is not plain is left to graphql-core."""

    def __init__(self, *arguments: Any, plan: Plan | None = None, **more: Any) -> None:
        super().__init__(*arguments, **more)  # pyright: ignore[reportUnknownMemberType]
        self._plan = plan if plan is not None and plan.is_fixed else None
        self._info = _info(self.context_value)

    def again(self, context: Any, variable_values: VariableValues, root_value: Any = None) -> "Planned":
        """An executor of the same operation: to build one from the document takes 35 µs, this 3."""
        executor = object.__new__(Planned)
        executor.__dict__.update(self.__dict__)
        executor.context_value = context
        executor.variable_values = variable_values
        executor.root_value = root_value
        executor.collected_errors = CollectedErrors()
        executor.pending_incremental_futures = set()
        executor.background_futures = set()
        executor._relevant_sub_fields = {}
        executor._info = _info(context)
        return executor

    def without_request(self) -> "Planned":
        """One to begin others from, which holds nothing of the request that this one is for."""
        sources = {name: VariableValueSource(each.signature) for name, each in self.variable_values.sources.items()}
        executor = self.again(None, VariableValues(sources, {}))
        executor.async_helpers = GraphQLResolveInfoHelpers(executor.gather_async_work, executor.track_async_work)
        return executor

    def build_per_event_executor(self, payload: Any) -> "Planned":
        return self.again(self.context_value, self.variable_values, payload)

    def coerced(self, given: Mapping[str, Any]) -> VariableValues | None:
        """The values of the operation's variables; None where graphql-core has to look: a default, or a mistake."""
        sources: dict[str, VariableValueSource] = {}
        coerced: dict[str, Any] = {}
        for name, known in self.variable_values.sources.items():
            signature = known.signature
            kind: Any = signature.type  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # generic
            if name not in given:
                if signature.default is not None or is_non_null_type(kind):
                    return None
                sources[name] = VariableValueSource(signature)
                continue
            try:
                coerced[name] = coerce_input_value(given[name], kind)
            except RecursionError:
                return None
            if coerced[name] is Undefined:
                return None
            sources[name] = VariableValueSource(signature, given[name])
        return VariableValues(sources, coerced)

    async def answer(self) -> ExecutionResult:
        """What `execute_operation` does, in one coroutine instead of five, once the root fields are known."""
        fields = self._plan.roots.get(id(self.operation)) if self._plan is not None else None
        root: GraphQLObjectType | None = self.schema.get_root_type(self.operation.operation)
        if fields is None or root is None:
            return await _settled(self.execute_operation(serially=self._is_serial))
        try:
            data = await (self._one_by_one(root, fields) if self._is_serial else self._at_once(root, fields))
        except GraphQLError as error:
            self.collected_errors.add(error, None)
            data = None
        return ExecutionResult(data, self.collected_errors.errors or None)

    @property
    def _is_serial(self) -> bool:
        return self.operation.operation is OperationType.MUTATION

    async def _one_by_one(self, root: GraphQLObjectType, fields: Fields) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name, details in fields.items():
            value = await self._root_field(root, details, Path(None, name, root.name))
            if value is not Undefined:
                data[name] = value
        return data

    async def _root_field(self, root: GraphQLObjectType, details: Details, path: Path) -> Any:
        """As `execute_field`, in one coroutine instead of three."""
        node = details[0].node
        definition = root.fields.get(node.name.value)
        if definition is None or definition.resolve is None:
            return await _settled(self.execute_field(root, self.root_value, details, path, None))
        if isinstance(self.context_value, Context):
            self.context_value.begin_mutation()
        core: Any = self  # whose types are generic
        info = core.build_resolve_info(definition, [each.node for each in details], root, path)
        try:
            arguments = get_argument_values(definition, node, self.variable_values, details[0].fragment_variable_values)
            found = await _settled(definition.resolve(self.root_value, info, **arguments))
            return await _settled(core.complete_value(definition.type, details, info, path, found, None))
        except Exception as error:  # noqa: BLE001  # the field's error
            return self._failed(error, definition.type, details, path)

    async def _at_once(self, root: GraphQLObjectType, fields: Fields) -> dict[str, Any]:
        return await _settled(self.execute_fields(root, self.root_value, None, fields, None))

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

    def execute_fields(
        self,
        parent_type: GraphQLObjectType,
        source_value: Any,
        path: Any,
        grouped_field_set: Fields,
        position_context: Any,
    ) -> Any:
        """As graphql-core does, in the same order; what has to be waited for begins when it is waited for."""
        if self._plan is None:
            return super().execute_fields(parent_type, source_value, path, grouped_field_set, position_context)
        data: dict[str, Any] = {}
        waiting: list[str] = []
        try:
            for name, details, show in self._selected(parent_type, grouped_field_set):
                shown = UNSEEN if show is None else self._shown(show, source_value)
                if shown is UNSEEN:
                    at = Path(path, name, parent_type.name)
                    shown = self.execute_field(parent_type, source_value, details, at, position_context)
                    if optimized_is_awaitable(shown):
                        waiting.append(name)
                if shown is not Undefined:
                    data[name] = shown
        except Exception:
            if waiting:
                self.settle_in_background([data[name] for name in waiting])
            raise
        return Later(partial(_completed, data, waiting)) if waiting else data

    def _shown(self, show: Show, source: Any) -> Any:
        try:
            return show(source, self._info)
        except Exception:  # noqa: BLE001  # graphql-core reads it again, and tells it as an error of the field
            return UNSEEN

    def complete_awaitable_value(
        self, return_type: Kind, field_details_list: Details, info: Any, path: Any, result: Any, position_context: Any
    ) -> Any:
        complete: Any = super().complete_awaitable_value  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return Later(partial(complete, return_type, field_details_list, info, path, result, position_context))

    def _selected(self, kind: GraphQLObjectType, fields: Fields) -> Selection:
        assert self._plan is not None
        known = self._plan.selections.get(id(fields))
        if known is None:
            made = selection(kind, fields, lambda kind, details: self.collect_subfields(kind, details)[0])
            # With the fields themselves, so that their id stays their own.
            known = self._plan.selections[id(fields)] = fields, made
        return known[1]

    def execute_field(
        self,
        parent_type: GraphQLObjectType,
        source: Any,
        field_details_list: Details,
        path: Any,
        position_context: Any,
    ) -> Any:
        definition = parent_type.fields.get(field_details_list[0].node.name.value)
        branch: Branch | None = definition.extensions.get(BRANCH) if definition is not None else None
        if definition is not None and branch is not None and not branch.asks:
            reached = self._shown(branch.reached, source)
            if reached is not None and reached is not UNSEEN:
                kind: Kind = definition.type
                return self._below(branch.kind, reached, kind, field_details_list, path)
        if parent_type is self.schema.mutation_type and isinstance(self.context_value, Context):
            self.context_value.begin_mutation()
        return super().execute_field(parent_type, source, field_details_list, path, position_context)

    def _below(self, kind: GraphQLObjectType, source: Any, return_type: Kind, details: Details, path: Any) -> Any:
        try:
            data: Any = self.collect_and_execute_subfields(kind, details, path, source, None)
        except Exception as error:  # noqa: BLE001  # the field's error
            return self._failed(error, return_type, details, path)
        return Later(partial(self._guarded, data, return_type, details, path)) if optimized_is_awaitable(data) else data

    async def _guarded(self, data: Awaitable[Any], return_type: Kind, details: Details, path: Any) -> Any:
        try:
            return await data
        except Exception as error:  # noqa: BLE001  # the field's error
            return self._failed(error, return_type, details, path)

    def _failed(self, error: Exception, return_type: Kind, details: Details, path: Any) -> None:
        """The field is null. Raises where it may not be."""
        self.handle_field_error(error, return_type, details, path)  # pyright: ignore[reportUnknownMemberType]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be executed: one operation of a document that was prepared, with the variables of a client."""

    schema: GraphQLSchema
    document: DocumentNode
    operation: OperationDefinitionNode
    plan: Plan
    variables: Mapping[str, Any] | None
    context: Any

    def executor(self) -> "Planned | ExecutionResult":
        """The result without data where the variables are not what the document says."""
        known = self.plan.executors.get(id(self.operation))
        if known is not None and (values := known.coerced(self.variables or {})) is not None:
            return known.again(self.context, values)
        built = self._built()
        if isinstance(built, list):
            return ExecutionResult(None, built)
        self.plan.executors[id(self.operation)] = built.without_request()
        return built

    def _built(self) -> "Planned | list[GraphQLError]":
        build: Any = Planned.build  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return build(
            self.schema,
            self.document,
            context_value=self.context,
            raw_variable_values=dict(self.variables or {}),
            operation_name=self.operation.name.value if self.operation.name else None,
            is_awaitable=optimized_is_awaitable,
            plan=self.plan,
        )


async def execute(request: Request) -> ExecutionResult:
    """The answer of a query or a mutation."""
    executor = request.executor()
    return executor if isinstance(executor, ExecutionResult) else await executor.answer()


async def follow(request: Request, recall: Recall | None = None) -> AsyncGenerator[ExecutionResult, None]:
    """The events of a subscription; `recall` gives the results that need not be made. Raises what its source raises."""
    executor = request.executor()
    if isinstance(executor, ExecutionResult):
        yield executor
        return
    source: Any = await _settled(create_source_event_stream(executor))
    if isinstance(source, ExecutionResult):
        yield source
        return
    async with aclosing(source) as events:
        async for event in events:
            yield (recall(event) if recall else None) or await executor.build_per_event_executor(event).answer()


def shown(request: Request) -> Callable[[Any], Awaitable[ExecutionResult]]:
    """How the events of a subscription are shown whose source is somewhere else."""
    executor = request.executor()
    assert isinstance(executor, Planned), "it was followed with these variables before"
    return lambda event: executor.build_per_event_executor(event).answer()


def _info(context: Any) -> Any:
    known: Any = _Known(context)
    unknown: Any = None
    return Info(known, unknown)


async def _completed(data: dict[str, Any], waiting: list[str]) -> dict[str, Any]:
    if len(waiting) == 1:
        data[waiting[0]] = await data[waiting[0]]
    else:
        found = await gather_with_cancel(*(data[name] for name in waiting))
        data.update(zip(waiting, found, strict=True))
    return data


async def _settled(result: Any) -> Any:
    return await result if optimized_is_awaitable(result) else result
