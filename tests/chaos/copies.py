"""What the invariants say about changes to messages, and about the copies of them that clients were shown. Knows no
server and no client.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from math import inf
from typing import TypeAlias

from tests.chaos.evidence import CHANGES, Operation, Run, Sub, answers, reads
from tests.chaos.history import Copy, Happening

Found: TypeAlias = Iterator[tuple[str, str]]


def lost_changes(run: Run) -> Found:
    """An acknowledged change is in the log; as many edits as there were texts: the same one again makes no event."""
    written = _changes_in_the_log(run)
    for (group, user, kind, message_id), attempts in run.changes.items():
        done = {
            each.invoked.text
            for each in attempts
            for outcome in answers([each])
            if not run.was_lost_by_restore(group, outcome.seq, outcome.t)
        }
        if (times := written[group, user, kind, message_id]) < len(done):
            yield "lost", f"{len(done)} {kind} of {message_id} acknowledged, {times} in the log of {group}"


def undone(run: Run) -> Found:
    """What a message says in the end is the last text that was acknowledged, or one that may have come later."""
    rows = {(group, row.message_id): row for group, rows in run.messages.items() for row in rows.values()}
    for (group, _, kind, message_id), attempts in run.changes.items():
        row, done = rows.get((group, message_id)), list(answers(attempts))
        if row is None or not done or group in run.restored:
            continue
        if kind == "MESSAGE_DELETED" and (row.says or not row.is_deleted):
            yield "lost", f"{message_id} was deleted and says {row.says!r} in the log of {group}"
        elif kind == "MESSAGE_EDITED" and not row.is_deleted and not row.says.endswith(_last_texts(attempts)):
            yield "lost", f"{message_id} says {row.says!r} in the log of {group}, and was edited after that"


def _last_texts(attempts: list[Operation]) -> tuple[str, ...]:
    done = {outcome.seq: each.invoked.text for each in attempts for outcome in answers([each])}
    unknown = [each.invoked.text for each in attempts if each.outcome is None or each.outcome.what == "unknown"]
    return (done[max(done)], *unknown)


def phantom_changes(run: Run) -> Found:
    """No change is in the log that was refused, nor more often than it was tried."""
    for change, times in _changes_in_the_log(run).items():
        tried = sum(each.outcome is None or each.outcome.what != "fail" for each in run.changes.get(change, ()))
        if times > tried:
            group, user, kind, message_id = change
            yield "phantom", f"{times} {kind} of {message_id} by {user} are in the log of {group}, {tried} were tried"


def _changes_in_the_log(run: Run) -> Counter[tuple[str, str, str, str]]:
    return Counter(
        (group, row.actor, row.kind, row.message_id)
        for group, rows in run.events.items()
        for row in rows.values()
        if row.kind != "MESSAGE_SENT"
    )


def diverged(run: Run) -> Found:
    """Who followed to the end and kept the newest copy of each message has what somebody got who asked anew."""
    fetched: dict[str, list[Copy]] = defaultdict(list)
    for each in run.of_kind("fetch"):
        for outcome in answers([each]):
            fetched[each.invoked.group] += outcome.copies
    for (client, group), subs in run.chains.items():
        folded = run.folded(subs) if subs[-1].is_closed else {}
        for copy in fetched[group]:
            if folded.get(copy.id, copy) != copy:
                yield "lost", f"{client} has {folded[copy.id]} of {group}, and there is {copy}"


def older_than_acknowledged(run: Run) -> Found:
    """No copy that its sender reads is older than a change of theirs that was acknowledged before."""
    done: dict[tuple[str, str], list[Happening]] = defaultdict(list)
    for (_, user, _, message_id), attempts in run.changes.items():
        done[user, message_id] += answers(attempts)
    for asked, shown, copy in _copies_read(run):
        for each in done[asked.user, copy.id]:
            is_due = each.t < asked.t and copy.version < each.seq
            if is_due and not run.was_lost_by_restore(asked.group, each.seq, each.t):
                yield "stale", f"{asked.client} was acknowledged {each.seq} and read {copy} at {shown.node}"


def older_than_seen(run: Run) -> Found:
    """No copy that a client reads is older than one that it has read before."""
    newest: dict[tuple[str, str], Happening] = {}
    for asked, shown, copy in _copies_read(run):
        before = newest.get((asked.client, copy.id))
        if before is None or copy.version >= before.seq:
            newest[asked.client, copy.id] = Happening(shown.t, "ok", seq=copy.version)
        elif before.t < asked.t and not run.was_lost_by_restore(asked.group, before.seq, before.t):
            yield "stale", f"{asked.client} had read version {before.seq}, and then {copy} at {shown.node}"


def older_than_its_event(run: Run) -> Found:
    """Each copy that comes with an event is as new as what the log has about that message up to there."""
    shown = [(sub.opened, each, each.seq, copy) for sub in run.subs for each, copy in _copies_followed(sub)]
    for read in reads(run):
        if read.invoked.key == "events":
            for each in answers([read]):
                pairs = zip(each.seqs, each.copies, strict=True)
                shown += [(read.invoked, each, seq, copy) for seq, copy in pairs]
    for opened, each, seq, copy in shown:
        is_old = copy.version < run.version_at(opened.group, copy.id, seq)
        if is_old and not run.was_lost_by_restore(opened.group, seq, each.t):
            yield "stale", f"{opened.client} got {copy} with event {seq} of {opened.group}"


def shown_after_deletion(run: Run) -> Found:
    """Nothing of a deleted message is in what was asked for once the deletion was acknowledged, nor in what a stream
    gave from the deletion's event on.
    """
    told = _deletions(run)
    for asked, _, copy in _copies_read(run):
        if asked.t > told.get(copy.id, (inf, inf))[0] and not copy.is_empty:
            yield "leaked", f"{asked.client} read {copy}, which was deleted before"
    for sub in run.subs:
        for each, copy in _copies_followed(sub):
            t, seq = told.get(copy.id, (inf, inf))
            if (sub.opened.t > t or each.seq >= seq) and not copy.is_empty:
                yield "leaked", f"{sub.opened.client} got {copy} with {each.seq}, and it was deleted before"


def _deletions(run: Run) -> dict[str, tuple[float, float]]:
    """Of each message when its deletion was acknowledged, and the number of that."""
    told: dict[str, tuple[float, float]] = {}
    for (group, _, kind, message_id), attempts in run.changes.items():
        done = [
            (each.t, each.seq) for each in answers(attempts) if not run.was_lost_by_restore(group, each.seq, each.t)
        ]
        if kind == CHANGES["erase"] and done:
            told[message_id] = min(done)
    return told


def _copies_followed(sub: Sub) -> Iterator[tuple[Happening, Copy]]:
    return ((each, copy) for each in sub.received for copy in each.copies)


def _copies_read(run: Run) -> Iterator[tuple[Happening, Happening, Copy]]:
    return (
        (each.invoked, shown, copy) for each in run.operations for shown in answers([each]) for copy in shown.copies
    )
