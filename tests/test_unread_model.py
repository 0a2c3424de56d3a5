"""Any sequence of sending, editing, deleting, marking, leaving and coming back, beside counts and a list of mentions
made by brute force.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from settings import Settings
from tests.folding import Device
from tests.harness import Json, Person, Server, Stack, World, refused, serving
from tests.test_seen_by import seen_by
from tests.test_unread import mark, mark_unread, unread

ADA, BOB, CYD = range(3)  # ada is the admin and stays; bob's device is told where he is
FOLLOW = """subscription { myGroupEvents(snapshot: true) {
  __typename groupId ... on GroupsSnapshotEvent { groups { id } } ... on GroupReadEvent { readSeq } } }"""
MENTIONS = """query ($first: Int!, $after: String) { myMentions(first: $first, after: $after) {
  nodes { id } pageInfo { hasNextPage endCursor } } }"""
SAID = ["hello", "{1}", "@{1}", "@{1} and @{2}", "@all", "@all and @{1}"]
WHO, PLACE = st.sampled_from([ADA, BOB, BOB, CYD]), st.integers(0, 11)
ACTS = st.one_of(
    st.tuples(st.just("send"), WHO, PLACE),
    st.tuples(st.just("edit"), WHO, PLACE),
    st.tuples(st.just("mark"), WHO, PLACE),
    st.tuples(st.just("mark unread"), WHO, PLACE),
    st.tuples(st.just("delete"), st.just(ADA), PLACE),
    st.tuples(st.just("go or come"), st.sampled_from([BOB, CYD]), PLACE),
)
Act = tuple[str, int, int]


@dataclass
class Said:
    """A message, and whom it mentions now."""

    message: Json
    sender: int
    mentions: set[int]
    all: bool


@dataclass
class Model:
    """What is true of one group: its log has a message or nothing at each seq."""

    log: list[Said | None] = field(default_factory=lambda: [None] * 3)  # created, and two members added
    joined: dict[int, int] = field(default_factory=lambda: {ADA: 1, BOB: 2, CYD: 3})
    kept: dict[int, int] = field(default_factory=dict[int, int])
    deleted: set[str] = field(default_factory=set[str])
    told: list[int] = field(default_factory=list[int])

    @property
    def messages(self) -> list[Said]:
        return [said for said in self.log if said]

    def read_seq(self, who: int) -> int:
        return max(self.joined[who], self.kept.get(who, 0))

    def move(self, who: int, seq: int) -> None:
        seq = max(seq, self.joined[who])
        if seq != self.read_seq(who):
            self.kept[who] = seq
            self.told += [seq] if who == BOB else []

    def seen_by(self, people: Sequence[Person]) -> list[list[str]]:
        """Who said they had read as far as each message, by looking at every member."""
        members = sorted(self.joined, key=lambda who: self.joined[who])
        return [
            [people[who].id for who in members if self.kept.get(who, 0) >= said.message["seq"] and who != said.sender]
            for said in self.messages
        ]

    def of_others(self, who: int, after: int) -> list[Said]:
        """By looking at every message there is."""
        return [
            said
            for said in self.messages
            if said.message["seq"] > after and said.sender != who and said.message["id"] not in self.deleted
        ]

    def unread(self, who: int) -> Json:
        left = [
            {"id": each.message["id"], "seq": each.message["seq"]} for each in self.of_others(who, self.read_seq(who))
        ]
        return {
            "readSeq": self.read_seq(who),
            "unreadCount": len(left),
            "mentionCount": len(self.mentioning(who, self.read_seq(who))),
            "firstUnread": left[0] if left else None,
        }

    def mentioning(self, who: int, after: int = 0) -> list[Said]:
        return [
            said
            for said in self.of_others(who, after)
            if who in said.mentions or (said.all and said.message["seq"] > self.joined[who])
        ]

    def say(self, who: int, content: str, message: Json) -> Said:
        """Whom it mentions is judged by who is there when it is said."""
        named = {each for each in (BOB, CYD) if f"@{{{each}}}" in content and each in self.joined}
        return Said(message, who, named, "@all" in content and who == ADA)


@dataclass
class Play:
    world: World
    people: Sequence[Person]
    group_id: str
    model: Model = field(default_factory=Model)

    async def do(self, act: Act) -> None:
        name, who, place = act
        if name == "go or come":
            await self.go_or_come(who)
        elif who not in self.model.joined:
            with refused("FORBIDDEN"):
                await mark(self.people[who], self.group_id, place)
        elif name == "send":
            content = SAID[place % len(SAID)]
            message = await self.world.send(self.people[who], self.group_id, self.written(content))
            self.model.log.append(self.model.say(who, content, message))
        elif name == "edit":
            await self.edit(who, place)
        elif name == "mark":
            await self.mark(who, place)
        elif self.model.messages:
            await self.at_message(name, who, self.model.messages[-1 - place % len(self.model.messages)].message)

    def written(self, content: str) -> str:
        return content.format(*(person.username for person in self.people))

    async def edit(self, who: int, place: int) -> None:
        """The last message of this person that is not deleted; what it says already changes nothing."""
        own = [
            (seq, said)
            for seq, said in enumerate(self.model.log)
            if said and said.sender == who and said.message["id"] not in self.model.deleted
        ]
        if not own:
            return
        seq, said = own[-1]
        content = SAID[place % len(SAID)]
        given = {"messageId": said.message["id"], "content": self.written(content)}
        edited = (await self.people[who].run("EditMessage", input=given))["message"]
        if edited["version"] != said.message["version"]:
            self.model.log[seq] = self.model.say(who, content, edited)
            self.model.log.append(None)

    async def at_message(self, name: str, who: int, message: Json) -> None:
        if name == "mark unread":
            await mark_unread(self.people[who], self.group_id, message["id"])
            self.model.move(who, message["seq"] - 1)
        elif message["id"] not in self.model.deleted:
            await self.people[who].run("DeleteMessage", input={"messageId": message["id"]})
            self.model.deleted.add(message["id"])
            self.model.log.append(None)

    async def mark(self, who: int, place: int) -> None:
        """Near the end of the log, and sometimes beyond it."""
        seq = len(self.model.log) + 2 - place
        if seq > len(self.model.log):
            with refused("BAD_USER_INPUT"):
                await mark(self.people[who], self.group_id, seq)
            return
        await mark(self.people[who], self.group_id, seq)
        self.model.move(who, max(seq, self.model.read_seq(who)))

    async def go_or_come(self, who: int) -> None:
        self.model.log.append(None)
        if self.model.joined.pop(who, None) is None:
            await self.people[ADA].run("AddMember", input={"groupId": self.group_id, "userId": self.people[who].id})
            self.model.joined[who] = len(self.model.log)
        else:
            await self.people[who].run("LeaveGroup", input={"groupId": self.group_id})

    async def check(self) -> None:
        for who in self.model.joined:
            person = self.people[who]
            assert await unread(person, self.group_id) == self.model.unread(who)
            assert await seen_by(person, self.group_id) == self.model.seen_by(self.people)
            assert await inbox(person) == [said.message["id"] for said in self.model.mentioning(who)][::-1]


async def inbox(person: Person) -> list[str]:
    """What mentions the person, page by page."""
    found, after = list[str](), None
    while True:
        page = (await person.client.execute(MENTIONS, {"first": 3, "after": after}))["myMentions"]
        found += [node["id"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return found


async def told(device: Device, group_id: str) -> list[int]:
    """Every position that the device was told of, in order."""
    marker = (await device.person.run("CreateGroup", input={"name": "Marker"}))["group"]["id"]
    moved: list[int] = []
    while (event := await device.stream.event())["groupId"] != marker:
        if event["__typename"] == "GroupReadEvent":
            assert event["groupId"] == group_id
            moved.append(event["readSeq"])
    return moved


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """Hypothesis calls plain functions: a loop of their own, which moves only while one of them runs."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def own_server(stack: Stack, loop: asyncio.Runner) -> Iterator[Server]:
    with stack.fresh() as fresh:
        running = serving(Settings(**fresh))
        yield loop.run(running.__aenter__())
        loop.run(running.__aexit__(None, None, None))


@settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(acts=st.lists(ACTS, min_size=20, max_size=20))
def test_after_any_sequence_what_is_unread_is_what_a_look_at_every_message_finds(
    own_server: Server, loop: asyncio.Runner, acts: list[Act]
) -> None:
    async def play_it() -> None:
        async with World(own_server) as world:
            people = await world.users("ada", "bob", "cyd")
            play = Play(world, people, await world.group(*people))
            device = Device(people[BOB], await people[BOB].socket())
            device.stream = await device.socket.subscribe(FOLLOW)
            await device.stream.event()
            for number, act in enumerate(acts):
                await play.do(act)
                if number % 5 == 0:
                    await play.check()
            await play.check()
            assert await told(device, play.group_id) == play.model.told

    loop.run(play_it())
