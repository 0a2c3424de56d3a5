"""The checker of the chaos runs sees: one violation of each invariant is seeded into a clean history, and reported."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import pytest

import failpoints
from tests.chaos import history
from tests.chaos.checker import INVARIANTS, violations
from tests.chaos.evidence import Row, Run, Sample
from tests.chaos.history import Copy, Happening, What
from tests.chaos.repairs import REPAIRS, Repair
from tests.chaos.scenarios import CELLS, all_scenarios, chosen
from tests.chaos.wire import judged
from tests.harness.client import ROOT

G, ADA, BOB, EVE = "group", "ada", "bob", "eve"


class Story:
    """A history that is written down by hand, a tenth of a second a line."""

    def __init__(self) -> None:
        self.lines: list[Happening] = []

    def add(self, what: What, **said: object) -> None:
        self.lines.append(replace(Happening(len(self.lines) / 10, what), **said))

    def send(self, op: int, seq: int, user: str = ADA, outcome: What = "ok", code: str = "") -> None:
        self.add("invoke", op=op, kind="send", user=user, client=user, group=G, key=f"key-{op}")
        done = {"id": f"message-{seq}", "seq": seq} if outcome == "ok" else {"code": code}
        self.add(outcome, op=op, client=user, **done)

    def read(
        self, op: int, seqs: tuple[int, ...], user: str = ADA, after: int = 0, of: str = "messages",
        copies: tuple[Copy, ...] = (),
    ) -> None:  # fmt: skip
        self.add("invoke", op=op, kind="read", key=of, user=user, client=user, group=G, after=after)
        self.add("ok", op=op, client=user, seqs=seqs, copies=copies)

    def change(self, op: int, kind: str, copy: Copy, outcome: What = "ok", text: str = "") -> None:
        self.add("invoke", op=op, kind=kind, user=ADA, client=ADA, group=G, key=copy.id, text=text)
        done = {"seq": copy.version, "copies": (copy,)} if outcome == "ok" else {}
        self.add(outcome, op=op, client=ADA, **done)

    def follow(self, sub: int, seqs: tuple[int, ...], user: str = BOB, after: int = 0, end: What = "sub_close") -> None:
        self.add("sub_open", sub=sub, client=user, user=user, group=G, after=after)
        for seq in seqs:
            self.add("recv", sub=sub, seq=seq, id=f"message-{seq}", kind="SENT")
        self.add(end, sub=sub, client=user, code="MEMBERSHIP_ENDED" if end == "sub_end" else "")


def message(seq: int, op: int, user: str = ADA) -> Row:
    return Row(seq, "MESSAGE_SENT", user, "", f"message-{seq}", f"key-{op}")


# Ada makes the group, adds Bob (3), sends 4 and 5, removes Bob (6), sends 7.
LOG = (
    Row(1, "GROUP_CREATED", ADA, ADA),
    Row(2, "DETAILS_CHANGED", ADA),
    Row(3, "MEMBER_ADDED", ADA, BOB),
    message(4, 1),
    message(5, 2),
    Row(6, "MEMBER_REMOVED", ADA, BOB),
    message(7, 3),
)


def clean() -> Story:
    story = Story()
    story.add("sub_open", sub=90, client="bob's", user=BOB, group=G, after=3)
    story.send(1, 4)
    story.add("recv", sub=90, seq=4, id="message-4", kind="SENT")
    story.send(2, 5)
    story.add("recv", sub=90, seq=5, id="message-5", kind="SENT")
    story.read(50, (4, 5))
    story.add("invoke", op=60, kind="remove", user=ADA, client=ADA, group=G, key=BOB)
    story.add("ok", op=60, client=ADA)
    story.add("sub_end", sub=90, client="bob's", code="MEMBERSHIP_ENDED")
    story.send(3, 7)
    story.read(51, (4, 5, 7))
    story.follow(91, (4, 5, 7), user=ADA)
    story.send(4, 0, user=EVE, outcome="fail", code="FORBIDDEN")
    return story


# Then she edits 4 (8), reacts to 5 (9) and deletes 7 (10).
EDITED = Copy("message-4", 8, "edited")
REACTED = Copy("message-5", 9, "key-2", reactions=1)
DELETED = Copy("message-7", 10, is_deleted=True)
COPIES = (EDITED, REACTED, DELETED)
CHANGED_LOG = (
    *LOG[:3],
    replace(LOG[3], says="edited"),
    *LOG[4:6],
    replace(LOG[6], is_deleted=True),
    Row(8, "MESSAGE_EDITED", ADA, "", "message-4"),
    Row(9, "REACTION_ADDED", ADA, "", "message-5"),
    Row(10, "MESSAGE_DELETED", ADA, "", "message-7"),
)


def changed() -> Story:
    story = clean()
    story.change(100, "edit", EDITED, text="edited")
    story.change(101, "react", REACTED)
    story.change(102, "erase", DELETED)
    story.add("sub_open", sub=93, client=ADA, user=ADA, group=G, after=7)
    for copy, kind in zip(COPIES, ("EDITED", "REACTED", "DELETED"), strict=True):
        story.add("recv", sub=93, seq=copy.version, id=copy.id, kind=kind, copies=(copy,))
    story.read(103, (8, 9, 10), after=7, of="events", copies=COPIES)
    story.read(104, (4, 5, 7), copies=COPIES)
    story.add("invoke", op=105, kind="fetch", user=ADA, client="newcomer", group=G)
    story.add("ok", op=105, client="newcomer", copies=COPIES)
    story.add("sub_close", sub=93, client=ADA)
    return story


def run_of(story: Story, log: tuple[Row, ...] = LOG, samples: tuple[Sample, ...] = (), server_log: str = "") -> Run:
    return Run(story.lines, {G: log}, samples, {"node": server_log})


@dataclass(frozen=True)
class Seed:
    """One violation: of what, how it counts, and the run that has it."""

    invariant: str
    counted: str
    run: Callable[[], Run]
    name: str


def with_story(
    tell: Callable[[Story], object], log: tuple[Row, ...] = LOG, begin: Callable[[], Story] = clean
) -> Callable[[], Run]:
    def run() -> Run:
        story = begin()
        tell(story)
        return run_of(story, log)

    return run


def with_changes(tell: Callable[[Story], object], log: tuple[Row, ...] = CHANGED_LOG) -> Callable[[], Run]:
    return with_story(tell, log, changed)


def other(what: What, number: int, /, **said: object) -> Callable[[], Run]:
    """The story with changes, in which something else was said of that operation, or of that event."""

    def tell(story: Story) -> None:
        places = [
            place
            for place, each in enumerate(story.lines)
            if each.what == what and number == (each.op if what != "recv" else each.sub and each.seq)
        ]
        story.lines[places[-1]] = replace(story.lines[places[-1]], **said)

    return with_changes(tell)


def with_row(row: Row) -> tuple[Row, ...]:
    """The log with changes, and that row in the place of the one that has its number."""
    return (*CHANGED_LOG[: row.seq - 1], row, *CHANGED_LOG[row.seq :])


def edited_twice_in_a_stream(story: Story) -> None:
    place = next(number for number, each in enumerate(story.lines) if each.what == "recv" and each.seq == 8)
    story.lines.insert(place, story.lines[place])


def edit_missed(story: Story) -> None:
    story.lines = [each for each in story.lines if each.what != "recv" or each.seq != 8]


def followed_after_the_deletion(story: Story) -> None:
    story.add("sub_open", sub=94, client="late", user=ADA, group=G, after=5)
    story.add("recv", sub=94, seq=7, id="message-7", kind="SENT", copies=(Copy("message-7", 7, "key-3"),))


def copy_from_after_the_removal(story: Story) -> None:
    place = next(number for number, each in enumerate(story.lines) if each.what == "recv" and each.seq == 4)
    story.lines[place] = replace(story.lines[place], copies=(EDITED,))


def without_row(seq: int) -> tuple[Row, ...]:
    """The log as if that message had never been there: the numbers close up, so that only its loss shows."""
    return tuple(row for row in LOG if row.seq != seq)


def same_key_twice(story: Story) -> None:
    story.add("invoke", op=70, kind="send", user=ADA, client=ADA, group=G, key="key-3")
    story.add("ok", op=70, client=ADA, id="message-8", seq=8)


def sent_after(story: Story) -> None:
    story.send(5, 9)
    story.send(6, 8)


def nested_beyond(story: Story) -> None:
    place = next(number for number, each in enumerate(story.lines) if each.what == "recv" and each.seq == 5)
    story.lines[place] = replace(story.lines[place], seqs=(7,))


def closed_by_1011(story: Story) -> None:
    story.add("conn_close", sub=91, client=ADA, code="1011")


def never_answered(story: Story) -> None:
    story.add("invoke", op=80, kind="send", user=ADA, client=ADA, group=G, key="key-80")


def left_behind() -> Run:
    held = {"tasks": 12, "sockets": 0, "fds": 20}
    samples = (Sample("a 1", "before", held), Sample("a 1", "after", held | {"tasks": 13}))
    return run_of(clean(), samples=samples)


def traceback_in_a_log() -> Run:
    return run_of(clean(), server_log='{"event": "unexpected_error", "level": "error"}\n')


SEEDS = [
    Seed("I1 durable", "lost", with_story(lambda story: story.send(5, 8)), "acknowledged and not in the log"),
    Seed("I1 durable", "doubled", with_story(lambda _: None, (*LOG, replace(LOG[-1], seq=8))), "in the log twice"),
    Seed("I2 no phantom", "phantom", with_story(lambda _: None, (*LOG, message(8, 99))), "sent by nobody"),
    Seed(
        "I2 no phantom", "phantom",
        with_story(lambda story: story.send(99, 0, outcome="fail"), (*LOG, message(8, 99))), "refused and in the log",
    ),
    Seed("I3 idempotent", "doubled", with_story(same_key_twice, (*LOG, message(8, 3))), "one id, two messages"),
    Seed("I4 total order", "reordered", with_story(lambda _: None, without_row(2)), "a gap in the log"),
    Seed("I4 total order", "reordered", with_story(lambda story: story.follow(92, (5, 4), ADA)), "events out of order"),
    Seed("I4 total order", "doubled", with_story(lambda story: story.follow(92, (4, 4), ADA)), "an event twice"),
    Seed("I5 complete", "lost", with_story(lambda story: story.follow(92, (4, 7), ADA)), "a hole in a stream"),
    Seed("I5 complete", "lost", with_story(lambda story: story.follow(92, (4, 5), ADA)), "short of the end"),
    Seed(
        "I5 complete", "lost",
        with_story(lambda story: story.follow(92, (), ADA, end="sub_end")), "ended without a reason in the log",
    ),
    Seed(
        "I6 real-time order", "reordered",
        with_story(sent_after, (*LOG, message(8, 6), message(9, 5))), "sent later, numbered earlier",
    ),
    Seed("I7 read your writes", "stale", with_story(lambda story: story.read(52, (4, 5))), "a read without the own"),
    Seed("I8 monotonic reads", "reordered", with_story(lambda story: story.read(52, (4,))), "a read of the past"),
    Seed("I9 no leak", "leaked", with_story(nested_beyond), "nested in an event"),
    Seed("I9 no leak", "leaked", with_story(lambda story: story.follow(92, (7,), BOB, 5)), "after the removal"),
    Seed("I9 no leak", "leaked", with_story(lambda story: story.read(52, (4, 5, 7), BOB)), "a read after the removal"),
    Seed(
        "I9 no leak", "leaked",
        with_story(lambda story: story.add("saw", client=EVE, user=EVE, group=G, text="secret")), "to a stranger",
    ),
    Seed(
        "I9 no leak", "leaked",
        with_story(lambda story: story.send(5, 8, BOB), (*LOG, message(8, 5, BOB))), "sent after the removal",
    ),
    Seed(
        "I1 durable", "lost",
        with_changes(lambda _: None, with_row(Row(8, "REACTION_ADDED", ADA, "", "message-4"))), "an edit that is lost",
    ),
    Seed("I1 durable", "lost", with_changes(lambda _: None, with_row(replace(LOG[3], says="key-1"))), "an edit undone"),
    Seed("I1 durable", "lost", with_changes(lambda _: None, with_row(replace(LOG[6], says="key"))), "undeleted"),
    Seed("I2 no phantom", "phantom", other("ok", 100, what="fail"), "an edit refused and in the log"),
    Seed(
        "I2 no phantom", "phantom",
        with_changes(lambda _: None, (*CHANGED_LOG, replace(CHANGED_LOG[-1], seq=11))), "deleted twice, tried once",
    ),
    Seed("I4 total order", "doubled", with_changes(edited_twice_in_a_stream), "the event of an edit twice"),
    Seed("I5 complete", "lost", with_changes(edit_missed), "the event of an edit never came"),
    Seed("I5 complete", "lost", other("recv", 8, kind="REACTED"), "an event of another kind than in the log"),
    Seed("I5 complete", "lost", other("recv", 8, copies=(EDITED._replace(says="key-1"),)), "folded to other content"),
    Seed("I5 complete", "lost", other("recv", 9, copies=(REACTED._replace(reactions=2),)), "folded to other counts"),
    Seed("I5 complete", "lost", other("recv", 10, copies=(DELETED._replace(version=7),)), "folded to another version"),
    Seed("I7 read your writes", "stale", other("ok", 103, seqs=(9, 10), copies=COPIES[1:]), "the own edit is missing"),
    Seed("I7 read your writes", "stale", other("ok", 104, copies=(EDITED._replace(version=4),)), "a copy without it"),
    Seed(
        "I8 monotonic reads", "stale",
        with_changes(lambda story: story.read(106, (4,), copies=(EDITED._replace(version=7),))), "an older copy",
    ),
    Seed("I8 monotonic reads", "stale", other("recv", 9, copies=(REACTED._replace(version=5),)), "older than itself"),
    Seed(
        "I8 monotonic reads", "stale",
        other("ok", 103, copies=(EDITED, REACTED._replace(version=5), DELETED)), "older than its event in a page",
    ),
    Seed(
        "I8 monotonic reads", "reordered",
        with_changes(lambda story: story.read(106, (8,), after=7, of="events", copies=(EDITED,))), "an event is gone",
    ),
    Seed("I9 no leak", "leaked", other("ok", 104, copies=(DELETED._replace(says="key-3"),)), "deleted, and then read"),
    Seed("I9 no leak", "leaked", other("recv", 10, copies=(DELETED._replace(says="key-3"),)), "deleted, in its event"),
    Seed("I9 no leak", "leaked", with_changes(followed_after_the_deletion), "deleted, and followed from before"),
    Seed("I9 no leak", "leaked", with_changes(copy_from_after_the_removal), "a copy from after the removal"),
    Seed(
        "I9 no leak", "leaked",
        with_changes(lambda _: None, with_row(Row(9, "REACTION_ADDED", EVE, "", "message-5"))), "a stranger's reaction",
    ),
    Seed("I10 answered", "hung", with_story(never_answered), "no answer"),
    Seed("I11 bounded", "leftover", left_behind, "a task left behind"),
    Seed("I12 quiet errors", "internal", with_story(closed_by_1011), "closed with 1011"),
    Seed("I12 quiet errors", "internal", traceback_in_a_log, "a defect in a server's log"),
]  # fmt: skip


def test_a_clean_history_has_no_violation() -> None:
    assert violations(run_of(clean())) == []
    assert violations(run_of(changed(), CHANGED_LOG)) == []


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed.invariant}: {seed.name}")
def test_each_seeded_violation_is_reported_by_the_name_of_its_invariant(seed: Seed) -> None:
    found = {(each.invariant, each.counted) for each in violations(seed.run())}
    assert (seed.invariant, seed.counted) in found


def test_every_invariant_has_a_seeded_violation() -> None:
    assert {seed.invariant for seed in SEEDS} == set(INVARIANTS)
    assert len(INVARIANTS) == 12


@pytest.mark.parametrize(
    ("path", "kind"), [(["addReaction"], "fail"), (["addReaction", "message", "reactions"], "unknown")], ids=str
)
def test_only_an_error_of_a_mutations_root_field_says_that_it_was_not_done(path: list[str], kind: str) -> None:
    error = {"message": "You are not a member.", "path": path, "extensions": {"code": "FORBIDDEN"}}
    answer = json.dumps({"data": {"addReaction": None}, "errors": [error]}).encode()
    assert judged(200, answer, is_mutation=True).kind == kind
    assert judged(200, answer, is_mutation=False).kind == "fail"


def test_an_unknown_send_may_be_in_the_log_or_not() -> None:
    story = clean()
    story.send(5, 0, outcome="unknown")
    assert violations(run_of(story)) == []
    assert violations(run_of(story, (*LOG, message(8, 5))))[0].invariant == "I5 complete"  # its stream had ended at 7


def test_an_unknown_change_may_be_in_the_log_as_often_as_it_was_tried_or_not() -> None:
    def found(times: int) -> set[str]:
        story = changed()
        for op in (110, 111):
            story.change(op, "edit", REACTED, outcome="unknown", text="again")
        more = tuple(Row(11 + number, "MESSAGE_EDITED", ADA, "", "message-5") for number in range(times))
        return {each.invariant for each in violations(run_of(story, CHANGED_LOG + more))}

    assert found(0) == set()
    assert found(1) == found(2) == {"I5 complete"}  # its stream had ended at 10
    assert found(3) == {"I2 no phantom", "I5 complete"}


def test_a_client_that_got_a_newer_copy_early_is_no_violation() -> None:
    """An event is shown as its message is now: with the reaction of 9 when the message of 5 is replayed."""
    story = changed()
    story.add("sub_open", sub=95, client="late", user=ADA, group=G, after=4)
    for copy, seq in ((REACTED, 5), (DELETED, 7), (EDITED, 8), (REACTED, 9), (DELETED, 10)):
        kind = {5: "SENT", 7: "SENT", 8: "EDITED", 9: "REACTED", 10: "DELETED"}[seq]
        story.add("recv", sub=95, seq=seq, id=copy.id, kind=kind, copies=(copy,))
    story.add("sub_close", sub=95, client="late")
    assert violations(run_of(story, CHANGED_LOG)) == []


def test_what_a_restored_backup_does_not_have_is_not_lost() -> None:
    story = clean()
    story.send(5, 8)
    story.add("restored", group=G, seq=7)
    assert violations(run_of(story)) == []


def test_a_cursor_of_before_the_restored_backup_that_goes_on_is_reported() -> None:
    story = clean()
    story.add("restored", group=G, seq=5)
    story.add("sub_open", sub=92, client=ADA, user=ADA, group=G, after=7, id="message-7 of before")
    story.add("sub_close", sub=92, client=ADA)
    assert "I5 complete" in {each.invariant for each in violations(run_of(story))}


def test_a_history_is_read_as_it_was_written() -> None:
    lines = changed().lines
    assert history.read(each.line() for each in lines) == lines


def test_the_table_has_every_kind_of_fault_that_belongs_to_delivery_and_names_no_scenario_twice() -> None:
    names = [each.name for each in all_scenarios()]
    assert len(set(names)) == len(names) >= 150
    faults = {fault for each in all_scenarios() for fault in each.faults.split()}
    assert {f"F{number}" for number in range(1, 31)} == faults
    assert 60 <= len(chosen(core=True, only="")) <= 75
    assert {(each.backend, each.nodes) for each in all_scenarios()} == set(CELLS)


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda repair: repair.name)
def test_every_repair_that_can_be_turned_off_has_a_scenario(repair: Repair) -> None:
    assert any(repair.scenario == each.what for each in all_scenarios())


def test_failpoints_are_read_from_a_text_and_a_wrong_one_says_how_they_are_written() -> None:
    armed = failpoints.parsed("before_commit=kill@3,mid_replay=pause")
    assert {name: point.hits_left for name, point in armed.items()} == {"before_commit": 3, "mid_replay": 1}
    for wrong in ("nowhere=kill", "mid_replay=explode", "mid_replay=kill@x"):
        with pytest.raises(ValueError, match=r"NAME=ACTION@N.*before_commit.*kill"):
            failpoints.parsed(wrong)


def test_a_failpoint_acts_at_its_nth_hit_and_nothing_does_without_the_variable() -> None:
    program = "import failpoints\nfor number in range(3): print(number, flush=True); failpoints.reach('mid_replay')"
    command = [sys.executable, "-c", program]

    def run(**environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    armed, free = run(PARLEY_FAILPOINTS="mid_replay=kill@2"), run()
    assert (armed.stdout.split(), armed.returncode) == (["0", "1"], -9)
    assert (free.stdout.split(), free.returncode) == (["0", "1", "2"], 0)


def test_memberships_are_read_from_the_log() -> None:
    run = run_of(clean())
    (bob,) = run.intervals(G, BOB)
    (ada,) = run.intervals(G, ADA)
    assert (bob.joined, bob.left, ada.joined, ada.left) == (3, 6, 1, inf)
