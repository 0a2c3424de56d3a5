"""The table: every fault, on every backend and with every number of nodes where it makes sense. Knows no server."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from failpoints import NAMES
from tests.chaos.faults import Fault, brokers, clocks, databases, load, members, misuse, nodes, people, under
from tests.chaos.rig import Backend
from tests.chaos.scene import Body, Scene

Cell = tuple[Backend, int]

CELLS: tuple[Cell, ...] = (("sqlite", 1), ("redis", 1), ("redis", 2), ("postgres", 1), ("postgres", 2))
ENGINES = CELLS[1:]
REDIS, POSTGRES = CELLS[1:3], CELLS[3:]
PAIRS: tuple[Cell, ...] = (("redis", 2), ("postgres", 2))
TYPICAL: tuple[Cell, ...] = (("sqlite", 1), *PAIRS)
COMBINED_STEPS = 5


@dataclass(frozen=True)
class Scenario:
    """One cell of the table: what happens, to which numbered kinds of fault it belongs, where, and whether the short
    run has it.
    """

    what: str
    faults: str
    backend: Backend
    nodes: int
    body: Body
    core: bool = False

    @property
    def name(self) -> str:
        return f"{self.backend} {self.nodes}: {self.what}"

    @property
    def cell(self) -> Cell:
        return self.backend, self.nodes


@dataclass(frozen=True)
class Row:
    """One fault with the cells that it makes sense in; in the short run it is in those of `core` only."""

    what: str
    faults: str
    fault: Fault
    cells: Sequence[Cell] = CELLS
    core: Sequence[Cell] = ()
    nested: bool = False

    def scenarios(self) -> Iterator[Scenario]:
        for backend, count in self.cells:
            body = under(self.fault, nested=self.nested)
            yield Scenario(self.what, self.faults, backend, count, body, (backend, count) in self.core)


NODES = (
    Row("a node is killed", "F1", nodes.killed, core=(CELLS[0], PAIRS[0])),
    *(
        Row(f"a node is killed at {name}", "F1", nodes.stopped_at(name, "kill"), core=cells)
        for name, cells in zip(NAMES, (CELLS[:1], PAIRS[1:], PAIRS[:1], PAIRS[1:]), strict=True)
    ),
    *(Row(f"a node is paused at {name}", "F1 F7", nodes.stopped_at(name, "pause"), PAIRS) for name in NAMES),
    Row("a node is paused", "F1", nodes.paused, core=PAIRS[:1]),
    Row("a node is paused until its clients give up", "F1", nodes.paused_past_patience, core=(("postgres", 2),)),
    Row("all nodes are killed", "F1", nodes.all_killed, PAIRS, core=(("redis", 2),)),
    Row("nodes are told to stop in turn", "F25", nodes.deployed, core=PAIRS),
    Row("nodes start at once", "F26", nodes.started_at_once, CELLS, core=(("postgres", 2),)),
    Row("there is no room for a node's log", "F9", nodes.log_full, ENGINES, core=(("redis", 2),)),
    Row("a node runs out of descriptors", "F28", nodes.out_of_descriptors, core=(("redis", 2),)),
)

BROKERS = (
    Row("broker restarted", "F2", brokers.restarted, ENGINES, core=PAIRS[:1]),
    Row("broker killed for a while", "F2", brokers.killed, REDIS, core=(("redis", 2),)),
    Row("broker forgets everything", "F2", brokers.flushed, REDIS, core=(("redis", 2),)),
    Row("broker ends who listens", "F2", brokers.clients_killed("pubsub"), REDIS, core=(("redis", 2),)),
    Row("broker ends who publishes", "F2", brokers.clients_killed("normal"), REDIS),
    Row("broker pauses its clients", "F3", brokers.commands_paused, REDIS, core=(("redis", 2),)),
    Row("broker stands still", "F3", brokers.stopped, REDIS, core=(("redis", 2),)),
    Row("broker sleeps", "F3", brokers.sleeping, REDIS),
    Row("broker ends who listens", "F2", brokers.listeners_ended, POSTGRES, core=(("postgres", 2),)),
    Row("broker ends who publishes", "F2", brokers.publishers_ended, POSTGRES, core=(("postgres", 2),)),
    *(
        Row(f"the way of every node to the broker is {how}", "F3", brokers.way(how, whole=True), ENGINES, core=cells)
        for how, cells in zip(brokers.WAYS, ((), PAIRS[:1], (), PAIRS[1:], PAIRS[1:], (), ()), strict=True)
    ),
    *(
        Row(f"the way of one node to the broker is {how}", "F5", brokers.way(how, whole=False), PAIRS, core=cells)
        for how, cells in zip(brokers.WAYS, ((), (), PAIRS[:1], (), PAIRS[:1], PAIRS[1:], ()), strict=True)
    ),
    Row("hints dropped", "F4", brokers.astray(drop=0.1), core=(CELLS[0],)),
    Row("hints doubled", "F4", brokers.astray(double=0.5), ENGINES),
    Row("hints shuffled", "F4", brokers.astray(shuffle=0.7), ENGINES),
    Row("hints dropped, doubled and shuffled", "F4", brokers.astray(0.3, 0.3, 0.5), ENGINES, core=PAIRS[:1]),
    Row("all hints dropped", "F4", brokers.all_lost, PAIRS, core=PAIRS[1:]),
)

DATABASES = (
    Row("database crashes and recovers", "F6", databases.restarted("immediate"), ENGINES, core=PAIRS[1:]),
    Row("database restarts", "F6", databases.restarted("fast"), ENGINES),
    Row("database is killed", "F6", databases.restarted("killed"), ENGINES),
    Row("database is away", "F6", databases.away, ENGINES, core=PAIRS[:1]),
    Row("database stands still", "F7", databases.paused, ENGINES, core=(("redis", 2),)),
    Row("database ends its sessions", "F6", databases.sessions_ended, ENGINES, core=(("postgres", 2),)),
    *(
        Row(f"the way to the database is {how}", "F6 F7", databases.way(how), ENGINES, core=cells)
        for how, cells in zip(databases.WAYS, ((), PAIRS[:1], (), PAIRS[1:], PAIRS[:1], (), ()), strict=True)
    ),
    Row("the group's row is locked by somebody", "F7", databases.row_locked, ENGINES, core=(("redis", 2),)),
    Row("tables are locked by somebody", "F7", databases.tables_locked, ENGINES, core=(("postgres", 2),)),
    Row("another process writes for a second", "F8", databases.locked_by_another(1, "IMMEDIATE"), CELLS[:1]),
    Row("another process writes for too long", "F8", databases.locked_by_another(3, "IMMEDIATE"), CELLS[:1], CELLS[:1]),
    Row("another process has the file for itself", "F8", databases.locked_by_another(1, "EXCLUSIVE"), CELLS[:1]),
    Row("the disk is full", "F9", databases.disk_full, CELLS[:1], CELLS[:1]),
    Row("no table may grow", "F9", databases.no_file_may_grow, ENGINES, core=PAIRS[1:]),
    Row("an older backup is restored", "F27", databases.restored, (*CELLS[:1], *PAIRS), core=PAIRS[1:]),
)

PEOPLE = (
    Row("a client reads nothing", "F10", people.reads_nothing, core=(CELLS[0],)),
    Row("a client is half open", "F11", people.half_open, core=PAIRS[:1]),
    Row("a client vanishes without a word", "F11", people.vanishes, core=(CELLS[0],)),
    Row("a client comes and goes thirty times", "F12", people.returns_again_and_again, core=(("redis", 2),)),
    Row("everybody loses the connection at once", "F12", people.all_return_at_once, core=(("postgres", 2),)),
    Row("answers are lost", "F18", people.loses_answers, core=PAIRS[:1]),
    Row("repeats race", "F18", people.repeats_at_once, core=PAIRS[1:]),
    Row("one id is given to two messages", "F19", people.takes_anothers_id, core=(CELLS[0],)),
)

MEMBERS = (
    Row("a member is removed", "F15", members.ends(members.removed), core=PAIRS, nested=True),
    Row(
        "a member is removed while no hint travels", "F15", members.ends(members.removed_without_broker),
        core=PAIRS[:1],
    ),
    Row("a member leaves", "F15", members.ends(members.left), core=(("redis", 2),)),
    Row("a member is removed while its node is paused", "F15", members.removed_while_paused, PAIRS, PAIRS[:1]),
    Row(
        "a member sends while the removal holds the lock", "F15", members.sends_while_the_removal_holds_the_lock,
        PAIRS, PAIRS[1:],
    ),
    Row("a member is removed in a replay", "F15", members.removed_in_a_replay, PAIRS, PAIRS[:1]),
    Row("a member comes and goes", "F16", members.comes_and_goes, core=(CELLS[0],)),
    Row("roles change", "F16", members.changes_roles),
    Row("a group is deleted", "F16", members.group_deleted, core=(("postgres", 2),)),
    Row("a member logs out", "F17", members.loses_token(members.logs_out), core=(("redis", 2),)),
    Row("a member changes the password", "F17", members.loses_token(members.changes_password)),
    Row("a token expires", "F17", members.expires, core=PAIRS[:1]),
    Row("a member is disabled", "F17", members.loses_token(members.is_disabled), core=(("postgres", 2),)),
)  # fmt: skip

LOAD = (
    Row("300 sockets sit there", "F13", load.idle_sockets(300), TYPICAL, core=(PAIRS[0],)),
    Row("2,000 sockets sit there", "F13", load.idle_sockets(2_000), TYPICAL),
    Row("many log in at once", "F29", load.many_log_in, core=(PAIRS[1],)),
)

# What is refused before anything is asked of an engine: one backend of each kind is enough.
MISUSE = (
    Row("payloads are too large", "F20", misuse.large_payloads, TYPICAL, core=CELLS[:1]),
    Row("messages on sockets are malformed", "F21", misuse.malformed_frames, TYPICAL, core=CELLS[:1]),
    Row("requests are hostile", "F22", misuse.hostile_http, TYPICAL, core=PAIRS[:1]),
    Row("requests are half sent", "F23", misuse.half_sent, TYPICAL, core=PAIRS[1:]),
    Row("documents are expensive", "F24", misuse.expensive_documents, TYPICAL, core=PAIRS[:1]),
)

CLOCKS = (
    Row("a clock is an hour ahead", "F14", clocks.moved(1)),
    Row("a clock is an hour behind", "F14", clocks.moved(-1)),
    Row("a clock jumps to and fro", "F14", clocks.moved(1, -1, 0.5), core=(("postgres", 2),)),
)


def fitting(backend: Backend, count: int) -> list[Fault]:
    """What a random schedule may do in this cell: all that leaves the rig as it was."""
    harmless = (*NODES[:1], *NODES[9:11], *BROKERS, *DATABASES[:-3], *PEOPLE[1:], *MEMBERS, *MISUSE, *CLOCKS)
    return [row.fault for row in harmless if (backend, count) in row.cells]


def _combined(backend: Backend, count: int, number: int) -> Body:
    """Faults one after the other, as the seed says."""

    async def body(scene: Scene) -> None:
        chosen = random.Random(f"{scene.seed} {number}").sample(fitting(backend, count), COMBINED_STEPS)
        async with scene.talk() as talk:
            for fault in chosen:
                await talk.flow(3)
                await fault(scene, talk)
                if not talk.senders or all(sender.stopped for sender in talk.senders):
                    talk.send(talk.members[0])
            await talk.flow(3)

    return body


def _combinations() -> Iterator[Scenario]:
    for backend, count in CELLS:
        for number in range(4):
            body = _combined(backend, count, number)
            yield Scenario(
                f"{COMBINED_STEPS} faults at random, {number}",
                "F30",
                backend,
                count,
                body,
                number == 0 and (backend, count) in TYPICAL,
            )


def all_scenarios() -> list[Scenario]:
    """The whole table, by cell, so that each rig is built once."""
    rows = chain(NODES, BROKERS, DATABASES, PEOPLE, LOAD, MISUSE, MEMBERS, CLOCKS)
    found = [*chain.from_iterable(row.scenarios() for row in rows), *_combinations()]
    return sorted(found, key=lambda each: CELLS.index((each.backend, each.nodes)))


def chosen(*, core: bool, only: str) -> list[Scenario]:
    """Those of the short run, or all; of them those whose name or fault has this in it."""
    return [
        each
        for each in all_scenarios()
        if (each.core or not core) and (only in each.name or only in each.faults.split() or not only)
    ]
