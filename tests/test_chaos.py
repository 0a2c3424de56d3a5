"""The checker of the chaos runs sees: one violation of each invariant is seeded into a clean history, and reported."""

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
from tests.chaos.history import Happening, What
from tests.chaos.repairs import REPAIRS, Repair
from tests.chaos.scenarios import CELLS, all_scenarios, chosen
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

    def read(self, op: int, seqs: tuple[int, ...], user: str = ADA, after: int = 0) -> None:
        self.add("invoke", op=op, kind="read", user=user, client=user, group=G, after=after)
        self.add("ok", op=op, client=user, seqs=seqs)

    def follow(self, sub: int, seqs: tuple[int, ...], user: str = BOB, after: int = 0, end: What = "sub_close") -> None:
        self.add("sub_open", sub=sub, client=user, user=user, group=G, after=after)
        for seq in seqs:
            self.add("recv", sub=sub, seq=seq, id=f"message-{seq}")
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
    story.add("recv", sub=90, seq=4, id="message-4")
    story.send(2, 5)
    story.add("recv", sub=90, seq=5, id="message-5")
    story.read(50, (4, 5))
    story.add("invoke", op=60, kind="remove", user=ADA, client=ADA, group=G, key=BOB)
    story.add("ok", op=60, client=ADA)
    story.add("sub_end", sub=90, client="bob's", code="MEMBERSHIP_ENDED")
    story.send(3, 7)
    story.read(51, (4, 5, 7))
    story.follow(91, (4, 5, 7), user=ADA)
    story.send(4, 0, user=EVE, outcome="fail", code="FORBIDDEN")
    return story


def judged(story: Story, log: tuple[Row, ...] = LOG, samples: tuple[Sample, ...] = (), server_log: str = "") -> Run:
    return Run(story.lines, {G: log}, samples, {"node": server_log})


@dataclass(frozen=True)
class Seed:
    """One violation: of what, how it counts, and the run that has it."""

    invariant: str
    counted: str
    run: Callable[[], Run]
    name: str


def with_story(tell: Callable[[Story], object], log: tuple[Row, ...] = LOG) -> Callable[[], Run]:
    def run() -> Run:
        story = clean()
        tell(story)
        return judged(story, log)

    return run


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
    return judged(clean(), samples=samples)


def traceback_in_a_log() -> Run:
    return judged(clean(), server_log='{"event": "unexpected_error", "level": "error"}\n')


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
    Seed("I10 answered", "hung", with_story(never_answered), "no answer"),
    Seed("I11 bounded", "leftover", left_behind, "a task left behind"),
    Seed("I12 quiet errors", "internal", with_story(closed_by_1011), "closed with 1011"),
    Seed("I12 quiet errors", "internal", traceback_in_a_log, "a defect in a server's log"),
]  # fmt: skip


def test_a_clean_history_has_no_violation() -> None:
    assert violations(judged(clean())) == []


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed.invariant}: {seed.name}")
def test_each_seeded_violation_is_reported_by_the_name_of_its_invariant(seed: Seed) -> None:
    found = {(each.invariant, each.counted) for each in violations(seed.run())}
    assert (seed.invariant, seed.counted) in found


def test_every_invariant_has_a_seeded_violation() -> None:
    assert {seed.invariant for seed in SEEDS} == set(INVARIANTS)
    assert len(INVARIANTS) == 12


def test_an_unknown_send_may_be_in_the_log_or_not() -> None:
    story = clean()
    story.send(5, 0, outcome="unknown")
    assert violations(judged(story)) == []
    assert violations(judged(story, (*LOG, message(8, 5))))[0].invariant == "I5 complete"  # its stream had ended at 7


def test_what_a_restored_backup_does_not_have_is_not_lost() -> None:
    story = clean()
    story.send(5, 8)
    story.add("restored", group=G, seq=7)
    assert violations(judged(story)) == []


def test_a_cursor_of_before_the_restored_backup_that_goes_on_is_reported() -> None:
    story = clean()
    story.add("restored", group=G, seq=5)
    story.add("sub_open", sub=92, client=ADA, user=ADA, group=G, after=7, id="message-7 of before")
    story.add("sub_close", sub=92, client=ADA)
    assert "I5 complete" in {each.invariant for each in violations(judged(story))}


def test_a_history_is_read_as_it_was_written() -> None:
    lines = clean().lines
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
    run = judged(clean())
    (bob,) = run.intervals(G, BOB)
    (ada,) = run.intervals(G, ADA)
    assert (bob.joined, bob.left, ada.joined, ada.left) == (3, 6, 1, inf)
