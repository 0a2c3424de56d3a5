"""What a run leaves behind, and what the checker asks of it again and again. Knows no invariant."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any

from tests.chaos.history import SAID, Copy, Happening

JOINS = frozenset({"GROUP_CREATED", "MEMBER_ADDED", "MEMBER_JOINED"})
ENDS = frozenset({"sub_end", "sub_left", "conn_close"})
LEAVES = frozenset({"MEMBER_REMOVED", "MEMBER_LEFT"})
# The log's kinds of what streams of messages show, as events name them.
SHOWN = {
    "MESSAGE_SENT": "SENT",
    "MESSAGE_EDITED": "EDITED",
    "MESSAGE_DELETED": "DELETED",
    "REACTION_ADDED": "REACTED",
    "REACTION_REMOVED": "REACTED",
}
# The log's kind of each change to a message that clients make.
CHANGES = {
    "edit": "MESSAGE_EDITED", "erase": "MESSAGE_DELETED", "react": "REACTION_ADDED", "unreact": "REACTION_REMOVED",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a group's log, as `export-log` prints it: with its message as that is in the end."""

    seq: int
    kind: str
    actor: str = ""
    subject: str = ""
    message_id: str = ""
    key: str = ""
    says: str = ""
    is_deleted: bool = False

    @classmethod
    def of(cls, exported: Mapping[str, Any]) -> "Row":
        message: Mapping[str, Any] = exported["message"] or {}
        key = message.get("clientMessageId") or ""
        actor, subject = (_id(exported[name]) for name in ("actor", "subject"))
        says, is_deleted = message.get("content", "")[-SAID:], message.get("deletedAt") is not None
        return cls(
            exported["seq"], exported["kind"], actor, subject, message.get("id", ""), key, says, is_deleted
        )  # fmt: skip


