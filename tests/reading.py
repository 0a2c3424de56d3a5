"""Reading a group's messages from streams and by polling, and keeping others talking meanwhile. Knows no Python of
Parley.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import count

from tests.harness import GraphQLFailure, Json, Person, Subscription, World


async def start(person: Person, group_id: str) -> str:
    """The stream position before the group's first event."""
    return (await person.run("Group", id=group_id))["startCursor"]


async def read(stream: Subscription, number: int) -> list[Json]:
    """The next events of a stream."""
    return [await stream.event() for _ in range(number)]


async def ended(stream: Subscription) -> tuple[list[Json], Json]:
    """What still came, and the extensions of the one error that ended the stream."""
    events = list[Json]()
    try:
        while True:
            events.append(await stream.event())
    except GraphQLFailure as failure:
        (error,) = failure.errors
        return events, error["extensions"]


def contents(events: Sequence[Json]) -> list[str]:
    return [event["message"]["content"] for event in events]


def seqs(events: Sequence[Json]) -> list[int]:
    return [event["seq"] for event in events]


def the_gap(log: Sequence[Json]) -> int:
    """The one seq between the first and the last message that is no message's."""
    (gap,) = set(range(log[0]["seq"], log[-1]["seq"])) - set(seqs(log))
    return gap


async def polled(person: Person, group_id: str, after: str, first: int | None = None) -> Json:
    """A page of `messageEvents`."""
    return (await person.run("GroupMessageEvents", id=group_id, after=after, first=first))["messageEvents"]


async def whole_log(person: Person, group_id: str, after: str | None = None) -> list[Json]:
    """Every message event after `after`, or of the whole log, by polling."""
    cursor, events = after or await start(person, group_id), list[Json]()
    while True:
        page = await polled(person, group_id, cursor, 100)
        events += page["events"]
        cursor = page["cursor"]
        if not page["hasMore"]:
            return events


@asynccontextmanager
async def chatter(world: World, group_id: str, *senders: Person) -> AsyncGenerator[None]:
    """Each sender sends one message after the other; the last ones are answered when this ends."""
    done = False

    async def talk(sender: Person) -> None:
        for number in count():
            if done:
                return
            await world.send(sender, group_id, f"{sender.username} {number}")

    async with asyncio.TaskGroup() as talking:
        for sender in senders:
            talking.create_task(talk(sender))
        try:
            yield
        finally:
            done = True
