"""The schema, put together. Knows no SQL and no transport."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import strawberry
from graphql import (
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    build_schema,
    lexicographic_sort_schema,
    print_schema,
)
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from .context import Context
from .documents import Prepared
from .enums import ErrorCode
from .events import GROUP_EVENT_TYPES
from .execution import Recall, Request, execute, follow
from .mutation import Mutation
from .query import Query
from .resolving import check_one_of, prepare_resolvers
from .subscription import Subscription


def _write_moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _read_moment(value: object) -> datetime:
    """Any offset will do, but one has to be there: what it would mean without one nobody can know."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise GraphQLError("DateTime must be RFC 3339 with an offset, such as 2026-05-01T12:00:00Z.")


DATE_TIME = strawberry.scalar(
    name="DateTime",
    description="A moment: RFC 3339 in UTC, always with six fractional digits and Z.",
    specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
    serialize=_write_moment,
    parse_value=_read_moment,
)


DESCRIPTION = """\
Group chat. What happens in a group is an event of its log: numbered, in one order for everybody, and kept for ever.

1. `register` or `login` gives a token. Send it as `Authorization: Bearer TOKEN`; on a socket, as `authorization` in the
payload of `connection_init`.
2. `createGroup` makes a group, `addMember` brings people in, `myGroups` lists your groups.
3. `sendGroupMessage` sends. With a `clientMessageId` of your own a retry never makes a second message.
4. `groupMessages` follows a group. Subscribe with the `headCursor` that came with the messages, and after a lost
connection with the `cursor` of the last event: nothing is missed, and nothing comes twice.
5. `myGroupEvents` follows your list of groups, on all your devices. Ask a `Group` for what is unread; `markGroupRead`
moves that.
6. Edits, deletions and reactions are events of the same stream: of two copies of a message keep the higher `version`.
`replyToId` makes a thread, and `@username` a mention.

A refusal is an error whose `extensions.code` is an `ErrorCode`."""


class Schema(strawberry.Schema):
    """Strawberry's schema; errors are logged where they are presented, and only those that are defects."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        pass

    @property
    def core(self) -> GraphQLSchema:
        return self._schema

    def request(self, prepared: Prepared, variables: Mapping[str, Any] | None, context: Context) -> Request:
        return Request(self._schema, prepared.document, prepared.operation, prepared.plan, variables, context)

    async def answer(
        self, prepared: Prepared, variables: Mapping[str, Any] | None, context: Context
    ) -> ExecutionResult:
        """Execute a query or a mutation that was prepared.

        `execute` would do it behind hooks for parsing and validating, of which nothing is left here: 40 µs.
        """
        try:
            return await execute(self.request(prepared, variables, context))
        except Exception as error:  # noqa: BLE001  # a fault outside of any field is an error of the whole operation
            return _faulty(error)

    async def follow(
        self, prepared: Prepared, variables: Mapping[str, Any] | None, context: Context, recall: Recall | None = None
    ) -> AsyncGenerator[ExecutionResult, None]:
        """Execute a subscription that was prepared: a result for each event, and one for the refusal that ends it."""
        try:
            async with aclosing(follow(self.request(prepared, variables, context), recall)) as results:
                async for result in results:
                    yield result
        except Exception as error:  # noqa: BLE001  # as above
            yield _faulty(error)


def _faulty(error: Exception) -> ExecutionResult:
    return ExecutionResult(None, [GraphQLError(str(error), original_error=error)])


schema = Schema(
    Query,
    Mutation,
    Subscription,
    types=[*GROUP_EVENT_TYPES, ErrorCode],
    config=StrawberryConfig(scalar_map={datetime: DATE_TIME}),
)
prepare_resolvers(schema.core)
check_one_of(schema.core)


# Strawberry has no argument for it, and does not print it. GraphiQL shows it above the list of types.
schema.core.description = DESCRIPTION


def sdl() -> str:
    """The whole schema, sorted: what `graphql/schema.graphql` holds. Sorting the served schema would lose the enums'
    Python values.
    """
    printed = build_schema(schema.as_str())
    printed.description = schema.core.description
    return print_schema(lexicographic_sort_schema(printed)) + "\n"
