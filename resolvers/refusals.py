"""Why a request is refused: the closed set of codes, and the exception that carries one. Knows nothing of GraphQL
transports.
"""

from enum import StrEnum
from typing import Any


class ErrorCode(StrEnum):
    """The code of every error that a client can see; `docs/protocol.md` says what to do about each."""

    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"
    BAD_USER_INPUT = "BAD_USER_INPUT"
    CONFLICT = "CONFLICT"
    RATE_LIMITED = "RATE_LIMITED"
    QUERY_TOO_COMPLEX = "QUERY_TOO_COMPLEX"
    CURSOR_INVALID = "CURSOR_INVALID"
    CURSOR_EXPIRED = "CURSOR_EXPIRED"
    MEMBERSHIP_ENDED = "MEMBERSHIP_ENDED"
    SESSION_EXPIRED = "SESSION_EXPIRED"
    GROUP_DELETED = "GROUP_DELETED"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class Refusal(Exception):
    """A request that is not carried out, or a stream that ends: what the client is told, in a sentence and as a stable
    code.
    """

    def __init__(self, code: ErrorCode, message: str, **extensions: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.extensions: dict[str, Any] = {"code": code.value, **extensions}


class Lagging(Refusal):
    """A subscriber that does not keep up; its socket is closed with 1013 and its client resumes from the cursor it
    holds.
    """

    def __init__(self) -> None:
        super().__init__(
            ErrorCode.SERVICE_UNAVAILABLE,
            "This connection reads too slowly. Reconnect and resume after the last cursor you received.",
            retry=True,
        )


def unauthenticated() -> Refusal:
    return Refusal(ErrorCode.UNAUTHENTICATED, "Log in first: send a valid token as 'Authorization: Bearer TOKEN'.")


def bad_input(message: str, **extensions: Any) -> Refusal:
    return Refusal(ErrorCode.BAD_USER_INPUT, message, **extensions)


def conflict(message: str) -> Refusal:
    return Refusal(ErrorCode.CONFLICT, message)


def not_found(what: str) -> Refusal:
    return Refusal(ErrorCode.NOT_FOUND, f"There is no such {what}.")


def unavailable(committed: bool | None = False, **extensions: Any) -> Refusal:
    """`committed` goes to the client only where it is certain that nothing was written."""
    certain = {"committed": False} if committed is False else {}
    advice = (
        "Try again."
        if certain
        else "It is not known whether this was done: repeat it with the same clientMessageId, or look before you "
        "repeat it."
    )
    return Refusal(
        ErrorCode.SERVICE_UNAVAILABLE,
        f"The service is not available right now. {advice}",
        retry=True,
        **certain,
        **extensions,
    )
