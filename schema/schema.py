"""The schema, put together. Knows no SQL and no transport."""

from datetime import UTC, datetime

import strawberry
from graphql import GraphQLError, GraphQLSchema, build_schema, lexicographic_sort_schema, print_schema
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from .documents import Documents
from .enums import ErrorCode
from .events import GROUP_EVENT_TYPES
from .mutation import Mutation
from .query import Query
from .subscription import Subscription


def _write_moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


DATE_TIME = strawberry.scalar(
    name="DateTime",
    description="A moment: RFC 3339 in UTC, always with six fractional digits and Z.",
    specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
    serialize=_write_moment,
    parse_value=datetime.fromisoformat,
)


class Schema(strawberry.Schema):
    """Strawberry's schema; errors are logged where they are presented, and only those that are defects."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        pass

    @property
    def core(self) -> GraphQLSchema:
        return self._schema


schema = Schema(
    Query,
    Mutation,
    Subscription,
    types=[*GROUP_EVENT_TYPES, ErrorCode],
    extensions=[Documents],
    config=StrawberryConfig(scalar_map={datetime: DATE_TIME}),
)


def sdl() -> str:
    """The whole schema, sorted: what `graphql/schema.graphql` holds. Sorting the served schema would lose the enums'
    Python values.
    """
    return print_schema(lexicographic_sort_schema(build_schema(schema.as_str()))) + "\n"
