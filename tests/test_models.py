"""Any sequence of what people can do in groups, beside a model of it in plain Python.

The model says who may do what, and what each is shown. After the sequence every list that was kept up to date by
events, and every log that was replayed, is what queries answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from settings import Settings
from tests.folding import MARKER, Device, check_from
from tests.harness import GraphQLFailure, Json, Person, Server, Stack, World, serving
from tests.harness.client import JsonValue
from tests.model_acts import (
    ACTS,
    ADA,
    ADMIN,
    BOB,
    CHANGES,
    CYD,
    DAN,
    KINDS,
    MARKING,
    NAMES,
    REACTING,
    SAYING,
    THREADING,
    TOUCHING,
    Act,
    Only,
)
from tests.model_devices import FOLLOW_MESSAGES, MESSAGE, Following, Phone
from tests.model_groups import ACCEPTED, PENDING, ModelGroup, Standing, is_gone, root_of, status
from tests.model_own import (
    SEEN_BY_MEMBERS,
    follow,
    follow_by_reply,
    followed,
    mark,
    newest_reply,
    own_message,
    own_thread,
    read_seq,
    refusal_of_following,
)
from tests.model_reading import (
    COUNTS,
    OWN_THREAD,
    check_inbox,
    check_pages,
    check_threads,
    check_unread,
    polled,
    shown_to,
    threads_of,
)

STEPS = 40
PROFILE = settings(
    max_examples=36,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

CREATE = "mutation ($input: CreateGroupInput!) { createGroup(input: $input) { group { id startCursor } } }"
SEND = f"""mutation ($input: SendGroupMessageInput!) {{ sendGroupMessage(input: $input) {{
    replayed message {{ ...Parts threadRoot {{ version updatedAt thread {{ {OWN_THREAD} }} }} }} }} }}
{MESSAGE}"""
EDIT = f"""mutation ($input: EditMessageInput!) {{ editMessage(input: $input) {{ message {{ ...Parts }} }} }}
{MESSAGE}"""
DELETE = f"""mutation ($input: DeleteMessageInput!) {{ deleteMessage(input: $input) {{ message {{ ...Parts }} }} }}
{MESSAGE}"""
ADD_REACTION = f"""mutation ($input: AddReactionInput!) {{ addReaction(input: $input) {{ message {{ ...Parts }} }} }}
{MESSAGE}"""
REMOVE_REACTION = ADD_REACTION.replace("AddR", "RemoveR").replace("addR", "removeR")
LOG = f"""query ($id: ID!, $after: String!) {{ group(id: $id) {{
    messages(first: 100) {{ nodes {{ ...Parts }} pageInfo {{ hasNextPage }} }}
    messageEvents(after: $after, first: 100) {{ events {{ cursor seq kind message {{ ...Parts }} }} hasMore }} }} }}
{MESSAGE}"""
MESSAGES = "query ($id: ID!) { group(id: $id) { messages(first: 100) { nodes { id seq } } } }"
MARKED = f"group {{ {COUNTS} }}"
THREADED = f"root {{ id thread {{ {OWN_THREAD} }} }}"

SHOWN = {
    "createGroup": CREATE,
    "sendGroupMessage": SEND,
    "editMessage": EDIT,
    "deleteMessage": DELETE,
    "addReaction": ADD_REACTION,
    "removeReaction": REMOVE_REACTION,
}
SELECTED: dict[str, str] = {**dict.fromkeys(MARKING, MARKED), **dict.fromkeys(THREADING, THREADED)}


def document(name: str) -> str:
    """A mutation; of most only the outcome matters."""
    if name in SHOWN:
        return SHOWN[name]
    selected = SELECTED.get(name, "__typename")
    return f"mutation ($input: {name[0].upper()}{name[1:]}Input!) {{ {name}(input: $input) {{ {selected} }} }}"


# Two threads, whose followers have read more and less. One member joined late; one has gone, who began a thread.
OPENING = (
    Act("createGroup", ADA, text="a", with_whom=(CYD, DAN)),
    Act("sendGroupMessage", ADA, text="a"),
    Act("addMember", ADA, whom=BOB),
    Act("sendGroupMessage", DAN, text="a", reply_to=0),
    Act("sendGroupMessage", CYD, text="a"),
    Act("followThread", CYD, message=0),
    Act("markGroupRead", DAN, message=1),
    Act("markGroupRead", BOB, message=2),
    Act("markGroupUnread", BOB, message=0),
    Act("markGroupRead", CYD, message=1),
    Act("leaveGroup", CYD),
    Act("inviteMember", ADA, whom=CYD),
    Act("sendGroupMessage", DAN, text="a", reply_to=2),
    Act("follow", ADA, only=Only("mentions", number=BOB)),
    Act("follow", BOB, only=Only("thread")),
    Act("follow", BOB, only=Only("sender", number=ADA)),
)
DEVICES = ("follow", "unfollow", "look", "reconnect")
# What is told to somebody's devices alone while they stay where they are.
OF_DEVICES = ("GroupReadEvent", "ThreadChangedEvent")
TOLD = ("__typename", "groupId", "actor", "readSeq", "rootId")


class Play:
    """One sequence: what the people do, what the model says, and whether both agree in the end."""

    # A second device, of the one to whom most things happen: it stays connected all the time.
    desk: Device

    def __init__(self, server: Server, people: Sequence[Person]) -> None:
        self.people = people
        self.groups: list[ModelGroup] = []
        self.phones = [Phone(server, person) for person in people]
        self.shares = [True for _ in people]
        # What the devices of each were told of what they have read and follow, and how much of it before the phone's
        # snapshot.
        self.told: list[list[Json]] = [[] for _ in people]
        self.told_before = [0 for _ in people]

    async def begin(self) -> None:
        for phone in self.phones:
            await phone.connect()
        self.desk = await Device.of(self.people[BOB])
        for act in OPENING:
            await self.do(act)

    async def end(self) -> None:
        for phone in self.phones:
            await phone.disconnect()

    async def ask(self, act: Act, group: ModelGroup | None = None) -> Json:
        """The payload, or GraphQLFailure."""
        return await self.ask_with(act, {"groupId": group.id} if group else {})

    async def ask_with(self, act: Act, more: Json) -> Json:
        input = act.input([person.id for person in self.people]) | more
        return (await self.people[act.who].client.execute(document(act.name), {"input": input}))[act.name]

    async def create(self, act: Act) -> None:
        made = (await self.ask(act))["group"]
        others = [who for who in dict.fromkeys(act.with_whom) if who != act.who]
        people = {act.who: Standing(ACCEPTED, ADMIN, 1)}
        people |= {who: Standing(ACCEPTED, joined=joined) for joined, who in enumerate(others, 2)}
        head = len(people)
        self.groups.append(ModelGroup(made["id"], made["startCursor"], act.text, self.people, head, people=people))

    def spelled(self, act: Act) -> Act:
        """With the names of people in what is said."""
        names = [person.username for person in self.people]
        return replace(act, text=act.text.format(*names)) if act.name in SAYING else act

    async def do(self, act: Act) -> None:
        if act.name == "createGroup":
            await self.create(act)
            return
        act = self.spelled(act)
        group = self.groups[act.group % len(self.groups)]
        match act.name:
            case name if name in DEVICES:
                await self.use_phone(act, group)
            case "ask":
                await self.check_own(act.who, group, act.message)
                await self.check_followed(act.who)
            case "updateViewer":
                await self.ask(act)
                self.shares[act.who] = act.accept
            case "sendGroupMessage":
                await self.send(act, group)
            case name if name in TOUCHING:
                await self.touch(act, group)
            case name if name in MARKING:
                await self.mark(act, group)
            case name if name in THREADING:
                await self.follow_thread(act, group)
            case _:
                await self.change(act, group)

    async def use_phone(self, act: Act, group: ModelGroup) -> None:
        phone = self.phones[act.who]
        if act.name == "follow":
            refusal = group.refusal(replace(act, name="groupMessages"))
            await phone.follow(group, group.only(act.only), refusal)
        elif act.name == "unfollow":
            await phone.unfollow(group)
        elif act.name == "look":
            await phone.look()
        else:
            await phone.connect()
            self.told_before[act.who] = len(self.told[act.who])

    async def change(self, act: Act, group: ModelGroup) -> None:
        with self.as_predicted(group.refusal(act), act, group):
            await self.ask(act, group)
            group.apply(act)
        for who, phone in enumerate(self.phones):
            for following in phone.of(group) if group.deleted or who not in group.members() else ():
                if following.stream is not None:
                    await following.read_to_the_end("GROUP_DELETED" if group.deleted else "MEMBERSHIP_ENDED")

    @contextmanager
    def as_predicted(self, code: str | None, act: Act, group: ModelGroup) -> Generator[None]:
        """Passes if what is inside is refused with this code, or is not refused when that is None."""
        refusal: GraphQLFailure | None = None
        try:
            yield
        except GraphQLFailure as failure:
            refusal = failure
        assert (refusal and refusal.code) == code, f"{act}: {refusal or 'done'}"
        if refusal is not None and code == "FORBIDDEN":
            assert refusal.extensions["membershipStatus"] == status(group, act.who)

    async def send(self, act: Act, group: ModelGroup) -> None:
        """An id that its sender has used before gives the earlier message, or CONFLICT."""
        earlier, target = self.sent(act), group.target(act)
        target_id = target["id"] if target else None
        code = group.refusal(act)
        if code is None and (self.is_another(earlier, act, group, target_id) if earlier else is_gone(group, target)):
            code = "CONFLICT"
        with self.as_predicted(code, act, group):
            payload = await self.ask_with(act, {"groupId": group.id, "replyToId": target_id})
            assert payload["replayed"] == (earlier is not None)
            message = payload["message"]
            if root := message["threadRoot"]:
                message["threadRoot"] = {"id": root["id"]}
            if earlier is None:
                group.targets[message["id"]] = target_id
                root_id = root_of(target)
                assert (root and root["id"]) == root_id
                if root_id:
                    group.replies.setdefault(root_id, []).append(message["id"])
                    assert (root["version"], root["updatedAt"]) == (message["version"], message["updatedAt"])
                group.says(message, act)
                group.happened("SENT", message)
                for who in follow_by_reply(group, act.who, message) if root else ():
                    self.tell(who, group, "ThreadChangedEvent", actor=act.who, rootId=root_id)
            if root:
                assert root["thread"] == own_thread(group, act.who, root["id"])
            assert message == (earlier[1] if earlier else group.messages[-1])

    def number_of(self, user_id: str) -> int:
        return next(who for who, person in enumerate(self.people) if person.id == user_id)

    @staticmethod
    def is_another(earlier: tuple[ModelGroup, Json], act: Act, group: ModelGroup, target_id: str | None) -> bool:
        """Whether this is not what the id stands for."""
        of_group, message = earlier
        if of_group is not group or of_group.targets[message["id"]] != target_id:
            return True
        return group.first_content(message) != act.text

    async def touch(self, act: Act, group: ModelGroup) -> None:
        """Edit or delete a message, or react to it. What is so already makes no event."""
        if not group.messages:
            return
        message = group.messages[act.message % len(group.messages)]
        if act.name == "editMessage" and act.accept:  # or hardly anybody edits what is theirs
            act = replace(act, who=self.number_of(message["sender"]["id"]))
        is_own = message["sender"]["id"] == self.people[act.who].id
        code = group.refusal(act) or group.refusal_of_change(act, message, is_own)
        with self.as_predicted(code, act, group):
            shown = (await self.ask_with(act, {"messageId": message["id"]}))["message"]
            if act.name == "editMessage" and message["content"] != act.text:
                assert (shown["content"], shown["editedAt"]) == (act.text, shown["updatedAt"])
                group.says(shown, act)
                group.happened("EDITED", shown)
            elif act.name == "deleteMessage" and message["deletedAt"] is None:
                assert (shown["content"], shown["deletedBy"]["id"]) == ("", self.people[act.who].id)
                assert (shown["mentions"], shown["mentionsAll"]) == ([], False)
                group.reacted[message["id"]] = []
                group.happened("DELETED", shown)
            elif act.name in REACTING and self.toggle(act, group.reacted.setdefault(message["id"], [])):
                group.happened("REACTED", shown)
            assert shown["reactions"] == [
                {"emoji": emoji, "count": len(people)} for emoji, people in group.reactions(message).items()
            ]
            assert shown["thread"] == group.thread(message)
            assert shown == group.messages[act.message % len(group.messages)]
            assert shown["version"] == group.log[-1][1]["version"] or shown == message

    def tell(self, who: int, group: ModelGroup, typename: str, actor: int, **more: JsonValue) -> None:
        """Their devices are told of what is theirs alone."""
        told = {"__typename": typename, "groupId": group.id, "actor": {"id": self.people[actor].id}}
        self.told[who].append(told | more)

    async def mark(self, act: Act, group: ModelGroup) -> None:
        """Move how far somebody has read: on with the one, and to just before a message with the other."""
        if not group.messages:
            return
        who, message = act.who, group.messages[act.message % len(group.messages)]
        to_there = {"upTo": message["seq"]} if act.name == "markGroupRead" else {"messageId": message["id"]}
        with self.as_predicted(group.refusal(act), act, group):
            marked = (await self.ask_with(act, {"groupId": group.id} | to_there))["group"]
            if mark(act, group, message["seq"]):
                self.tell(who, group, "GroupReadEvent", actor=who, readSeq=read_seq(group, who))
            check_unread(self.people[who], group.messages, marked)
            assert marked["readSeq"] == read_seq(group, who)

    async def follow_thread(self, act: Act, group: ModelGroup) -> None:
        """Follow the thread that a message is in, or end that, or say how far one has read it."""
        if not group.messages:
            return
        who, message = act.who, group.messages[act.message % len(group.messages)]
        root_id = (message["threadRoot"] or message)["id"]
        replies = group.replies.get(root_id, [message["id"]])
        # One of the last replies, or what nothing has come to.
        up_to = group.message(replies[-act.place % len(replies)])["seq"] if act.place else group.head + 1
        given: Json = {"messageId": message["id"]} | ({"upTo": up_to} if act.name == "markThreadRead" else {})
        code = group.refusal(act) or refusal_of_following(act, group, root_id, up_to)
        with self.as_predicted(code, act, group):
            root = (await self.ask_with(act, given))["root"]
            if follow(act, group, root_id, up_to):
                self.tell(who, group, "ThreadChangedEvent", actor=who, rootId=root_id)
            assert root == {"id": root_id, "thread": own_thread(group, who, root_id)}

    def toggle(self, act: Act, reacted: list[tuple[str, int]]) -> bool:
        """Whether that changes who reacted with what."""
        own, is_there = (act.text, act.who), (act.text, act.who) in reacted
        if act.name == "addReaction" and not is_there:
            reacted.append(own)
        elif act.name == "removeReaction" and is_there:
            reacted.remove(own)
        else:
            return False
        return True

    def sent(self, act: Act) -> tuple[ModelGroup, Json] | None:
        """The message that this person sent with this id."""
        for group in self.groups:
            for message in group.messages:
                if (message["sender"]["id"], message["clientMessageId"]) == (self.people[act.who].id, act.client_id):
                    return (group, message) if act.client_id else None
        return None

    async def race(self, act: Act) -> None:
        """Do it beside others. It may be refused, but for no other reason than what is true in the group."""
        if act.name == "createGroup":
            await self.create(act)
            return
        act = self.spelled(act)
        group = self.groups[act.group % len(self.groups)]
        try:
            if act.name == "updateViewer":
                await self.ask(act)
            elif act.name in (*TOUCHING, *MARKING, *THREADING) or (act.name, act.reply_to) == ("sendGroupMessage", 0):
                found = await self.people[act.who].client.execute(MESSAGES, {"id": group.id})
                if messages := found["group"]["messages"]["nodes"]:
                    await self.ask_with(act, aimed_at(act, group.id, messages[act.message % len(messages)]))
            else:
                await self.ask(act, group)
        except GraphQLFailure as failure:
            if failure.code not in ("FORBIDDEN", "NOT_FOUND", "CONFLICT", "GROUP_DELETED"):
                raise

    # In the end

    async def check_what_is_kept(self) -> dict[str, list[Json]]:
        """Lists and logs that events made are what queries answer, whatever the model says. The groups' histories."""
        everybody = [person.id for person in self.people]
        made = await self.people[ADA].run("CreateGroup", input={"name": MARKER, "memberIds": everybody})
        for phone in self.phones:
            desk = [self.desk] if phone.person is self.desk.person else []
            await check_from(made["group"]["id"], phone.person, phone.news, *desk)
        readers = {group_id: phone for phone in self.phones for group_id in phone.news.mine.groups}
        return {group.id: await check_log(readers[group.id], group) for group in self.groups if group.id in readers}

    async def check_after_races(self) -> None:
        """What each has not read, of groups and threads, is what a look at every message finds."""
        logs = await self.check_what_is_kept()
        for person, phone in zip(self.people, self.phones, strict=True):
            threads = list[Json]()
            for group_id in logs.keys() & phone.news.mine.groups.keys():
                _, found = await shown_to(person, group_id, group_id)
                check_unread(person, logs[group_id], found)
                check_threads(person, logs[group_id], found["messages"]["nodes"])
                threads += found["messages"]["nodes"]
            assert {each["id"]: each["thread"] for each in await threads_of(person)} == {
                each["id"]: each["thread"] for each in threads if each["thread"] and each["thread"]["viewerFollows"]
            }

    async def check(self) -> None:
        histories = await self.check_what_is_kept()
        for group in self.groups:
            expected = group.messages if group.members() and not group.deleted else None
            assert histories.get(group.id) == expected
            for who in range(len(self.people)):
                await self.check_own(who, group, 0)
        await self.check_reading()
        for who in range(len(self.people)):
            self.check_list(who)
            self.check_told(who)
            await self.check_followed(who)
        for phone in self.phones:
            for following in phone.following:
                if following.stream is not None:
                    await following.read_up_to_now()

    async def check_own(self, who: int, group: ModelGroup, number: int) -> None:
        """What a group and one of its messages are to this person alone: nothing, if they are not a member."""
        message_id = group.messages[number % len(group.messages)]["id"] if group.messages else group.id
        asked = Act("groupMessages", who)
        with self.as_predicted(group.refusal(asked), asked, group):
            node, found = await shown_to(self.people[who], group.id, message_id)
            check_unread(self.people[who], group.messages, found)
            assert found["readSeq"] == read_seq(group, who)
            shown = [own_message(group, who, message, self.shares) for message in group.messages]
            assert found["messages"]["nodes"] == shown
            assert node == (shown[number % len(shown)] if shown else {})

    async def check_followed(self, who: int) -> None:
        """The threads that they follow in groups of which they are a member, by when somebody replied last."""
        wanted = [
            (newest_reply(group, root_id)["createdAt"], {"id": root_id, "thread": own_thread(group, who, root_id)})
            for group in self.groups
            if who in group.members() and not group.deleted
            for root_id in followed(group, who)
        ]
        newest_first = sorted(wanted, key=lambda each: datetime.fromisoformat(each[0]))[::-1]
        assert await threads_of(self.people[who]) == [thread for _, thread in newest_first]

    def check_told(self, who: int) -> None:
        """Each of their devices was told of what they read and follow, in order."""
        devices = [(self.phones[who].news, self.told_before[who])] + ([(self.desk, 0)] if who == BOB else [])
        for device, before in devices:
            told = [
                {key: event[key] for key in event if key in TOLD}
                for event in device.events
                if event["__typename"] in OF_DEVICES
            ]
            assert told == self.told[who][before:]

    async def check_reading(self) -> None:
        """What mentions each member, and what one member of each group reads in every way."""
        groups = [group for group in self.groups if not group.deleted]
        for who, person in enumerate(self.people):
            own = [group for group in groups if who in group.members()]
            await check_inbox(person, [message for group in own for message in group.mentioning(who)])
        for group in groups:
            if group.members() and group.messages:
                reader = self.people[max(group.members())]
                await check_pages(reader, group.id, group.messages)
                await self.check_filters(self.phones[max(group.members())], group)

    async def check_filters(self, phone: Phone, group: ModelGroup) -> None:
        """By a filter of each kind: what is read up to anywhere and from there on, followed and polled."""
        random = Random(len(group.log))
        kinds = tuple(random.sample(KINDS, random.randint(1, 3)))
        by_number = {
            "sender": self.number_of(random.choice(group.messages)["sender"]["id"]),
            "mentions": self.number_of(random.choice(group.mentioned_late() or [self.people[BOB].id])),
            "thread": random.randrange(len(group.messages)),
        }
        for only in (Only("kinds", kinds), *(Only(each, number=number) for each, number in by_number.items())):
            following = Following(group, group.only(only))
            wanted = [(kind, message["version"]) for kind, message in group.shown(following.only)]
            read = random.randint(0, len(wanted))
            await phone.subscribe(following)
            for _ in range(read):
                await following.read()
            await following.stop()
            assert await polled(phone.person, group.id, following.cursor, following.only) == wanted[read:]
            await phone.subscribe(following)
            await following.read_up_to_now()
            await following.stop()

    def check_list(self, who: int) -> None:
        """The person's list is what the model says."""
        groups = {group.id: group for group in self.groups if not group.deleted}
        mine, invited = self.phones[who].news.mine, {id for id, each in groups.items() if status(each, who) == PENDING}
        assert set(mine.invitations) == invited
        assert {
            id: (group["name"], group["description"], group["memberCount"], group["viewerMembership"]["role"])
            for id, group in mine.groups.items()
            if group["name"] != MARKER
        } == {
            id: (each.name, each.description, len(each.members()), each.people[who].role)
            for id, each in groups.items()
            if status(each, who) == ACCEPTED
        }


