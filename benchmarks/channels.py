"""How hints should travel: a channel for each group against eight for all. `python -m benchmarks.channels`

Starts a Redis of its own. What it prints are times and CPU of the process that follows, and their ratios in one run.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from redis.asyncio import Redis as Client

from delivery.bus import Bus
from delivery.events import Hint, Log
from tests.engines import Redis

CHANNELS = 8
JOINS = 200  # further groups, one after the other
PIPELINE = 100
MERGED = 100  # hints that wait together are published in one text
SHORTEST = 1e-4  # seconds that make a ratio
DEADLINE = 60


@dataclass
class Listening:
    """A process that follows `followed` of all groups, over channels by `channel_of`."""

    bus: Bus
    followed: dict[UUID, int]
    channel_of: Callable[[UUID], str]
    heard: int = 0
    recoveries: int = 0

    @classmethod
    @asynccontextmanager
    async def to(
        cls, url: str, groups: Sequence[UUID], channel_of: Callable[[UUID], str]
    ) -> AsyncGenerator["Listening"]:
        async with Bus(url) as bus:
            self = cls(bus, dict.fromkeys(groups, 0), channel_of)
            bus.add_recovery_listener(self._recovered)
            yield self

    async def join(self, groups: Sequence[UUID]) -> None:
        channels = dict.fromkeys(map(self.channel_of, groups))
        await asyncio.gather(*(self.bus.join(channel, self._hinted) for channel in channels))

    def _recovered(self) -> None:
        self.recoveries += 1

    def _hinted(self, text: str) -> None:
        for line in text.split("\n"):
            self.heard += 1
            hint = Hint.decode(line)
            if hint is not None and hint.log.id in self.followed:
                self.followed[hint.log.id] = hint.seq


def own_channel(group: UUID) -> str:
    return f"parley.group.{group.hex}"


def shared_channel(group: UUID) -> str:
    return f"parley.{group.int % CHANNELS}"


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not done():  # noqa: ASYNC110  # nothing tells when
            await asyncio.sleep(0.001)


def texts(kind: str, hints: int, groups: Sequence[UUID]) -> Iterator[tuple[str, str]]:
    """Channels and texts; every group in turn."""
    waiting: dict[str, list[str]] = {}
    for number in range(hints):
        group = groups[number % len(groups)]
        channel = own_channel(group) if kind == "own" else shared_channel(group)
        lines = waiting.setdefault(channel, [])
        lines.append(Hint(Log("group", group), number).encode())
        if kind != "merged" or len(lines) == MERGED:
            yield channel, "\n".join(waiting.pop(channel))
    for channel, lines in waiting.items():
        yield channel, "\n".join(lines)


async def publish(kind: str, url: str, hints: int, groups: Sequence[UUID]) -> None:
    """As fast as Redis takes them."""
    connected: Any = Client.from_url(url)  # pyright: ignore[reportUnknownMemberType]
    async with connected as client:
        pipeline = client.pipeline(transaction=False)
        for channel, text in texts(kind, hints, groups):
            pipeline.publish(channel, text)
            if len(pipeline) == PIPELINE:
                await pipeline.execute()
        await pipeline.execute()


async def hear(listening: Listening, kind: str, url: str, hints: int, groups: Sequence[UUID], due: int) -> float:
    """CPU seconds for what another process publishes."""
    cpu, before = time.process_time(), listening.heard
    command = [sys.executable, "-m", "benchmarks.channels", "--publish", kind, url, str(hints)]
    publisher = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE)
    await publisher.communicate("\n".join(group.hex for group in groups).encode())
    await until(lambda: listening.heard - before == due)
    return time.process_time() - cpu


async def measure(redis: Redis, groups: list[UUID], share: int, hints: int, name: str) -> dict[str, float]:
    """Seconds and CPU seconds of one process that follows every `share`-th group."""
    channel_of = own_channel if name == "own" else shared_channel
    followed, url, found = groups[::share], redis.url(), dict[str, float]()
    async with Listening.to(url, followed, channel_of) as listening:
        if name == "shared":
            await listening.join(groups)  # at the start of the process, whatever is followed later
        began, cpu = time.perf_counter(), time.process_time()
        await listening.join(followed if name == "own" else [])
        found |= {"join all": time.perf_counter() - began, "join all, CPU": time.process_time() - cpu}

        began = time.perf_counter()
        for _ in range(JOINS):
            await listening.join([uuid4()] if name == "own" else [])
        found["join one more"] = (time.perf_counter() - began) / JOINS

        due = hints if name == "shared" else sum(number % len(groups) % share == 0 for number in range(hints))
        found["hints, CPU"] = await hear(listening, name, url, hints, groups, due)
        if name == "shared":
            found["merged, CPU"] = await hear(listening, "merged", url, hints, groups, due)

        cpu, before = time.process_time(), listening.recoveries
        await asyncio.to_thread(redis.stop)
        await until(lambda: not listening.bus.well)
        redis.start()
        began = time.perf_counter()
        await until(lambda: listening.recoveries > before)
        found |= {"recovery": time.perf_counter() - began, "recovery, CPU": time.process_time() - cpu}
    return found


async def compare(groups: int, hints: int, share: int) -> None:
    made = [uuid4() for _ in range(groups)]
    with closing(Redis()) as redis:
        redis.start()
        own = await measure(redis, made, share, hints, "own")
        shared = await measure(redis, made, share, hints, "shared")
    print(f"{groups:,} groups, every {share}. of them followed here, {hints:,} hints from another process")
    print(f"{'':16}{'own channels':>14}{'eight':>14}{'ratio':>10}")
    for what, seconds in shared.items():
        other = own.get(what, own["hints, CPU"])
        ratio = f"{other / seconds:>10.2f}" if seconds > SHORTEST else f"{'-':>10}"
        print(f"{what:16}{other * 1_000:>11.2f} ms{seconds * 1_000:>11.2f} ms{ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="channels", description=__doc__)
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--hints", type=int, default=10_000)
    parser.add_argument("--share", type=int, default=1, help="follow every n-th group")
    parser.add_argument("--publish", nargs=3, metavar=("KIND", "URL", "HINTS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.publish:
        kind, url, hints = given.publish
        groups = [UUID(hex=line.strip()) for line in sys.stdin]
        asyncio.run(publish(kind, url, int(hints), groups))
    else:
        asyncio.run(compare(given.groups, given.hints, given.share))


if __name__ == "__main__":
    main()
