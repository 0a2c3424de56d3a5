"""What every client of a run saw: one line of JSON each, on one monotonic clock. Knows no client and no checker."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

What = Literal[
    "invoke",  # op, kind, user, group, key: an operation was sent
    "ok",  # op: done, with its id and seq, or what a read showed
    "fail",  # op: definitely not done, with its code
    "unknown",  # op: nobody can say
    "sub_open",  # sub, user, group, after, id: a subscription was asked for, from behind the message `id`
    "recv",  # sub, seq, id, kind: an event came; `seqs` is what was nested in it, `copies` are all messages in it
    "beat",  # sub: the server answered a ping
    "sub_end",  # sub, code: the server ended it
    "sub_close",  # sub: the client ended it, after the last message was sent
    "sub_left",  # sub: the client went before the end
    "conn_close",  # sub, code: its socket closed
    "saw",  # user, group: content of the group was in what somebody got who records nothing else
    "revoked",  # client: its token was ended, and the server had said so
    "restored",  # group, seq: a backup that ends there is what the servers have now
    "filled",  # group, after, seq: these rows were written beside the servers
    "abandoned",  # the scenario was given up here: what is under way gets no answer any more
    "fault",  # code, node: something is done to the system; 1006 may follow
    "healed",  # it is over: the recovery is timed from here
]


SAID = 48  # characters: whoever sends ends with what is unique


class Copy(NamedTuple):
    """A message as it was shown: the end of its content, and how many reactions it had."""

    id: str
    version: int
    says: str = ""
    is_deleted: bool = False
    reactions: int = 0

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> "Copy":
        reactions = sum(each["count"] for each in message["reactions"])
        says, is_deleted = message["content"][-SAID:], message["deletedAt"] is not None
        return cls(message["id"], message["version"], says, is_deleted, reactions)

    @property
    def is_empty(self) -> bool:
        """As a tombstone is."""
        return self.is_deleted and not self.says and not self.reactions


@dataclass(frozen=True, slots=True)
class Happening:
    """One line. `t` is in seconds; what a field means depends on `what`."""

    t: float
    what: What
    client: str = ""
    user: str = ""
    group: str = ""
    node: str = ""
    op: int = 0
    kind: str = ""
    key: str = ""
    id: str = ""
    seq: int = 0
    sub: int = 0
    after: int = 0
    seqs: tuple[int, ...] = ()
    copies: tuple[Copy, ...] = ()
    more: bool = False
    code: str = ""
    text: str = ""

    def line(self) -> str:
        """As JSON, without what is not said."""
        said = {name: value for name in NAMES if (value := getattr(self, name)) != DEFAULTS[name]}
        return json.dumps(said, separators=(",", ":"))


NAMES = tuple(each.name for each in fields(Happening))
DEFAULTS: dict[str, Any] = {each.name: each.default for each in fields(Happening)}


def read(lines: Iterable[str]) -> list[Happening]:
    """What `Happening.line` wrote."""
    return [_happening(json.loads(line)) for line in lines]


def _happening(said: dict[str, Any]) -> Happening:
    said["seqs"] = tuple(said.get("seqs", ()))
    said["copies"] = tuple(Copy(*each) for each in said.get("copies", ()))
    return Happening(**said)


@dataclass
class History:
    """Grows while a scenario runs; numbers operations and subscriptions."""

    happenings: list[Happening] = field(default_factory=list[Happening])
    _number: int = 0

    def add(self, what: What, **said: Any) -> Happening:
        """Write down what happens now."""
        happening = Happening(time.monotonic(), what, **said)
        self.happenings.append(happening)
        return happening

    def correct(self, place: int, **said: Any) -> None:
        """Say more about what was written down before: what a read was after is known when it is answered."""
        self.happenings[place] = replace(self.happenings[place], **said)

    def number(self) -> int:
        """A new one, for an operation or a subscription."""
        self._number += 1
        return self._number

    def lines(self) -> Iterable[str]:
        return (each.line() for each in self.happenings)
