"""How errors reach a client: refusals as they are, mistakes of the client as BAD_USER_INPUT, and nothing of anything
else. Knows no SQL.
"""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from graphql import GraphQLError

from db.faults import Unavailable, described
from resolvers.refusals import ErrorCode, Refusal, unavailable

log = structlog.get_logger("parley.errors")

OURS = frozenset({ErrorCode.SERVICE_UNAVAILABLE, ErrorCode.INTERNAL_ERROR})


def refusal_of(error: GraphQLError) -> Refusal | None:
    """The refusal behind an error; None for a mistake in the document or its variables, and for a defect."""
    original = error.original_error
    while isinstance(original, GraphQLError) and original.original_error is not None:
        original = original.original_error
    if isinstance(original, Unavailable):
        return unavailable(original.committed)
    return original if isinstance(original, Refusal) else None


def _is_mistake(error: GraphQLError) -> bool:
    """Syntax, validation and coercion errors have no cause, or another GraphQL error; a field's defect has the
    exception that it was.
    """
    return error.original_error is None or isinstance(error.original_error, GraphQLError)


def code_of(error: GraphQLError) -> ErrorCode:
    refusal = refusal_of(error)
    if refusal is not None:
        return refusal.code
    return ErrorCode.BAD_USER_INPUT if _is_mistake(error) else ErrorCode.INTERNAL_ERROR


def is_fault(error: GraphQLError) -> bool:
    """Whether it is ours and not the client's: an event with such an error is not sent but shown again."""
    return code_of(error) in OURS


def present(error: GraphQLError) -> dict[str, Any]:
    """The error as the client sees it. A defect is logged whole under a correlation id, and only that id goes out."""
    shown: dict[str, Any] = {"message": error.message, "extensions": {"code": ErrorCode.BAD_USER_INPUT.value}}
    if error.locations:
        shown["locations"] = [location.formatted for location in error.locations]
    if error.path:
        shown["path"] = list(error.path)
    refusal = refusal_of(error)
    if refusal is not None:
        return shown | {"message": refusal.message, "extensions": _certain(refusal, error)}
    return shown if _is_mistake(error) else shown | _masked(error)


def _certain(refusal: Refusal, error: GraphQLError) -> Mapping[str, Any]:
    """Below a root field `committed` says nothing: there a read failed, and the mutation above it is done."""
    below = len(error.path or ()) > 1
    return {name: value for name, value in refusal.extensions.items() if not (below and name == "committed")}


def _masked(error: GraphQLError) -> dict[str, Any]:
    correlation_id = uuid.uuid4().hex
    log.error("unexpected_error", correlation_id=correlation_id, **described(error.original_error or error))
    return {
        "message": "Something went wrong on the server.",
        "extensions": {"code": ErrorCode.INTERNAL_ERROR.value, "correlationId": correlation_id},
    }


def present_all(errors: Iterable[GraphQLError]) -> list[dict[str, Any]]:
    return [present(error) for error in errors]


def present_refusal(refusal: Refusal) -> dict[str, Any]:
    return {"message": refusal.message, "extensions": refusal.extensions}