def aimed_at(act: Act, group_id: str, message: Json) -> Json:
    """The rest of the input for what is done to a message or a thread, or up to there."""
    return {
        "sendGroupMessage": {"groupId": group_id, "replyToId": message["id"]},
        "markGroupRead": {"groupId": group_id, "upTo": message["seq"]},
        "markGroupUnread": {"groupId": group_id, "messageId": message["id"]},
        "markThreadRead": {"messageId": message["id"], "upTo": message["seq"]},
    }.get(act.name, {"messageId": message["id"]})


async def check_log(phone: Phone, group: ModelGroup) -> list[Json]:
    """Replay and polling from the start give the same events, and folded they are the history, which is returned."""
    data = (await phone.person.client.execute(LOG, {"id": group.id, "after": group.start}))["group"]
    history, polled = data["messages"], data["messageEvents"]
    assert not history["pageInfo"]["hasNextPage"]
    assert not polled["hasMore"]
    folded = {event["message"]["id"]: event["message"] for event in polled["events"]}
    assert list(folded.values()) == history["nodes"]
    replay = await phone.socket.subscribe(FOLLOW_MESSAGES, {"groupId": group.id, "after": group.start})
    assert [await replay.event() for _ in polled["events"]] == polled["events"]
    return history["nodes"]


