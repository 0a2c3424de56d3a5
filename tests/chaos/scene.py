"""One scenario under way: people who talk in a group, what is done to them, and the judgement. Knows no fault."""

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from resolvers.cursors import position
from schema import ids
from tests.chaos.authors import Author
from tests.chaos.clients import (
    PASSWORD,
    START,
    Changer,
    Client,
    Desk,
    Person,
    Position,
    Sender,
)
from tests.chaos.evidence import Bounds, Sample
from tests.chaos.history import History
from tests.chaos.readers import Fetcher, Follower, Poller, Stranger
from tests.chaos.rig import Rig
from tests.chaos.wire import Place
from tests.harness import eventually, operation

C = TypeVar("C", bound=Client)

FLOW_SECONDS = 25.0
LEVEL_SECONDS = 20.0


class Void(Exception):
    """The run does not show that its fault happened while deliveries were open."""


@dataclass
class Talk:
    """Everybody in one group. Each client is a task that `end` ends."""

    scene: "Scene"
    group: str
    secret: str
    owner: Person
    members: list[Person]
    senders: list[Sender] = field(default_factory=list[Sender])
    followers: list[Follower] = field(default_factory=list[Follower])
    others: list[Poller | Stranger] = field(default_factory=list["Poller | Stranger"])
    start: str = ""
    neighbours: list["Talk"] = field(default_factory=list["Talk"])
    _tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict[int, "asyncio.Task[None]"])

    def client(
        self, kind: type[C], name: str, person: Person, home: int = 0, places: Sequence[Place] = (), **more: Any
    ) -> C:
        """One of them, at the place of that number first."""
        desk = Desk(places or self.scene.places, home)
        return kind(self.scene.history, f"{name} {self.scene.number()}", person, self.group, desk, **more)

    def begin(self, client: Sender | Follower | Poller | Stranger) -> None:
        match client:
            case Sender():
                self.senders.append(client)
            case Follower():
                self.followers.append(client)
            case _:
                self.others.append(client)
        self._tasks[id(client)] = asyncio.create_task(client.run())

    def follow(self, person: Person, home: int = 0, **more: Any) -> Follower:
        """Another stream of a member, from the log's first event on."""
        follower = self.client(Follower, "follower", person, home, position=Position(self.start), **more)
        self.begin(follower)
        return follower

    def send(self, person: Person, home: int = 0, **more: Any) -> Sender:
        """Another one who sends, and changes what it has sent, until the end."""
        chance = random.Random(f"{self.scene.seed} {self.scene.number()}")
        sender = self.client(Author, "sender", person, home, secret=self.secret, chance=chance, **more)
        self.begin(sender)
        return sender

    def changer(self, home: int = 0) -> Changer:
        return self.client(Changer, "owner", self.owner, home)

    @property
    def newest(self) -> int:
        """The last number that a sender was told."""
        return max((sender.newest for sender in self.senders), default=0)

    @property
    def following(self) -> list[Follower]:
        return [each for each in self.followers if not each.ended]

    async def flow(self, number: int) -> None:
        """Wait until every stream has given so many more events."""
        wanted = {id(each): each.received + number for each in self.following}

        def flows() -> bool:
            self._raise_failures()
            return all(each.received >= wanted.get(id(each), 0) for each in self.following)

        await eventually(flows, FLOW_SECONDS)

    def _raise_failures(self) -> None:
        """What a client did not expect is a defect of the harness."""
        for task in self._tasks.values():
            if task.done():
                task.result()

    async def level(self) -> None:
        """Wait until every stream has given what was acknowledged by now."""
        newest = self.newest
        await eventually(lambda: all(each.position.seq >= newest for each in self.following), LEVEL_SECONDS)

    async def quiet(self) -> None:
        """Let the senders end, and everybody get everything."""
        await self._stop(self.senders)
        await self.level()

    async def ended(self, client: Client) -> None:
        """Wait until that one has ended by itself."""
        async with asyncio.timeout(FLOW_SECONDS):
            await asyncio.shield(self._tasks[id(client)])

    async def leave(self, client: Follower) -> None:
        """That one leaves, and nobody waits for it any more."""
        client.leaves = True
        await self._stop([client])
        self.followers.remove(client)

    async def end(self) -> None:
        """Let the senders end, then everybody level, ask anew what there is, then leave."""
        try:
            for neighbour in self.neighbours:
                await neighbour.end()
            await self.quiet()
            await self.client(Fetcher, "newcomer", self.owner).run()
        finally:
            await self._stop(self.others)
            await self._stop(self.followers)

    async def _stop(self, clients: Sequence[Client]) -> None:
        for each in clients:
            each.stop()
        tasks = [self._tasks.pop(id(each)) for each in clients if id(each) in self._tasks]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=FLOW_SECONDS)
            for task in late:
                task.cancel()
            for task in tasks:
                await task

    async def abandon(self) -> None:
        for neighbour in self.neighbours:
            await neighbour.abandon()
        tasks = tuple(self._tasks.values())
        if not all(task.done() for task in tasks):
            self.scene.history.add("abandoned")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Scene:
    """What a scenario is given. `places` are where its clients ask: the nodes, or proxies before them."""

    rig: Rig
    seed: str
    history: History = field(default_factory=History)
    places: list[Place] = field(default_factory=list[Place])
    talks: list[Talk] = field(default_factory=list[Talk])
    samples: list[Sample] = field(default_factory=list[Sample])
    evidence: list[str] = field(default_factory=list[str])
    bounds: Bounds = field(default_factory=Bounds)
    notes: dict[str, str] = field(default_factory=dict[str, str])
    _numbers: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.places = self.places or [node.place for node in self.rig.nodes]

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    # What is done, and that it happened

    def strike(self, what: str) -> None:
        """The fault begins. Raises Void unless somebody is receiving."""
        if not any(each.received for talk in self.talks for each in talk.following):
            raise Void(f"nobody follows while this happens: {what}")
        self.history.add("fault", code=what)

    async def happened(self, what: str, shows: Callable[[], object], timeout: float = 10) -> None:  # noqa: ASYNC109
        """Wait for what shows that the fault happened. Raises Void."""
        try:
            await eventually(shows, timeout)
        except AssertionError as error:
            raise Void(f"it does not show: {what} ({error})") from None
        self.evidence.append(what)

    def note(self, what: str, value: str) -> None:
        """A figure of this run, which its table shows."""
        self.notes[what] = value

    def delays(self, since: float) -> list[float]:
        """Seconds from the sending of each message to each of its deliveries, of all that was sent after `since`."""
        happenings = self.history.happenings
        began = {each.op: each.t for each in happenings if each.what == "invoke" and each.t >= since}
        sent = {each.id: began[each.op] for each in happenings if each.what == "ok" and each.id and each.op in began}
        return [each.t - sent[each.id] for each in happenings if each.kind == "SENT" and each.id in sent]

    def heal(self) -> None:
        """The fault is over, or for clients as good as over: from here on the recovery is timed."""
        self.history.add("healed")

    # People

    @asynccontextmanager
    async def talk(
        self, senders: int = 2, followers: int = 4, pollers: int = 1, *, nested: bool = False, strangers: int = 1
    ) -> AsyncGenerator[Talk]:
        """People talk in a new group from the begin to the end of this, spread over the places."""
        talk = await self.new_talk(max(senders, 1) + 2)
        self.talks.append(talk)
        try:
            for number in range(followers):
                talk.follow(talk.members[number % len(talk.members)], number, nested=nested and number % 2 == 0)
            for number in range(senders):
                talk.send(talk.members[number], number, roams=number % 2 == 0)
            for number in range(pollers):
                talk.begin(talk.client(Poller, "poller", talk.members[number], number + 1, cursor=talk.start))
            for _ in range(strangers):
                eve = (await self.people("eve"))[0]
                talk.begin(talk.client(Stranger, "stranger", eve, secret=talk.secret))
            yield talk
            await talk.end()
        finally:
            await talk.abandon()

    async def another_talk(self, beside: Talk, followers: int = 3, **more: Any) -> Talk:
        """A second group under way, with people of its own and a sender with these fields; it ends with the first."""
        talk = await self.new_talk(2)
        self.talks.append(talk)
        for number in range(followers):
            talk.follow(talk.members[number % 2], number)
        talk.send(talk.members[0], **more)
        beside.neighbours.append(talk)
        return talk

    async def head(self, talk: Talk) -> Position:
        """The end of the group's log now."""
        async with self.desk() as desk:
            answer = await desk.ask_until_answered(START, {"id": talk.group}, talk.owner.token)
        cursor: str = answer.value["headCursor"]
        return Position(cursor, position(cursor, ids.group(talk.group)).seq)

    async def new_talk(self, members: int) -> Talk:
        """A group with an owner and members; nobody says anything yet."""
        owner, *others = await self.people("owner", *[f"member{number}" for number in range(members)])
        secret = f"secret-{self.random.getrandbits(48):x}"
        given = {"name": "Chaos", "description": secret, "memberIds": [each.id for each in others]}
        async with self.desk() as desk:
            made = await desk.ask_until_answered(operation("CreateGroup"), {"input": given}, owner.token)
            group: str = made.value["group"]["id"]
            start = (await desk.ask_until_answered(START, {"id": group}, owner.token)).value["startCursor"]
        return Talk(self, group, secret, owner, others, start=start)

    async def people(self, *names: str) -> list[Person]:
        return [await self.person(name) for name in names]

    async def person(self, name: str, places: Sequence[Place] = ()) -> Person:
        """Registered at the first of these places that answers."""
        username = f"{name}-{uuid.uuid4().hex[:12]}"
        given = {"username": username, "password": PASSWORD, "firstName": name, "lastName": "Test"}
        async with self.desk(places) as desk:
            payload = (await desk.ask_until_answered(operation("Register"), {"input": given})).value
        return Person(name, payload["viewer"]["id"], username, payload["token"])

    async def log_in(self, person: Person) -> str:
        """Another token."""
        given = {"username": person.username, "password": PASSWORD}
        async with self.desk() as desk:
            return (await desk.ask_until_answered(operation("Login"), {"input": given})).value["token"]

    @asynccontextmanager
    async def desk(self, places: Sequence[Place] = ()) -> AsyncGenerator[Desk]:
        desk = Desk(places or [node.place for node in self.rig.nodes])
        try:
            yield desk
        finally:
            desk.close()


Body = Callable[[Scene], Coroutine[Any, Any, None]]