def _id(person: Mapping[str, str] | None) -> str:
    return person["id"] if person else ""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process held at one moment: `before` its load, `during`, or `after` everybody had left. `tasks_are` has
    the names of its tasks.
    """

    node: str
    phase: str
    counts: Mapping[str, int]
    tasks_are: str = ""


@dataclass(frozen=True)
class Bounds:
    """What a run may take, in seconds, and what a process may hold."""

    answer_seconds: float = 30.0
    silence_seconds: float = 20.0
    revoked_seconds: float = 3.0
    growth: Mapping[str, int] = field(
        # Pools of connections fill up while they are used: 10 to the database, 8 that publish, 4 idle readers.
        default_factory=lambda: {"sockets": 0, "tasks": 0, "streams": 0, "fds": 30, "rss_mib": 96}
    )
    most: Mapping[str, int] = field(default_factory=lambda: {"unpublished": 10_000, "waiting": 1_000})


@dataclass(frozen=True, slots=True)
class Interval:
    """One membership: from `joined` on, up to before `left`, as numbers of the log and as moments of the test's clock.

    Asked for at `asked` at the earliest, over and said to be at `told`.
    """

    joined: int
    left: float
    asked: float
    told: float

    def holds(self, seq: int) -> bool:
        return self.joined <= seq < self.left


@dataclass
class Operation:
    """One attempt and what became of it."""

    invoked: Happening
    outcome: Happening | None = None


@dataclass
class Sub:
    """One subscription with everything that came on it."""

    opened: Happening
    received: list[Happening] = field(default_factory=list[Happening])
    beats: list[float] = field(default_factory=list[float])
    ended: Happening | None = None

    @property
    def is_closed(self) -> bool:
        """By its own client, when everything had been sent: it must have everything."""
        return self.ended is not None and self.ended.what == "sub_close"

    @property
    def last_moment(self) -> float:
        return self.ended.t if self.ended else inf


@dataclass
class Run:
    """The history of one scenario, the whole log of each of its groups afterwards, samples, and servers' logs."""

    history: Sequence[Happening]
    logs: Mapping[str, Sequence[Row]]
    samples: Sequence[Sample] = ()
    server_logs: Mapping[str, str] = field(default_factory=dict[str, str])
    bounds: Bounds = field(default_factory=Bounds)

    @cached_property
    def operations(self) -> list[Operation]:
        found: dict[int, Operation] = {}
        for each in self.history:
            if each.what == "invoke":
                found[each.op] = Operation(each)
            elif each.what in ("ok", "fail", "unknown") and each.op in found:
                found[each.op].outcome = each
        return list(found.values())

    @cached_property
    def end(self) -> float:
        """Up to when an answer could come: for ever, unless the run was given up."""
        return next((each.t for each in self.history if each.what == "abandoned"), inf)

    def of_kind(self, kind: str) -> Iterable[Operation]:
        return (each for each in self.operations if each.invoked.kind == kind)

    @cached_property
    def sends(self) -> dict[tuple[str, str, str], list[Operation]]:
        """The attempts at each message: (group, sender, clientMessageId)."""
        found: dict[tuple[str, str, str], list[Operation]] = defaultdict(list)
        for each in self.of_kind("send"):
            found[each.invoked.group, each.invoked.user, each.invoked.key].append(each)
        return found

    @cached_property
    def changes(self) -> dict[tuple[str, str, str, str], list[Operation]]:
        """The attempts at each change to a message: (group, who, kind in the log, id of the message)."""
        found: dict[tuple[str, str, str, str], list[Operation]] = defaultdict(list)
        for each in self.operations:
            if kind := CHANGES.get(each.invoked.kind):
                found[each.invoked.group, each.invoked.user, kind, each.invoked.key].append(each)
        return found

    @cached_property
    def subs(self) -> list[Sub]:
        found: dict[int, Sub] = {}
        for each in self.history:
            if each.what == "sub_open":
                found[each.sub] = Sub(each)
            elif sub := found.get(each.sub):
                if each.what == "recv":
                    sub.received.append(each)
                elif each.what == "beat":
                    sub.beats.append(each.t)
                elif each.what == "sub_close" or (
                    each.what in ("sub_end", "sub_left", "conn_close") and sub.ended is None
                ):
                    sub.ended = each
        return list(found.values())

    @cached_property
    def chains(self) -> dict[tuple[str, str], list[Sub]]:
        """The subscriptions of one client to one group, in turn: each goes on where the one before has ended."""
        found: dict[tuple[str, str], list[Sub]] = defaultdict(list)
        for sub in self.subs:
            found[sub.opened.client, sub.opened.group].append(sub)
        return found

    @cached_property
    def messages(self) -> dict[str, dict[int, Row]]:
        """The messages of each group by their numbers."""
        return {
            group: {row.seq: row for row in rows if row.kind == "MESSAGE_SENT"} for group, rows in self.logs.items()
        }

    @cached_property
    def events(self) -> dict[str, dict[int, Row]]:
        """What a stream of each group shows, by its number: messages, and what became of them."""
        return {group: {row.seq: row for row in rows if row.kind in SHOWN} for group, rows in self.logs.items()}

    @cached_property
    def _seqs(self) -> dict[str, list[int]]:
        return {group: sorted(rows) for group, rows in self.events.items()}

    @cached_property
    def _versions(self) -> dict[tuple[str, str], list[int]]:
        found: dict[tuple[str, str], list[int]] = defaultdict(list)
        for group, rows in self.events.items():
            for seq in sorted(rows):
                found[group, rows[seq].message_id].append(seq)
        return found

    def version_at(self, group: str, message_id: str, seq: int) -> int:
        """The last event of the log, up to that one, that is about this message; 0 for none."""
        versions = self._versions.get((group, message_id), [])
        place = bisect_right(versions, seq)
        return versions[place - 1] if place else 0

    def folded(self, subs: Iterable[Sub]) -> dict[str, Copy]:
        """What a client has that keeps the newest copy of each message; the later one of two that are as new."""
        found: dict[str, Copy] = {}
        for sub in subs:
            for each in sub.received:
                for copy in each.copies:
                    is_newer = copy.id not in found or copy.version >= found[copy.id].version
                    if is_newer and not self.was_lost_by_restore(sub.opened.group, copy.version, each.t):
                        found[copy.id] = copy
        return found

    def seqs_between(self, group: str, after: int, upto: float) -> Sequence[int]:
        """The numbers of the group's events after that one, up to and with the other, without looking at the rest."""
        seqs = self._seqs[group]
        return seqs[bisect_right(seqs, after) : bisect_right(seqs, upto)]

    @cached_property
    def restored(self) -> dict[str, Happening]:
        """Of each group, the last time that an older backup took the place of its log."""
        return {each.group: each for each in self.history if each.what == "restored"}

    def is_filled(self, group: str, seq: int) -> bool:
        """Whether that row was written beside the servers."""
        return any(each.group == group and each.after < seq <= each.seq for each in self._filled)

    @cached_property
    def _filled(self) -> list[Happening]:
        return [each for each in self.history if each.what == "filled"]

    def was_lost_by_restore(self, group: str, seq: int, t: float) -> bool:
        """Whether what was said at `t` about `seq` is about a row that a restored backup did not have."""
        restored = self.restored.get(group)
        return restored is not None and t < restored.t and seq > restored.seq

    @cached_property
    def _intervals(self) -> dict[tuple[str, str], list[Interval]]:
        asked, told = self._moments({"add"}), self._moments({"remove", "leave", "delete"})
        found: dict[tuple[str, str], list[Interval]] = {}
        for group, rows in self.logs.items():
            for user, spans in _spans(rows).items():
                starts, ends = asked.get((group, user), []), told.get((group, user), []) or told.get((group, ""), [])
                found[group, user] = [
                    Interval(
                        joined,
                        left,
                        starts[number - 1].invoked.t if 0 < number <= len(starts) else -inf,
                        _answered(ends[number]) if number < len(ends) else inf,
                    )
                    for number, (joined, left) in enumerate(spans)
                ]
        return found

    def _moments(self, kinds: set[str]) -> dict[tuple[str, str], list[Operation]]:
        """The changes that were done, by group and subject (no subject: everybody)."""
        found: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        for each in self.operations:
            if each.invoked.kind in kinds and each.outcome is not None and each.outcome.what == "ok":
                found[each.invoked.group, each.invoked.key].append(each)
        return found

    def intervals(self, group: str, user: str) -> list[Interval]:
        """The memberships of one user in one group."""
        return self._intervals.get((group, user), [])

    def intervals_at(self, group: str, user: str, begin: float, end: float) -> list[Interval]:
        """Those that may have been in force at some moment between `begin` and `end`."""
        return [each for each in self.intervals(group, user) if each.asked <= end and each.told >= begin]


def _answered(operation: Operation) -> float:
    return operation.outcome.t if operation.outcome else inf


def answers(attempts: Iterable[Operation]) -> Iterator[Happening]:
    """Those that say that it is done."""
    return (each.outcome for each in attempts if each.outcome is not None and each.outcome.what == "ok")


def reads(run: Run) -> Iterator[Operation]:
    """What was read, of groups as they were."""
    return (each for each in run.of_kind("read") if each.outcome is not None and each.outcome.what == "ok")


def _spans(rows: Sequence[Row]) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row.kind in JOINS:
            found[row.subject].append((row.seq, inf))
        elif row.kind in LEAVES and found[row.subject]:
            found[row.subject][-1] = (found[row.subject][-1][0], row.seq)
        elif row.kind == "GROUP_DELETED":
            for spans in found.values():
                if spans and spans[-1][1] == inf:
                    spans[-1] = (spans[-1][0], row.seq)
    return found
