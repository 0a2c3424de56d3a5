"""What a delivery costs: many subscribers of one group, many active groups, and many idle ones beside."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import accumulate, count

from benchmarks import load
from benchmarks.load import Room
from benchmarks.parts import Part, Plot
from benchmarks.rig import FOLLOW, MILLI, Rig, Row, measured, spoken

USERS = 50  # who share the sockets; all are members of every group
BUSY_LISTENERS = 1_000
FEW = 10  # users where groups are many
MOST_PLAIN = 1_000  # subscribers; with 10,000 each message would take the plain server four seconds
PER_GROUP, CALLERS = 2, 8
FOLLOWED = 100
HEAD = "subscription($group: ID!, $after: String)"
DOCUMENTS = {
    "as above": FOLLOW,
    "aliases": HEAD + """ { events: groupMessages(groupId: $group, after: $after) {
        at: cursor
        said: message { key: id place: seq text: content when: createdAt by: sender { key: id name: displayName } }
    } }""",
    "fragments": HEAD + """ { groupMessages(groupId: $group, after: $after) { ...Event } }
        fragment Event on GroupMessageEvent { cursor message { ...Said } }
        fragment Said on Message { id seq content createdAt sender { ...Person } }
        fragment Person on User { id displayName }""",
    "another order": HEAD + """ { groupMessages(after: $after, groupId: $group) {
        message { sender { displayName id } createdAt content seq id } cursor
    } }""",
    "one nested field more": HEAD + """ { groupMessages(groupId: $group, after: $after) {
        cursor message { id seq content createdAt sender { id displayName } group { id } }
    } }""",
}  # fmt: skip
COSTS = {
    "deliveries_per_s": "deliveries/s",
    "server_us": "server CPU, µs per delivery",
    "message_ms": "server CPU, ms per message",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "load_us": "load's CPU, µs per delivery",
}


async def fan_out(rig: Rig) -> AsyncGenerator[Row]:
    """The three servers take turns, so that a change of the machine's mood meets all of them."""
    sizes = rig.sizes([10], [10, 100, 1_000], [10_000])
    parley_of = rig.parley(reach=[len(sizes)] * USERS, messages=[1] * len(sizes))
    async with rig.ready() as ready, parley_of as parley, rig.plain() as plain:
        for number, size in enumerate(sizes):
            for served in (ready, parley, plain):
                if served is not plain or size <= MOST_PLAIN:
                    found = await spoken(rig, served, [Room(number, size)])
                    yield {"server": served.name, "subscribers": size, **found}


async def busy(rig: Rig) -> AsyncGenerator[Row]:
    (listeners,), sizes = rig.sizes([10], [BUSY_LISTENERS]), rig.sizes([2], [1, 4, 16])
    async with rig.parley(reach=[len(sizes)] * USERS, messages=[1] * len(sizes)) as parley, rig.plain() as plain:
        for number, size in enumerate(sizes):
            for served in (parley, plain):
                found = await spoken(rig, served, [Room(number, listeners)], size, patiently=False)
                yield {"server": served.name, "senders": size, **found}


async def documents(rig: Rig) -> AsyncGenerator[Row]:
    """What is asked for, and by how many people, is told apart by its meaning, never by its text."""
    sizes, asked = rig.sizes([10], [100, 1_000]), [(name, text, USERS) for name, text in DOCUMENTS.items()]
    asked.append(("as above, one viewer", FOLLOW, 1))
    rooms = count()
    async with rig.parley(reach=[len(sizes) * len(asked)] * USERS, messages=[1] * len(sizes) * len(asked)) as parley:
        for size in sizes:
            for name, parley.document, parley.viewers in asked:
                yield {"document": name, "subscribers": size, **await spoken(rig, parley, [Room(next(rooms), size)])}


async def groups(rig: Rig) -> AsyncGenerator[Row]:
    sizes = rig.sizes([3], [1, 10, 100, 1_000])
    async with rig.parley(reach=[sum(sizes)] * FEW, messages=[1] * sum(sizes)) as parley:
        for size, used in zip(sizes, accumulate(sizes, initial=0), strict=False):
            rooms = [Room(used + number, PER_GROUP) for number in range(size)]
            yield {"groups": size, "sockets": size * PER_GROUP, **await spoken(rig, parley, rooms, CALLERS)}


async def idle(rig: Rig) -> AsyncGenerator[Row]:
    sizes = rig.sizes([10], [0, 100, 1_000], [10_000])
    there = len(sizes) + max(sizes)
    async with rig.parley(reach=[there] * FEW, messages=[1] * there) as parley:
        for number, size in enumerate(sizes):
            async with load.listening(parley, [Room(len(sizes) + each, 1) for each in range(size)]):
                found = await spoken(rig, parley, [Room(number, FOLLOWED)])
                with measured(parley.family) as cost:
                    await asyncio.sleep(rig.seconds * 2)
            resting = {"resting_ms": cost.server / cost.seconds * MILLI}
            yield {"idle": size, "server_us": found["server_us"], "p99_ms": found["p99_ms"], **resting}


FAN_OUT = Part(
    "fan-out",
    {"server": "server", "subscribers": "subscribers", **COSTS},
    fan_out,
    [Plot("fan-out", "Server CPU per delivery, µs", "subscribers", ["server_us"], by="server")],
)
BUSY = Part("busy", {"server": "server", "senders": "senders", **COSTS}, busy)
DOCUMENTS_ASKED = Part("documents", {"document": "document", "subscribers": "subscribers", **COSTS}, documents)
GROUPS = Part(
    "groups",
    {"groups": "active groups", "sockets": "sockets", **COSTS},
    groups,
    [Plot("groups", "Server CPU per message to a group's two subscribers, ms", "groups", ["message_ms"])],
)
IDLE = Part(
    "idle",
    {
        "idle": "idle groups with a subscriber",
        "server_us": f"server CPU, µs per delivery to {FOLLOWED} in another group",
        "p99_ms": "p99, ms",
        "resting_ms": "server CPU when nobody says anything, ms per second",
    },
    idle,
)
