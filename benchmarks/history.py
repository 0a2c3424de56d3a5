"""What a long log, and many groups of one user, cost those who send and read."""

import random
from collections.abc import AsyncGenerator, Callable
from functools import partial

from benchmarks import load
from benchmarks.filling import Group
from benchmarks.load import Room
from benchmarks.parts import Part, Plot
from benchmarks.rig import Parley, Rig, Row, asked
from settings import Settings
from tests.counting import statements
from tests.harness import Server, operation, serving

PAGE = 50
PAGE_OF_GROUPS = 10
BEYOND = 10  # pages that an old page is away from both ends, where the log is long enough
HEADS = {
    "server_ms": "server CPU, ms",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
}


async def log(rig: Rig) -> AsyncGenerator[Row]:
    """Logs of different lengths in one database, so that nothing else differs."""
    sizes = rig.sizes([100], [1_000, 100_000], [10_000_000])
    async with rig.parley(reach=[len(sizes)] * 2, messages=sizes) as parley:
        for number, size in enumerate(sizes):
            group = parley.world.groups[number]
            requests: dict[str, Callable[[], bytes]] = {
                "send": partial(parley.saying, Room(number)),
                "newest page": partial(page, parley, group),
                "any older page": partial(older, parley, group),
            }
            for name, request in requests.items():
                yield {"request": name, "messages": size, **await asked(rig, parley, request)}


def page(parley: Parley, group: Group, **before: str) -> bytes:
    return parley.asking(operation("GroupHistory"), {"id": group.id, "last": PAGE, **before})


def older(parley: Parley, group: Group) -> bytes:
    """A page somewhere in the log."""
    margin = min(BEYOND * PAGE, group.messages // 4)
    seq = random.randint(len(group.members) + margin, group.head - margin)
    return page(parley, group, before=group.page(seq))


async def my_groups(rig: Rig) -> AsyncGenerator[Row]:
    """A page of one's groups, of users who are in different numbers of them; then the same with statements counted."""
    sizes = rig.sizes([3, 10], [10, 100, 1_000])
    reach = [max(sizes), *sizes]
    async with rig.parley(reach=reach, messages=[1] * max(sizes)) as parley:
        requests = [page_of_groups(parley, user) for user in range(1, len(reach))]
        found = [await asked(rig, parley, partial(bytes, request)) for request in requests]
    async with serving(Settings(database_url=parley.url, log_level="error")) as server:
        for size, request, row in zip(sizes, requests, found, strict=True):
            yield {"groups": size, "statements": await statements_of(server, request), **row}


async def statements_of(server: Server, request: bytes) -> int:
    """How many a request takes that has been answered before."""
    async with load.calling(server.port, 1) as (caller,):
        await caller.post(request)
        with statements(server) as seen:
            await caller.post(request)
    return len(seen)


def page_of_groups(parley: Parley, user: int) -> bytes:
    return parley.asking(operation("MyGroups"), {"first": PAGE_OF_GROUPS}, user)


LOG = Part(
    "log",
    {"request": "request", "messages": "messages in the log", **HEADS},
    log,
    [Plot("log", "Server CPU per request, ms", "messages", ["server_ms"], by="request")],
)
MY_GROUPS = Part("my-groups", {"groups": "groups of the user", "statements": "statements", **HEADS}, my_groups)
