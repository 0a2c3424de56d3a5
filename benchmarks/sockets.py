"""What it costs to connect, prove who one is and subscribe, and what a connection holds on which nothing happens."""

from collections.abc import AsyncGenerator

from benchmarks import load
from benchmarks.load import Room
from benchmarks.parts import Part
from benchmarks.rig import MILLI, Rig, Row, measured

USERS = 50
GROUPS = 100
WARM_UP = 50
KIB = 1024


async def connections(rig: Rig) -> AsyncGenerator[Row]:
    """Each time a new server: what a process has once used it keeps."""
    for size in rig.sizes([20], [200, 2_000], [10_000]):
        spread = min(GROUPS, size)
        async with rig.parley(reach=[spread] * USERS, messages=[1] * spread) as parley:
            rooms = [Room(number, size // spread, behind=0) for number in range(spread)]
            warm_up = Room(0, min(size, WARM_UP))
            async with load.listening(parley, [warm_up]):
                await warm_up.until(warm_up.listeners)
            before = parley.family.memory()
            with measured(parley.family) as cost:
                async with load.listening(parley, rooms), load.calling(parley.port, 1) as (caller,):
                    for room in rooms:
                        await caller.post(parley.saying(room))
                        await room.until(room.listeners)
                    cost.stop()
                    held = parley.family.memory() - before
            yield {
                "sockets": size,
                "seconds": cost.seconds,
                "per_s": size / cost.seconds,
                "server_ms": cost.server / size * MILLI,
                "kib": held / size / KIB,
            }


CONNECTIONS = Part(
    "connections",
    {
        "sockets": "subscribed sockets",
        "seconds": "until all have heard a message, s",
        "per_s": "sockets/s",
        "server_ms": "server CPU, ms each",
        "kib": "memory, KiB each",
    },
    connections,
)
