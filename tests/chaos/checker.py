"""The twelve invariants, each a pure function over what a run left behind. Knows no server and no client."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import TypeAlias

from tests.chaos import copies
from tests.chaos.evidence import SHOWN, Run, Sub, answers, reads
from tests.chaos.history import Happening

Counted = str
UNJUSTIFIED_ENDS = frozenset({"MEMBERSHIP_ENDED", "GROUP_DELETED"})
FATAL_CLOSES = frozenset({"1011", "4500"})
DEFECTS = frozenset({"unexpected_error", "channel_failed", "handler_failed", "recovery_listener_failed"})
INSIDE = re.compile(r"Traceback|sqlalchemy|asyncpg|sqlite3|psycopg|aiosqlite|redis\.|\.py\b|SQLSTATE", re.IGNORECASE)
IN_A_LOG = re.compile(r"Traceback \(most recent|never retrieved|never awaited|Exception in callback|Unclosed")


@dataclass(frozen=True, slots=True)
class Violation:
    """What was promised, how it counts in the table, and what was seen."""

    invariant: str
    counted: Counted
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.counted}: {self.text}"


Check: TypeAlias = Callable[[Run], Iterator[tuple[Counted, str]]]


def durable(run: Run) -> Iterator[tuple[Counted, str]]:
    """I1: every acknowledged send is in the log exactly once, every acknowledged change at least once and for good."""
    written = {group: Counter(row.message_id for row in rows.values()) for group, rows in run.messages.items()}
    for (group, _, key), attempts in run.sends.items():
        rows = written[group]
        for outcome in answers(attempts):
            if run.was_lost_by_restore(group, outcome.seq, outcome.t):
                continue
            if not rows[outcome.id]:
                yield "lost", f"{key} was acknowledged as {outcome.seq} and is not in the log of {group}"
            elif rows[outcome.id] > 1:
                yield "doubled", f"{key} is in the log of {group} {rows[outcome.id]} times"
    yield from copies.lost_changes(run)
    yield from copies.undone(run)


def no_phantom(run: Run) -> Iterator[tuple[Counted, str]]:
    """I2: every message in the log was sent by somebody, and was not definitely refused; neither was a change, and none
    is there more often than it was tried.
    """
    for group, messages in run.messages.items():
        for row in messages.values():
            attempts = run.sends.get((group, row.actor, row.key))
            if attempts is None and run.is_filled(group, row.seq):
                continue
            if attempts is None:
                yield "phantom", f"nobody sent {row.key or row.message_id}, {row.seq} of {group}"
            elif all(each.outcome is not None and each.outcome.what == "fail" for each in attempts):
                yield "phantom", f"{row.key} was refused and is {row.seq} of {group}"
    yield from copies.phantom_changes(run)


def idempotent(run: Run) -> Iterator[tuple[Counted, str]]:
    """I3: one clientMessageId of one sender is one message, in every answer and in the log."""
    for (group, _, key), attempts in run.sends.items():
        told = {
            (each.id, each.seq) for each in answers(attempts) if not run.was_lost_by_restore(group, each.seq, each.t)
        }
        if len(told) > 1:
            yield "doubled", f"{key} was answered as {sorted(told)}"
    for group, messages in run.messages.items():
        inserted = Counter((row.actor, row.key) for row in messages.values() if row.key)
        for (_, key), times in inserted.items():
            if times > 1:
                yield "doubled", f"{key} is {times} messages of {group}"


def total_order(run: Run) -> Iterator[tuple[Counted, str]]:
    """I4: a log is 1 to n without a gap, and each subscription gets rising numbers."""
    for group, rows in run.logs.items():
        if [row.seq for row in rows] != list(range(1, len(rows) + 1)):
            yield "reordered", f"the log of {group} is not 1 to {len(rows)}"
    for sub in run.subs:
        before = sub.opened.after
        for each in sub.received:
            if each.seq <= before:
                how = "doubled" if each.seq == before else "reordered"
                yield how, f"{sub.opened.client} got {each.seq} after {before}"
            before = max(before, each.seq)


def complete(run: Run) -> Iterator[tuple[Counted, str]]:
    """I5: a subscription from a position gets every event after it, over every reconnect, until it ends; who keeps the
    newest copy of each message has what somebody gets who asks anew.
    """
    for (client, group), subs in run.chains.items():
        for sub in subs:
            yield from _holes(run, sub)
            yield from _other_messages(run, sub)
            yield from _wrong_resume(run, sub)
            yield from _wrong_end(run, sub)
        last = subs[-1]
        if last.is_closed and (missing := len(run.seqs_between(group, _position(last), inf))):
            yield "lost", f"{client} was {missing} messages short of the end of {group} (after {_position(last)})"
    yield from copies.diverged(run)


def _position(sub: Sub) -> int:
    return max((each.seq for each in sub.received), default=sub.opened.after)


def _holes(run: Run, sub: Sub) -> Iterator[tuple[Counted, str]]:
    group, client = sub.opened.group, sub.opened.client
    got, end = {each.seq for each in sub.received}, float(_position(sub))
    restored = run.restored.get(group)
    if restored and sub.opened.t < restored.t:
        end = min(end, restored.seq)
    if holes := [seq for seq in run.seqs_between(group, sub.opened.after, end) if seq not in got]:
        yield "lost", f"{client} never got {holes[:5]} of {group} ({len(holes)} in all, after {sub.opened.after})"


def _other_messages(run: Run, sub: Sub) -> Iterator[tuple[Counted, str]]:
    client, group = sub.opened.client, sub.opened.group
    for each in sub.received:
        row = run.events[group].get(each.seq)
        is_that = row is not None and (row.message_id, SHOWN[row.kind]) == (each.id, each.kind)
        if not is_that and not run.was_lost_by_restore(group, each.seq, each.t):
            yield "lost", f"{client} got another event at {each.seq} of {group} than the log has"


def _wrong_resume(run: Run, sub: Sub) -> Iterator[tuple[Counted, str]]:
    """A position that stands behind a message which is not in the log any more must be refused."""
    opened = sub.opened
    if not opened.id or opened.group not in run.restored or opened.t < run.restored[opened.group].t:
        return
    row = run.events[opened.group].get(opened.after)
    if (row is None or row.message_id != opened.id) and (sub.received or sub.is_closed):
        yield "lost", f"{opened.client} resumed after {opened.after}, a message that the restored log never had"


def _wrong_end(run: Run, sub: Sub) -> Iterator[tuple[Counted, str]]:
    group, user = sub.opened.group, sub.opened.user
    if sub.ended is None or sub.ended.what != "sub_end":
        return
    if sub.ended.code in UNJUSTIFIED_ENDS and all(each.left == float("inf") for each in run.intervals(group, user)):
        yield "lost", f"the stream of {sub.opened.client} ended with {sub.ended.code}, and nothing in the log says so"
    if sub.ended.code == "CURSOR_INVALID" and group not in run.restored:
        yield "lost", f"{sub.opened.client} was told that its cursor {sub.opened.after} is no cursor"


def real_time_order(run: Run) -> Iterator[tuple[Counted, str]]:
    """I6: what was sent after another message was acknowledged has a higher number."""
    written = {(row.actor, row.key): row.seq for rows in run.messages.values() for row in rows.values()}
    for group in run.logs:
        moments = list[tuple[float, int, int, str]]()
        for (of, user, key), attempts in run.sends.items():
            if of != group or (seq := written.get((user, key))) is None:
                continue
            moments.append((min(each.invoked.t for each in attempts), 1, seq, key))
            moments += [(each.t, 0, seq, key) for each in answers(attempts)]
        newest = 0
        for _, is_invocation, seq, key in sorted(moments):
            if is_invocation and seq < newest:
                yield "reordered", f"{key} is {seq}, and was sent after {newest} was acknowledged"
            elif not is_invocation:
                newest = max(newest, seq)


def read_your_writes(run: Run) -> Iterator[tuple[Counted, str]]:
    """I7: whatever its own user had been acknowledged, a read on any node contains: an event each in a read of events,
    else messages in copies that are as new.
    """
    done: dict[tuple[str, str, str], list[tuple[float, int]]] = defaultdict(list)
    for (group, user, _), attempts in run.sends.items():
        for of in ("events", "messages"):
            done[group, user, of] += [(each.t, each.seq) for each in answers(attempts)]
    for (group, user, _, _), attempts in run.changes.items():
        done[group, user, "events"] += [(each.t, each.seq) for each in answers(attempts)]
    for read in reads(run):
        asked, shown = read.invoked, read.outcome
        assert shown is not None
        seen, upto = set(shown.seqs), max(shown.seqs, default=asked.after) if shown.more else float("inf")
        for t, seq in done[asked.group, asked.user, asked.key]:
            is_due = t < asked.t and asked.after < seq <= upto
            if is_due and seq not in seen and not run.was_lost_by_restore(asked.group, seq, t):
                yield "stale", f"{asked.client} read after {asked.after} at {asked.node} and did not find its own {seq}"
    yield from copies.older_than_acknowledged(run)


def monotonic_reads(run: Run) -> Iterator[tuple[Counted, str]]:
    """I8: the newest message and the newest event that a client has seen never disappear from its reads; no copy of a
    message is older than the one before, or than the event that shows it.
    """
    yield from copies.older_than_seen(run)
    yield from copies.older_than_its_event(run)
    newest: dict[tuple[str, str, str], Happening] = {}
    for read in reads(run):
        asked, shown = read.invoked, read.outcome
        assert shown is not None
        top, of = max((asked.after, *shown.seqs)), asked.key
        before = newest.get((asked.client, asked.group, of))
        is_due = before is not None and not run.was_lost_by_restore(asked.group, before.seq, before.t)
        if before is not None and is_due and not shown.more and top < before.seq:
            yield "reordered", f"{asked.client} had seen {before.seq}, and then nothing above {top} at {asked.node}"
        tops = {
            "events": top,
            "messages": max((seq for seq in shown.seqs if seq in run.messages[asked.group]), default=0),
        }
        for of, seen in tops.items():
            if (whom := (asked.client, asked.group, of)) not in newest or seen > newest[whom].seq:
                newest[whom] = Happening(shown.t, "ok", seq=seen)


def no_leak(run: Run) -> Iterator[tuple[Counted, str]]:
    """I9: nobody gets anything of a group, or into it, while they are no member, and nobody what was deleted."""
    for sub in run.subs:
        yield from _leaked_by(run, sub)
    for read in reads(run):
        asked, shown = read.invoked, read.outcome
        assert shown is not None
        if not run.intervals_at(asked.group, asked.user, asked.t, shown.t):
            yield "leaked", f"{asked.client} could read {asked.group} while no member"
    for each in run.history:
        if each.what == "saw" and not run.intervals(each.group, each.user):
            yield "leaked", f"{each.client}, never a member of {each.group}, got: {each.text}"
    for group, events in run.events.items():
        for row in events.values():
            if not any(each.holds(row.seq) for each in run.intervals(group, row.actor)):
                yield "leaked", f"{row.key} is {row.seq} of {group} ({row.kind}), and its actor was no member then"
    yield from _after_revocation(run)
    yield from copies.shown_after_deletion(run)


def _leaked_by(run: Run, sub: Sub) -> Iterator[tuple[Counted, str]]:
    if not sub.received:
        return
    opened = sub.opened
    memberships = run.intervals_at(opened.group, opened.user, opened.t, sub.last_moment)
    end = max((each.left for each in memberships), default=0)
    for each in sub.received:
        if (top := max(each.seq, *each.seqs, *(copy.version for copy in each.copies), 0)) >= end:
            yield (
                "leaked",
                f"{opened.client} got {top} of {opened.group} ({each.seq}), and its membership ended at {end}",
            )


def _after_revocation(run: Run) -> Iterator[tuple[Counted, str]]:
    revoked = {each.client: each.t for each in run.history if each.what == "revoked"}
    for sub in run.subs:
        bound = revoked.get(sub.opened.client, float("inf")) + run.bounds.revoked_seconds
        if late := [each for each in sub.received if each.t > bound]:
            yield "leaked", f"{sub.opened.client} got {len(late)} events after its token had ended"


def answered(run: Run) -> Iterator[tuple[Counted, str]]:
    """I10: every operation ends in time, and no open subscription falls silent."""
    for each in run.operations:
        took = (each.outcome.t if each.outcome else run.end) - each.invoked.t
        if took > run.bounds.answer_seconds:
            yield "hung", f"{each.invoked.kind} {each.invoked.key} of {each.invoked.client} took {took:.0f} s"
    for sub in run.subs:
        moments = sorted((sub.opened.t, *sub.beats, *(each.t for each in sub.received)))
        moments.append(sub.ended.t if sub.ended else run.history[-1].t)
        silence = max(later - earlier for earlier, later in pairwise(moments))
        if silence > run.bounds.silence_seconds:
            yield "hung", f"the stream of {sub.opened.client} was silent for {silence:.0f} s"


def bounded(run: Run) -> Iterator[tuple[Counted, str]]:
    """I11: what a process holds is back where it was once everybody has left, and no queue ever passed its bound."""
    before = {each.node: each.counts for each in run.samples if each.phase == "before"}
    for each in run.samples:
        for name, most in run.bounds.most.items():
            if each.counts.get(name, 0) > most:
                yield "leftover", f"{each.node}: {each.counts[name]} {name} at once, and {most} is the bound"
        if each.phase == "after" and (base := before.get(each.node)) is not None:
            for name, room in run.bounds.growth.items():
                if name in each.counts and name in base and each.counts[name] > base[name] + room:
                    named = f": {each.tasks_are}" if name == "tasks" else ""
                    yield "leftover", f"{each.node}: {base[name]} {name} before, {each.counts[name]} after{named}"


def quiet_errors(run: Run) -> Iterator[tuple[Counted, str]]:
    """I12: no internal error, no unmasked text, no close that a client takes as final, no traceback in a log."""
    for each in run.history:
        if each.code == "INTERNAL_ERROR" or each.code.startswith("HTTP 5"):
            yield "internal", f"{each.client} got {each.code} {each.text}"
        elif each.what in ("fail", "unknown", "sub_end") and INSIDE.search(each.text):
            yield "internal", f"{each.client} was told what lies inside: {each.text}"
    yield from _final_closes(run)
    for node, log in run.server_logs.items():
        for line in log.splitlines():
            if IN_A_LOG.search(line) or _event(line) in DEFECTS:
                yield "internal", f"{node} logged: {line[:300]}"


def _final_closes(run: Run) -> Iterator[tuple[Counted, str]]:
    """1006 is no wonder once somebody has begun to break the system."""
    broken = False
    for each in run.history:
        broken = broken or each.what == "fault"
        if each.what == "conn_close" and (each.code in FATAL_CLOSES or (each.code == "1006" and not broken)):
            yield "internal", f"the socket of {each.client} was closed with {each.code}"


def _event(line: str) -> str:
    try:
        return str(json.loads(line)["event"])
    except (ValueError, KeyError, TypeError):
        return ""


INVARIANTS: dict[str, Check] = {
    "I1 durable": durable,
    "I2 no phantom": no_phantom,
    "I3 idempotent": idempotent,
    "I4 total order": total_order,
    "I5 complete": complete,
    "I6 real-time order": real_time_order,
    "I7 read your writes": read_your_writes,
    "I8 monotonic reads": monotonic_reads,
    "I9 no leak": no_leak,
    "I10 answered": answered,
    "I11 bounded": bounded,
    "I12 quiet errors": quiet_errors,
}


def violations(run: Run) -> list[Violation]:
    """Everything that was promised and did not hold."""
    return [Violation(name, *found) for name, check in INVARIANTS.items() for found in check(run)]
