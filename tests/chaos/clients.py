"""People of a run: they send, follow, poll and change memberships, retry and resume as clients should, and write down
everything that they saw. Know no fault and no checker.
"""

import asyncio
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.history import History
from tests.chaos.wire import Answer, Caller, Place
from tests.harness import Json, operation

PASSWORD = "correct horse battery"
SEND = """mutation ($input: SendGroupMessageInput!) {
  sendGroupMessage(input: $input) { replayed message { id seq clientMessageId } } }"""
START = "query ($id: ID!) { group(id: $id) { startCursor headCursor } }"

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25
OVER = frozenset({"MEMBERSHIP_ENDED", "GROUP_DELETED", "SESSION_EXPIRED", "FORBIDDEN", "NOT_FOUND", "UNAUTHENTICATED"})


@dataclass
class Person:
    """A registered user with one token."""

    name: str
    id: str
    username: str
    token: str


@dataclass(frozen=True, slots=True)
class Position:
    """What a client holds: the cursor, and for the history the number and the message that it stands behind."""

    cursor: str
    seq: int = 0
    message_id: str = ""


def pauses() -> "itertools.chain[float]":
    """What a client waits between attempts: growing, with jitter."""
    growing = (FIRST_PAUSE * 2**n for n in range(4))
    return itertools.chain(
        (random.uniform(pause / 2, pause) for pause in growing),
        (random.uniform(LONGEST_PAUSE / 2, LONGEST_PAUSE) for _ in itertools.count()),
    )


class Desk:
    """Where somebody asks: a connection to each place, and the next place after one that gave no answer."""

    def __init__(self, places: Sequence[Place], home: int = 0) -> None:
        self.places = places
        self._callers = [Caller(place) for place in places]
        self._number = home % len(places)

    @property
    def place(self) -> Place:
        return self.places[self._number]

    def move(self) -> None:
        self._number = (self._number + 1) % len(self.places)

    async def ask(self, document: str, variables: Mapping[str, Any], token: str | None) -> Answer:
        return await self._callers[self._number].run(document, variables, token)

    async def ask_until_answered(self, document: str, variables: Mapping[str, Any], token: str | None = None) -> Answer:
        """For what is not part of the history: set up, look after. Moves on until something is definite."""
        for pause in pauses():
            answer = await self.ask(document, variables, token)
            if answer.kind != "unknown":
                return answer
            self.move()
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def close(self) -> None:
        for caller in self._callers:
            caller.close()


@dataclass
class Client:
    """What all of them have."""

    history: History
    name: str
    person: Person
    group: str
    desk: Desk
    stopped: bool = field(default=False, init=False)

    async def attempt(self, document: str, variables: Mapping[str, Any], **said: Any) -> Answer:
        """Ask once and write it down; what a success says is added by the caller with `ok`."""
        op = self.history.number()
        asked = {"client": self.name, "node": self.desk.place.name}
        self.history.add("invoke", op=op, user=self.person.id, group=self.group, **asked, **said)
        answer = await self.desk.ask(document, variables, self.person.token)
        if answer.kind == "ok":
            self.history.add("ok", op=op, **asked, **self.shown(answer))
        else:
            self.history.add(answer.kind, op=op, code=answer.code, text=answer.text, **asked)
        return answer

    async def insist(
        self, document: str, variables: Mapping[str, Any], at_most: int | None = None, **said: Any
    ) -> tuple[Answer, int]:
        """Ask until it is answered, each time at another place; the answer, and how often it had none before."""
        for attempt, pause in enumerate(itertools.islice(pauses(), at_most)):
            answer = await self.attempt(document, variables, **said)
            if answer.kind != "unknown" and answer.code != "SERVICE_UNAVAILABLE":
                return answer, attempt
            self.desk.move()
            await asyncio.sleep(pause)
        raise AssertionError(f"nobody answers: {said}")

    def shown(self, answer: Answer) -> dict[str, Any]:  # noqa: ARG002
        """What a success says, for the history."""
        return {}

    def stop(self) -> None:
        self.stopped = True


@dataclass
class Sender(Client):
    """Sends one message after the other, each until it is answered, at the next node when nobody answers."""

    secret: str = ""
    pause: float = 0.002
    most: int = 1_000_000
    newest: int = 0
    sent: int = 0
    roams: bool = False

    async def run(self) -> None:
        for number in range(self.most):
            if self.stopped or not await self.act(number):
                break
            if self.roams:
                self.desk.move()
            await asyncio.sleep(random.uniform(0, 2 * self.pause))
        self.desk.close()

    async def act(self, number: int) -> bool:
        """What it does in its turn; whether it may go on."""
        return await self.send(f"{self.name}-{number}")

    async def send(self, key: str) -> bool:
        """Whether it is in the log; no means that it was refused for good."""
        variables = {"input": {"groupId": self.group, "content": f"{self.secret} {key}", "clientMessageId": key}}
        for pause in pauses():
            answer = await self.attempt(SEND, variables, kind="send", key=key)
            if answer.kind == "ok":
                self.sent += 1
                return True
            if answer.code in OVER or answer.code in ("CONFLICT", "BAD_USER_INPUT"):
                return False
            self.desk.move()
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def shown(self, answer: Answer) -> dict[str, Any]:
        message: Json = answer.value["message"]
        self.newest = max(self.newest, message["seq"])
        return {"id": message["id"], "seq": message["seq"]}


@dataclass
class Changer(Client):
    """Changes the group, and repeats what nobody answered: the second time it may be refused, because it was done."""

    async def change(self, name: str, kind: str, subject: Person | None = None, **input: Any) -> Answer:
        given = {"groupId": self.group, **({"userId": subject.id} if subject else {}), **input}
        said: dict[str, Any] = {"kind": kind, "key": subject.id if subject else ""}
        answer, _ = await self.insist(operation(name), {"input": given}, **said)
        return answer