# The tests


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """Hypothesis calls plain functions: a loop of their own, which moves only while one of them runs."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def own_server(stack: Stack, loop: asyncio.Runner) -> Iterator[Server]:
    with stack.fresh() as fresh:
        running = serving(Settings(**fresh, seen_by_members=SEEN_BY_MEMBERS))
        yield loop.run(running.__aenter__())
        loop.run(running.__aexit__(None, None, None))


@asynccontextmanager
async def playing(server: Server) -> AsyncGenerator[Play]:
    """New people with new devices, and a group of some of them."""
    async with World(server) as world:
        play = Play(server, await world.users(*NAMES))
        try:
            await play.begin()
            yield play
        finally:
            await play.end()


@PROFILE
@given(acts=st.lists(ACTS, min_size=STEPS, max_size=STEPS))
def test_after_any_sequence_lists_and_logs_kept_by_events_are_what_queries_answer(
    own_server: Server, loop: asyncio.Runner, acts: list[Act]
) -> None:
    async def play_it() -> None:
        async with playing(own_server) as play:
            for act in acts:
                await play.do(act)
            await play.check()

    loop.run(play_it())


@settings(PROFILE, max_examples=14)
@given(turns=st.lists(st.lists(st.one_of(CHANGES), min_size=3, max_size=3), min_size=7, max_size=7))
def test_after_any_sequence_of_races_lists_and_logs_kept_by_events_are_what_queries_answer(
    own_server: Server, loop: asyncio.Runner, turns: list[list[Act]]
) -> None:
    """Three at a time: who wins is not foretold, but whoever loses is refused in order, and all that is kept agrees."""

    async def play_it() -> None:
        async with playing(own_server) as play:
            for turn in turns:
                await asyncio.gather(*(play.race(act) for act in turn))
            await play.check_after_races()

    loop.run(play_it())
