"""The life of a socket's log-in: it ends with its token, on every node. Knows nothing of sockets.

The end of a token is a row of its user's log, so a process hears it as it hears everything else; expiry needs no row.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from db.records import UserEvent, UserEventKind
from delivery.events import Event
from delivery.feed import EndReason
from delivery.stream import Seat

from .following import end_of, fault, steadily
from .reader import user_log
from .refusals import ErrorCode, Refusal
from .services import Services
from .users import Session, ended_token

LONGEST_TIMER_SECONDS = 24 * 60 * 60


def session_expired() -> Refusal:
    return Refusal(
        ErrorCode.SESSION_EXPIRED, "The session of this connection has ended. Log in and connect again.", retry=False
    )


class SessionWatch:
    """Calls `ended` once with the reason: the token was ended or expired (SESSION_EXPIRED), or its log cannot be read
    (SERVICE_UNAVAILABLE).
    """

    __slots__ = ("_ended", "_seat", "_services", "_session", "_timer")

    def __init__(self, services: Services, session: Session, ended: Callable[[Refusal], None]) -> None:
        self._services = services
        self._session = session
        self._ended = ended
        self._seat: Seat | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def begin(self) -> None:
        """Watch from the moment that the token was read on. Raises SERVICE_UNAVAILABLE."""
        user = self._session.viewer.user
        seats = await steadily(lambda: self._services.streams.seats([user_log(user.id)], user.id, self))
        if not seats:
            raise end_of(fault())
        self._seat = seats[0]
        await steadily(lambda: seats[0].begin_from(user.head_seq))
        if self._ended is not _nobody:
            self._check_expiry()

    def _check_expiry(self) -> None:
        remaining = (self._session.expires_at - datetime.now(UTC)).total_seconds()
        if remaining <= 0:
            self._end(session_expired())
        else:
            wait = min(remaining, LONGEST_TIMER_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(wait, self._check_expiry)

    def take(self, event: Event) -> None:
        own: UserEvent = event.fact
        if own.kind is UserEventKind.TOKEN_ENDED and ended_token(own.data) == self._session.viewer.token_id:
            self._end(session_expired())

    def end(self, reason: EndReason) -> None:  # noqa: ARG002  # every reason is a fault to a session
        self._end(end_of(fault()))

    def _end(self, refusal: Refusal) -> None:
        if self._ended is not _nobody:
            ended, self._ended = self._ended, _nobody
            self.stop()
            ended(refusal)

    def stop(self) -> None:
        self._ended = _nobody
        if self._seat is not None:
            self._seat.leave()
            self._seat = None
        if self._timer is not None:
            self._timer.cancel()


def _nobody(_: Refusal) -> None:
    """A watch that is over tells nobody."""
