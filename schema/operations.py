"""One log line for each operation: its name, its kind, its code and its milliseconds. Never a token, a variable or
content.
"""

import time
from collections.abc import Iterable

import structlog
from graphql import GraphQLError
from structlog.typing import FilteringBoundLogger

from resolvers.refusals import ErrorCode

from .documents import Prepared
from .errors import code_of

LONGEST_NAME = 64


def log_of(transport: str) -> FilteringBoundLogger:
    """Where the lines of one endpoint's operations go. To put a logger together for each line took a fifth of it."""
    return structlog.get_logger("parley.operations").bind(transport=transport)


class OperationLine:
    """The line of one operation, written once at its end."""

    __slots__ = ("_began", "_code", "_is_stream", "_kind", "_log", "_name", "events")

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._began = time.perf_counter()
        self._name: str | None = None
        self._kind: str | None = None
        self._code = "OK"
        self._is_stream = False
        self.events = 0

    @property
    def may_have_written(self) -> bool:
        """Whether a mutation was begun."""
        return self._kind == "mutation"

    def started(self, prepared: Prepared) -> None:
        operation = prepared.operation
        self._name = operation.name.value[:LONGEST_NAME] if operation.name else None
        self._kind = operation.operation.value
        self._is_stream = prepared.is_subscription

    def failed(self, code: ErrorCode) -> None:
        self._code = code.value

    def errors(self, errors: Iterable[GraphQLError]) -> None:
        """The first error names the line."""
        for error in errors:
            self.failed(code_of(error))
            return

    def write(self) -> None:
        milliseconds = round((time.perf_counter() - self._began) * 1000, 1)
        more = {"events": self.events} if self._is_stream else {}
        self._log.info("operation", kind=self._kind, name=self._name, code=self._code, ms=milliseconds, **more)
