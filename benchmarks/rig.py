"""What every benchmark is made of: servers with something in them, rooms that are talked in, and what it cost."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, count
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.filling import CONTENT, World, fill
from benchmarks.load import Json, Room
from benchmarks.machine import ROOT, Cpus, Family, Process
from settings import Settings
from tests.engines import Postgres, Redis
from tests.harness import eventually

START_SECONDS = 60
MICRO, MILLI = 1e6, 1e3
Row = dict[str, Any]

FOLLOW = """subscription($group: ID!, $after: String) {
  groupMessages(groupId: $group, after: $after) {
    cursor message { id seq content createdAt sender { id displayName } }
  }
}"""
SEND = """mutation($input: SendGroupMessageInput!) { sendGroupMessage(input: $input) { message { id seq } } }"""
PLAIN_FOLLOW = """subscription($group: String!) {
  groupMessages(groupId: $group) { cursor message { id seq content createdAt sender { id displayName } } }
}"""
PLAIN_SEND = """mutation($group: String!, $content: String!) {
  sendGroupMessage(groupId: $group, content: $content) { id seq }
}"""
NEWS = """subscription {
  myGroupEvents(snapshot: true) {
    __typename
    groupId
    group { id name }
    ... on GroupsSnapshotEvent { groups { id name memberCount headCursor } }
  }
}"""
UPDATE = """mutation($input: UpdateGroupInput!) { updateGroup(input: $input) { group { id } } }"""


class Scale(StrEnum):
    """How much is done: `SMOKE` shows that it runs, `DEFAULT` takes minutes, `FULL` has the largest sizes as well."""

    SMOKE = "smoke"
    DEFAULT = "default"
    FULL = "full"


class Served:
    """A running server, and how it is spoken to."""

    name = ""
    resumes = False

    def __init__(self, start: Callable[[int], Process]) -> None:
        self._start = start
        self.process = start(0)
        self.port = self.process.port

    @property
    def family(self) -> Family:
        return self.process.family

    def init(self, number: int) -> Json:
        return {}

    def following(self, room: Room, number: int) -> Json:
        return {"query": PLAIN_FOLLOW, "variables": {"group": str(room.number)}}

    def saying(self, room: Room) -> bytes:
        return load.posting({"query": PLAIN_SEND, "variables": {"group": str(room.number), "content": CONTENT}})

    async def answers(self) -> bool:
        self.process.check()
        try:
            async with load.calling(self.port, 1) as (caller,):
                await caller.post(load.posting({"query": "{ __typename }"}))
        except (OSError, load.Failed):
            return False
        return True

    async def begin(self) -> None:
        await eventually(self.answers, START_SECONDS)

    async def restart(self) -> None:
        """The same server on the same port, with nothing in its memory."""
        await asyncio.to_thread(self.process.stop)
        self.process = self._start(self.port)
        await self.begin()


class Ready(Served):
    """Writes ready bytes, and answers nothing else."""

    name = "ready bytes"


class Plain(Served):
    name = "plain Strawberry"


class Parley(Served):
    """With `world` in it. Listeners have missed as many events as their room says."""

    name = "Parley"
    resumes = True

    def __init__(self, start: Callable[[int], Process], url: str, world: World) -> None:
        super().__init__(start)
        self.url = url
        self.world = world
        self.document = FOLLOW  # what listeners subscribe with
        self.viewers = len(world.tokens)  # who they are

    def init(self, number: int) -> Json:
        return {"authorization": f"Bearer {self.world.tokens[number % self.viewers]}"}

    def following(self, room: Room, number: int) -> Json:
        group = self.world.groups[room.number]
        variables = {"group": group.id, "after": group.position(group.head - room.behind)}
        return {"query": self.document, "variables": variables}

    def asking(self, query: str, variables: Json, user: int = 0) -> bytes:
        """A request of a user, the first unless another is named."""
        authorization = f"Authorization: Bearer {self.world.tokens[user]}\r\n"
        return load.posting({"query": query, "variables": variables}, authorization)

    def saying(self, room: Room) -> bytes:
        return self.asking(SEND, {"input": {"groupId": self.world.groups[room.number].id, "content": CONTENT}})


class ParleyNews(Parley):
    """Everybody follows their own news, and what is said is a change of a group."""

    def following(self, room: Room, number: int) -> Json:
        return {"query": NEWS}

    def saying(self, room: Room) -> bytes:
        changed = {"groupId": self.world.groups[room.number].id, "description": f"as of {time.perf_counter_ns()}"}
        return self.asking(UPDATE, {"input": changed})


class Cost:
    """CPU seconds of the servers and of the load, and the time that passed, until `stop`."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families
        self._stopped = False
        self.server, self.load, self.seconds = self._now()

    def _now(self) -> tuple[float, float, float]:
        return sum(each.cpu() for each in self._families), time.process_time(), time.perf_counter()

    def stop(self) -> None:
        if not self._stopped:
            self._stopped, (server, load, seconds) = True, self._now()
            self.server, self.load, self.seconds = server - self.server, load - self.load, seconds - self.seconds


@contextmanager
def measured(*families: Family) -> Generator[Cost]:
    """What the block costs, or its part up to `stop`."""
    cost = Cost(families)
    yield cost
    cost.stop()


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which such a share of them lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def lateness(rooms: Sequence[Room]) -> Row:
    late = list(chain.from_iterable(room.late for room in rooms))
    return {"p50_ms": quantile(late, 0.5) * MILLI, "p99_ms": quantile(late, 0.99) * MILLI}


