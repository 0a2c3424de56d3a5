"""Events that were shown to somebody who catches up, for whoever asks for the same a moment later. Knows no SQL and no
socket.

After a restart everybody comes back at once from nearby positions: 1,000 subscribers that missed the same 20 messages
would execute 20,000 events, 0.3 ms each.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from graphql import ExecutionResult

from db.records import Message, User
from resolvers.access import EventDoor
from resolvers.following import Following
from resolvers.reader import Shown

from .cohorts import Asked, Question
from .types import GroupMessageEvent

REMEMBERED = 2_000
SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Answer:
    data: dict[str, Any]
    message: Message | None
    people: tuple[User | None, ...]
    head_seq: int
    seen: int


class Replays:
    """The answers of one process, until all of them are let go of together, SECONDS after the first: with a selection
    of many objects 2,000 of them are hundreds of megabytes.

    An answer is given again only to whoever would be shown the same: everybody is judged by themselves, and the message
    and the people that were read for them have to be those of the answer. What was read for it was read under
    permissions that they have passed.
    """

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[Question, UUID, int], _Answer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def recall(self, asked: Asked, fact: Shown) -> dict[str, Any] | None:
        answer = self._answers.get((asked.question, fact.event.group_id, fact.event.seq))
        if answer is None or answer.seen > fact.group.access_seq:
            return None
        if asked.shared.of_group and answer.head_seq != fact.group.head_seq:
            return None
        return answer.data if (answer.message, answer.people) == (fact.message, _people(fact)) else None

    def keep(self, asked: Asked, fact: Shown, seen: int, data: dict[str, Any]) -> None:
        """`seen`: how new the permissions were that anything of it was read under."""
        key = asked.question, fact.event.group_id, fact.event.seq
        if not self._answers:
            asyncio.get_running_loop().call_later(SECONDS, self._answers.clear)
        self._answers[key] = _Answer(data, fact.message, _people(fact), fact.group.head_seq, seen)
        self._answers.move_to_end(key)
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)


def _people(fact: Shown) -> tuple[User | None, ...]:
    named = fact.event.actor_id, fact.message.sender_id if fact.message else None
    return tuple(fact.people.get(user_id) if user_id else None for user_id in named)


class Replaying:
    """One operation that catches up."""

    def __init__(self, replays: Replays, asked: Asked) -> None:
        self._replays = replays
        self._asked = asked
        self._fact: Shown | None = None

    def recall(self, event: GroupMessageEvent) -> ExecutionResult | None:
        """The result for the event, where somebody was shown it."""
        data = self._replays.recall(self._asked, event.fact)
        self._fact = event.fact if data is None else None
        return ExecutionResult(data, None) if data is not None else None

    def keep(self, following: Following[Any], result: ExecutionResult) -> None:
        """The result that was sent just now, unless it was recalled."""
        if self._fact is not None and result.data is not None and not result.errors:
            assert isinstance(following.door, EventDoor)
            self._replays.keep(self._asked, self._fact, following.door.seen, result.data)