@dataclass
class Rig:
    """Where and how much is measured. `seconds` is how long each figure is measured for.

    `engines` are running already and go on; without them each benchmark starts its own, which wait for the disk.
    """

    folder: Path
    scale: Scale = Scale.DEFAULT
    seconds: float = 2.0
    cpus: Cpus = field(default_factory=Cpus)
    engines: tuple[Postgres, Redis] | None = None
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def sizes(self, smoke: Sequence[Any], default: Sequence[Any], full: Sequence[Any] = ()) -> Sequence[Any]:
        """Of these the ones to measure; `full` come on top of `default`."""
        if self.scale is Scale.SMOKE:
            return smoke
        return (*default, *full) if self.scale is Scale.FULL else default

    def sqlite(self) -> str:
        """The URL of a new file."""
        return f"sqlite:///{self.folder}/{next(self._numbers)}.db"

    @contextmanager
    def running_engines(self) -> Generator[tuple[Postgres, Redis]]:
        """They share the servers' CPU."""
        if self.engines:
            yield self.engines
            return
        with closing(Postgres(durable=True)) as postgres, closing(Redis()) as redis:
            for engine in (postgres, redis):
                engine.start()
                self.cpus.take_for_server(engine.pid)
            yield postgres, redis

    def process(self, *command: str | Path, port: int = 0, **settings: str) -> Process:
        own = {name.upper() for name in Settings.model_fields}  # a developer's own settings are not measured
        inherited = {name: value for name, value in os.environ.items() if name not in own}
        process = Process([sys.executable, *command], self.folder / "log", inherited | settings, port)
        self.cpus.take_for_server(process.pid)
        return process

    @asynccontextmanager
    async def parley(
        self, *, reach: Sequence[int], messages: Sequence[int], url: str = "", news: bool = False, **settings: str
    ) -> AsyncGenerator[Parley]:
        """A server of a database that was filled like this."""
        url = url or self.sqlite()
        world = await fill(url, reach=reach, messages=messages)
        async with self.node(url, world, news=news, **settings) as served:
            yield served

    @asynccontextmanager
    async def node(self, url: str, world: World, *, news: bool = False, **settings: str) -> AsyncGenerator[Parley]:
        """A server of a database that holds this world; settings as in the environment."""

        def start(port: int) -> Process:
            command = (ROOT / "app.py", "serve", "--port", "{port}")
            return self.process(*command, port=port, DATABASE_URL=url, **settings)

        async with self._served((ParleyNews if news else Parley)(start, url, world)) as served:
            yield served

    @asynccontextmanager
    async def plain(self) -> AsyncGenerator[Plain]:
        database = self.folder / f"{next(self._numbers)}-plain.db"
        command = ("-m", "benchmarks.plain", "{port}", database)
        async with self._served(Plain(lambda port: self.process(*command, port=port))) as served:
            yield served

    @asynccontextmanager
    async def ready(self) -> AsyncGenerator[Ready]:
        async with self._served(Ready(lambda port: self.process("-m", "benchmarks.ready", "{port}", port=port))) as it:
            yield it

    @asynccontextmanager
    async def _served(self, served: Any) -> AsyncGenerator[Any]:
        try:
            await served.begin()
            yield served
        finally:
            await asyncio.to_thread(served.process.stop)


async def spoken(rig: Rig, served: Served, rooms: Sequence[Room], callers: int = 1, *, patiently: bool = True) -> Row:
    """What a delivery costs when each message follows when the last of its room was heard by everybody; not patiently,
    everybody sends into all rooms, as fast as they are answered.
    """
    async with load.listening(served, rooms) as listeners, load.calling(served.port, callers) as calling:
        await load.warmed(served, calling[0], rooms, listeners)
        with measured(served.family) as cost:
            talks = load.shared(served, calling, rooms) if patiently else [(served, each, rooms) for each in calling]
            await load.converse(talks, rig.seconds, patiently=patiently)
    heard, sent = sum(room.heard for room in rooms), sum(len(room.sent) for room in rooms)
    return {
        "deliveries_per_s": heard / cost.seconds,
        "server_us": cost.server / heard * MICRO,
        "message_ms": cost.server / sent * MILLI,
        **lateness(rooms),
        "load_us": cost.load / heard * MICRO,
    }


async def asked(rig: Rig, served: Served, requests: Callable[[], bytes]) -> Row:
    """What a request costs, one after the other."""
    times: list[float] = []
    async with load.calling(served.port, 1) as (caller,):
        for _ in range(3):
            await caller.post(requests())
        with measured(served.family) as cost:
            end = time.perf_counter() + rig.seconds / 2
            while not times or time.perf_counter() < end:
                request, began = requests(), time.perf_counter()
                await caller.post(request)
                times.append(time.perf_counter() - began)
    return {
        "server_ms": cost.server / len(times) * MILLI,
        "p50_ms": quantile(times, 0.5) * MILLI,
        "p99_ms": quantile(times, 0.99) * MILLI,
    }


def data(answer: bytes) -> Mapping[str, Any]:
    return json.loads(answer)["data"]
