"""Any sequence of what people can do in groups, beside a model of it in plain Python.

The model says who may do what. After the sequence every list that was kept up to date by events, and every log that
was replayed, is what queries answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from settings import Settings
from tests.folding import MARKER, Device, check_from
from tests.harness import GraphQLFailure, Json, Person, Server, Socket, Stack, Subscription, World, refused, serving
from tests.model_reading import check_pages, check_unread, unread

STEPS = 20
NAMES = ("ada", "bob", "cyd", "dan", "eve")
ADA, BOB = 0, 1
PROFILE = settings(
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

MEMBER, MODERATOR, ADMIN = "MEMBER", "MODERATOR", "ADMIN"
PENDING, ACCEPTED, REJECTED = "PENDING", "ACCEPTED", "REJECTED"
EVERYBODY = {MEMBER, MODERATOR, ADMIN}
ROLES_THAT_MAY = {
    "sendGroupMessage": EVERYBODY,
    "editMessage": EVERYBODY,
    "deleteMessage": EVERYBODY,
    "addReaction": EVERYBODY,
    "removeReaction": EVERYBODY,
    "markGroupRead": EVERYBODY,
    "markGroupUnread": EVERYBODY,
    "leaveGroup": EVERYBODY,
    "groupMessages": EVERYBODY,
    "inviteMember": {MODERATOR, ADMIN},
    "removeMember": {MODERATOR, ADMIN},
    "addMember": {ADMIN},
    "changeMemberRole": {ADMIN},
    "updateGroup": {ADMIN},
    "deleteGroup": {ADMIN},
}

CREATE = "mutation ($input: CreateGroupInput!) { createGroup(input: $input) { group { id startCursor } } }"
MESSAGE = """fragment Parts on Message {
    id seq version content clientMessageId createdAt updatedAt editedAt deletedAt sender { id } deletedBy { id }
    reactions { emoji count } threadRoot { id } thread { replyCount lastReply { id } } }"""
WHO_REACTED = """query ($id: ID!) { group(id: $id) { messages(last: 100) { nodes {
    id reactions { emoji viewerHasReacted users(first: 5) { nodes { id } } } } } } }"""
SEND = f"""mutation ($input: SendGroupMessageInput!) {{ sendGroupMessage(input: $input) {{
    replayed message {{ ...Parts threadRoot {{ version updatedAt }} }} }} }}
{MESSAGE}"""
EDIT = f"""mutation ($input: EditMessageInput!) {{ editMessage(input: $input) {{ message {{ ...Parts }} }} }}
{MESSAGE}"""
DELETE = f"""mutation ($input: DeleteMessageInput!) {{ deleteMessage(input: $input) {{ message {{ ...Parts }} }} }}
{MESSAGE}"""
ADD_REACTION = f"""mutation ($input: AddReactionInput!) {{ addReaction(input: $input) {{ message {{ ...Parts }} }} }}
{MESSAGE}"""
REMOVE_REACTION = ADD_REACTION.replace("AddR", "RemoveR").replace("addR", "removeR")
FOLLOW_MESSAGES = f"""subscription ($groupId: ID!, $after: String) {{
    groupMessages(groupId: $groupId, after: $after) {{ cursor seq kind message {{ ...Parts }} }} }}
{MESSAGE}"""
LOG = f"""query ($id: ID!, $after: String!) {{ group(id: $id) {{
    messages(first: 100) {{ nodes {{ ...Parts }} pageInfo {{ hasNextPage }} }}
    messageEvents(after: $after, first: 100) {{ events {{ cursor seq kind message {{ ...Parts }} }} hasMore }} }} }}
{MESSAGE}"""


MARK_READ = """mutation ($input: MarkGroupReadInput!) { markGroupRead(input: $input) {
    group { readSeq unreadCount firstUnread { id } } } }"""
MARK_UNREAD = MARK_READ.replace("GroupRead", "GroupUnread")

SHOWN = {
    "createGroup": CREATE,
    "sendGroupMessage": SEND,
    "editMessage": EDIT,
    "deleteMessage": DELETE,
    "addReaction": ADD_REACTION,
    "removeReaction": REMOVE_REACTION,
    "markGroupRead": MARK_READ,
    "markGroupUnread": MARK_UNREAD,
}
MARKING = ("markGroupRead", "markGroupUnread")
REACTING = ("addReaction", "removeReaction")
TOUCHING = ("editMessage", "deleteMessage", *REACTING)


def document(name: str) -> str:
    """A mutation; of most only the outcome matters."""
    if name in SHOWN:
        return SHOWN[name]
    return f"mutation ($input: {name[0].upper()}{name[1:]}Input!) {{ {name}(input: $input) {{ __typename }} }}"


# What may be done


@dataclass(frozen=True)
class Act:
    """Somebody does something; people, groups and messages by number. What does not belong to the operation is not
    looked at.
    """

    name: str
    who: int
    group: int = 0
    whom: int = 0
    role: str = MEMBER
    text: str = ""
    client_id: str | None = None
    accept: bool = True
    message: int = 0
    reply_to: int | None = None
    with_whom: tuple[int, ...] = ()

    def __repr__(self) -> str:
        input = {key: value for key, value in self.input(list(NAMES)).items() if value is not None}
        return f"{NAMES[self.who]}: {self.name}(group {self.group}, {input})"

    def input(self, people: Sequence[str]) -> Json:
        """The input of the mutation, without the group."""
        subject = {"userId": people[self.whom]}
        return {
            "createGroup": {"name": self.text, "memberIds": [people[number] for number in self.with_whom]},
            "updateGroup": {"name" if self.accept else "description": self.text},
            "addMember": subject | {"role": self.role},
            "changeMemberRole": subject | {"role": self.role},
            "inviteMember": subject,
            "removeMember": subject,
            "answerInvitation": {"accept": self.accept},
            "sendGroupMessage": {"content": self.text, "clientMessageId": self.client_id},
            "editMessage": {"content": self.text},
            "addReaction": {"emoji": self.text},
            "removeReaction": {"emoji": self.text},
        }.get(self.name, {})


# The creator of most groups acts most often, or nearly everything would be refused.
WHO = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4])
WHOM = st.sampled_from([1, 2, 3, 4, 0])
GROUP = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
ROLE = st.sampled_from([MEMBER, MODERATOR, ADMIN])
TEXT = st.sampled_from(["a", "b", "ü👋"])
ACCEPT = st.booleans()
EMOJI = st.sampled_from(["👍", "tada"])
SENT_BEFORE = st.integers(0, 3)
REPLY_TO = st.sampled_from([None, None, 0, 1, 2])
CLIENT_ID = st.sampled_from([None, None, "1", "2"])


def act(name: str, **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Act]:
    return st.builds(Act, st.just(name), WHO, GROUP, **parts)


CHANGES = (
    act("sendGroupMessage", text=TEXT, client_id=CLIENT_ID, reply_to=REPLY_TO),
    act("editMessage", message=SENT_BEFORE, text=TEXT),
    act("deleteMessage", message=SENT_BEFORE),
    act("addReaction", message=SENT_BEFORE, text=EMOJI),
    act("removeReaction", message=SENT_BEFORE, text=EMOJI),
    act("markGroupRead", message=SENT_BEFORE),
    act("markGroupUnread", message=SENT_BEFORE),
    act("addMember", whom=WHOM, role=ROLE),
    act("inviteMember", whom=WHOM),
    act("answerInvitation", accept=ACCEPT),
    act("removeMember", whom=WHOM),
    act("leaveGroup"),
    act("changeMemberRole", whom=WHOM, role=ROLE),
    act("updateGroup", text=TEXT, accept=ACCEPT),
    act("createGroup", text=TEXT, with_whom=st.lists(WHOM, max_size=3).map(tuple)),
    act("deleteGroup"),
)
ACTS = st.one_of(
    *CHANGES,
    # Twice: a sequence in which nobody follows shows little.
    act("follow"),
    act("follow"),
    act("unfollow"),
    act("look"),
    act("reconnect"),
)


# The model


@dataclass
class Standing:
    status: str
    role: str = MEMBER


@dataclass
class ModelGroup:
    """What is true of one group; people by number."""

    id: str
    start: str
    name: str
    description: str = ""
    deleted: bool = False
    people: dict[int, Standing] = field(default_factory=dict[int, Standing])
    messages: list[Json] = field(default_factory=list[Json])
    # Every event about a message, with the message as the event made it.
    log: list[tuple[str, Json]] = field(default_factory=list[tuple[str, Json]])
    # Everything that a message has been; an event of a reply makes something of its root as well.
    been: list[Json] = field(default_factory=list[Json])

    # The replies to a message, by its id, and which message each of them was sent to.
    replies: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    targets: dict[str, str | None] = field(default_factory=dict[str, str | None])

    # Who reacted to a message with what, by its id, in the order in which they did.
    reacted: dict[str, list[tuple[str, int]]] = field(default_factory=dict[str, list[tuple[str, int]]])

    def reactions(self, message: Json) -> dict[str, list[int]]:
        """Who reacted to it, by emoji."""
        found: dict[str, list[int]] = {}
        for emoji, who in self.reacted.get(message["id"], ()):
            found.setdefault(emoji, []).append(who)
        return found

    def happened(self, kind: str, message: Json) -> None:
        """An event made this of a message."""
        self.log.append((kind, message))
        if kind == "SENT":
            self.messages.append(message)
        self.became(message)
        if kind in ("SENT", "DELETED") and message["threadRoot"]:
            root = self.message(message["threadRoot"]["id"])
            changed = {"version": message["version"], "updatedAt": message["updatedAt"]}
            self.became(root | changed | {"thread": self.thread(root)})

    def became(self, message: Json) -> None:
        self.been.append(message)
        self.messages = [message if each["id"] == message["id"] else each for each in self.messages]

    def message(self, message_id: str) -> Json:
        return next(each for each in self.messages if each["id"] == message_id)

    def thread(self, root: Json) -> Json | None:
        """What is counted of the replies to it."""
        if root["id"] not in self.replies:
            return None
        kept = [each for each in self.replies[root["id"]] if self.message(each)["deletedAt"] is None]
        return {"replyCount": len(kept), "lastReply": {"id": kept[-1]} if kept else None}

    def target(self, act: Act) -> Json | None:
        """The message to reply to."""
        if act.reply_to is None or not self.messages:
            return None
        return self.messages[act.reply_to % len(self.messages)]

    def first_content(self, message: Json) -> str:
        return next(each["content"] for _, each in self.log if each["id"] == message["id"])

    def refusal_of_change(self, act: Act, message: Json, is_own: bool) -> str | None:
        """The code with which editing, deleting or reacting is refused to a member."""
        if act.name in REACTING:
            return "CONFLICT" if act.name == "addReaction" and message["deletedAt"] else None
        deletes_any = act.name == "deleteMessage" and self.people[act.who].role in (MODERATOR, ADMIN)
        if not is_own and not deletes_any:
            return "FORBIDDEN"
        return "CONFLICT" if act.name == "editMessage" and message["deletedAt"] else None

    def members(self) -> dict[int, Standing]:
        return {who: each for who, each in self.people.items() if each.status == ACCEPTED}

    def is_last_admin(self, who: int) -> bool:
        admins = [number for number, each in self.members().items() if each.role == ADMIN]
        return admins == [who] and len(self.members()) > 1

    def refusal(self, act: Act) -> str | None:
        """The code with which this is refused, by what is true now."""
        own = self.people.get(act.who)
        if self.deleted:
            return "GROUP_DELETED" if own and own.status == ACCEPTED else "NOT_FOUND"
        if act.name == "answerInvitation":
            return {PENDING: None, ACCEPTED: "CONFLICT"}.get(own.status if own else "", "FORBIDDEN")
        if own is None or own.status != ACCEPTED or own.role not in ROLES_THAT_MAY[act.name]:
            return "FORBIDDEN"
        return self._refusal_of_subject(act, own, self.people.get(act.whom, Standing("")))

    def _refusal_of_subject(self, act: Act, own: Standing, subject: Standing) -> str | None:
        """What stands in the way of somebody whose role allows it."""
        is_member, is_last_admin = subject.status == ACCEPTED, self.is_last_admin(act.whom)
        ranks_above = own.role == ADMIN or subject.role == MEMBER or act.whom == act.who
        obstacles = {
            "addMember": {"CONFLICT": is_member},
            "inviteMember": {"CONFLICT": is_member},
            "removeMember": {
                "NOT_FOUND": subject.status not in (PENDING, ACCEPTED),
                "FORBIDDEN": not ranks_above,
                "CONFLICT": is_last_admin,
            },
            "changeMemberRole": {
                "NOT_FOUND": not is_member,
                "CONFLICT": is_last_admin and subject.role != act.role,
            },
            "leaveGroup": {"CONFLICT": self.is_last_admin(act.who)},
        }
        return next((code for code, stands in obstacles.get(act.name, {}).items() if stands), None)

    def apply(self, act: Act) -> None:
        """Make true what was done."""
        match act.name:
            case "addMember":
                self.people[act.whom] = Standing(ACCEPTED, act.role)
            case "inviteMember":
                self.people[act.whom] = Standing(PENDING)
            case "answerInvitation":
                self.people[act.who].status = ACCEPTED if act.accept else REJECTED
            case "removeMember":
                self.go(act.whom)
            case "leaveGroup":
                self.go(act.who)
            case "changeMemberRole":
                self.people[act.whom].role = act.role
            case "updateGroup" if act.accept:
                self.name = act.text
            case "updateGroup":
                self.description = act.text
            case "deleteGroup":
                self.deleted = True
                self.end_invitations()
            case _:
                pass

    def go(self, who: int) -> None:
        del self.people[who]
        if not self.members():
            self.end_invitations()

    def end_invitations(self) -> None:
        self.people = {who: each for who, each in self.people.items() if each.status != PENDING}


# The people, as clients


@dataclass
class Following:
    """One group's messages as a device has read them, over reconnects. `stream` is there while it follows."""

    group: ModelGroup
    stream: Subscription | None = None
    events: list[Json] = field(default_factory=list[Json])

    @property
    def cursor(self) -> str:
        return self.events[-1]["cursor"] if self.events else self.group.start

    async def read(self) -> None:
        assert self.stream is not None
        self.events.append(await self.stream.event())

    async def take_what_came(self) -> None:
        while self.stream is not None and self.stream.waiting:
            await self.read()

    async def read_up_to_now(self) -> None:
        while len(self.events) < len(self.group.log):
            await self.read()
        self.check()

    async def read_to_the_end(self, code: str) -> None:
        """The stream has ended, or will, with this code; FORBIDDEN where it had not begun when the membership ended."""
        began_after = self.cursor
        with pytest.raises(GraphQLFailure) as failure:
            await self._read_for_ever()
        assert failure.value.code in (code, "FORBIDDEN")
        assert failure.value.extensions.get("cursor", began_after) == self.cursor
        self.stream = None
        self.check()

    async def _read_for_ever(self) -> NoReturn:
        while True:
            await self.read()

    def check(self) -> None:
        """What was read is the log from its start on, each event once, with a message that is not older than it."""
        made = self.group.log[: len(self.events)]
        assert [(event["kind"], event["seq"]) for event in self.events] == [
            (kind, message["version"]) for kind, message in made
        ]
        for event, (_, message) in zip(self.events, made, strict=True):
            shown = event["message"]
            assert shown["version"] >= message["version"]
            now, *later = [
                each for each in self.group.been if each["id"] == message["id"] and each["version"] >= shown["version"]
            ]
            # Reactions and threads are read after the message: they may be newer than the rest.
            states = [now, *later]
            assert shown["reactions"] in [each["reactions"] for each in states]
            assert shown["thread"] in [each["thread"] for each in states]
            assert shown == now | {"reactions": shown["reactions"], "thread": shown["thread"]}


class Phone:
    """A device that loses its connection now and then: groups' messages, and the news from their snapshot on."""

    socket: Socket
    news: Device

    def __init__(self, server: Server, person: Person) -> None:
        self.person = person
        self.following: dict[str, Following] = {}
        self._server = server
        self._connection = AsyncExitStack()

    async def connect(self) -> None:
        """On a new socket: a new snapshot, and each stream after the last cursor that was read."""
        await self.disconnect()
        self.socket = await self._connection.enter_async_context(self._server.socket(self.person.token))
        self.news = Device(self.person, self.socket)
        await self.news.follow()
        for following in self.following.values():
            if following.stream is not None:
                await self._subscribe(following)

    async def disconnect(self) -> None:
        await self._connection.aclose()

    async def _subscribe(self, following: Following) -> None:
        variables = {"groupId": following.group.id, "after": following.cursor}
        following.stream = await self.socket.subscribe(FOLLOW_MESSAGES, variables)

    async def follow(self, group: ModelGroup, refusal: str | None) -> None:
        """Follow from where the device left off, or from the group's start; refused with this code, if with any."""
        following = self.following.setdefault(group.id, Following(group))
        if following.stream is not None:
            return
        await self._subscribe(following)
        if refusal is not None:
            with refused(refusal):
                await following.read()
            following.stream = None

    async def unfollow(self, group: ModelGroup) -> None:
        following = self.following.get(group.id)
        if following is not None and following.stream is not None:
            await following.take_what_came()
            await following.stream.complete()
            following.stream = None

    async def look(self) -> None:
        """Take what has come so far."""
        await self.socket.ping()
        for following in self.following.values():
            await following.take_what_came()


class Play:
    """One sequence: what the people do, what the model says, and whether both agree in the end."""

    # A second device, of the one to whom most things happen: it stays connected all the time.
    desk: Device

    def __init__(self, server: Server, people: Sequence[Person]) -> None:
        self.people = people
        self.groups: list[ModelGroup] = []
        self.phones = [Phone(server, person) for person in people]

    async def begin(self) -> None:
        for phone in self.phones:
            await phone.connect()
        self.desk = await Device.of(self.people[BOB])
        await self.create(Act("createGroup", ADA, text="a", with_whom=(BOB,)))

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
        others = {who: Standing(ACCEPTED) for who in act.with_whom}
        people = others | {act.who: Standing(ACCEPTED, ADMIN)}
        self.groups.append(ModelGroup(made["id"], made["startCursor"], act.text, people=people))

    async def do(self, act: Act) -> None:
        group = self.groups[act.group % len(self.groups)]
        phone = self.phones[act.who]
        match act.name:
            case "createGroup":
                await self.create(act)
            case "follow":
                await phone.follow(group, group.refusal(replace(act, name="groupMessages")))
            case "unfollow":
                await phone.unfollow(group)
            case "look":
                await phone.look()
            case "reconnect":
                await phone.connect()
            case "sendGroupMessage":
                await self.send(act, group)
            case name if name in TOUCHING:
                await self.touch(act, group)
            case name if name in MARKING:
                await self.mark(act, group)
            case _:
                await self.change(act, group)

    async def change(self, act: Act, group: ModelGroup) -> None:
        with self.as_predicted(group.refusal(act), act, group):
            await self.ask(act, group)
            group.apply(act)
        for who, phone in enumerate(self.phones):
            following = phone.following.get(group.id)
            if following is not None and following.stream is not None and (group.deleted or who not in group.members()):
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
                group.happened("SENT", message)
            assert message == (earlier[1] if earlier else group.messages[-1])

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
        is_own = message["sender"]["id"] == self.people[act.who].id
        code = group.refusal(act) or group.refusal_of_change(act, message, is_own)
        with self.as_predicted(code, act, group):
            shown = (await self.ask_with(act, {"messageId": message["id"]}))["message"]
            if act.name == "editMessage" and message["content"] != act.text:
                assert (shown["content"], shown["editedAt"]) == (act.text, shown["updatedAt"])
                group.happened("EDITED", shown)
            elif act.name == "deleteMessage" and message["deletedAt"] is None:
                assert (shown["content"], shown["deletedBy"]["id"]) == ("", self.people[act.who].id)
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

    async def mark(self, act: Act, group: ModelGroup) -> None:
        """Move how far somebody has read: on with the one, and back or on with the other."""
        if not group.messages:
            return
        person, message = self.people[act.who], group.messages[act.message % len(group.messages)]
        to_there = {"upTo": message["seq"]} if act.name == "markGroupRead" else {"messageId": message["id"]}
        with self.as_predicted(group.refusal(act), act, group):
            before = (await unread(person)).get(group.id, {"readSeq": 0})["readSeq"]
            marked = (await self.ask_with(act, {"groupId": group.id} | to_there))["group"]
            check_unread(person, group.messages, marked)
            if act.name == "markGroupRead":
                assert marked["readSeq"] == max(before, message["seq"])
            else:  # what was sent before they joined stays read
                assert marked["readSeq"] >= message["seq"] - 1

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
        group = self.groups[act.group % len(self.groups)]
        try:
            if act.name in (*TOUCHING, "markGroupUnread"):
                found = await self.people[act.who].client.execute(LOG, {"id": group.id, "after": group.start})
                if ids := [message["id"] for message in found["group"]["messages"]["nodes"]]:
                    in_group = {"groupId": group.id} if act.name in MARKING else {}
                    await self.ask_with(act, {"messageId": ids[act.message % len(ids)]} | in_group)
            elif act.name == "markGroupRead":
                await self.ask_with(act, {"groupId": group.id, "upTo": 1})
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

    async def check(self) -> None:
        histories = await self.check_what_is_kept()
        for group in self.groups:
            expected = group.messages if group.members() and not group.deleted else None
            assert histories.get(group.id) == expected
            await self.check_reactions(group)
        await self.check_reading()
        for who in range(len(self.people)):
            self.check_list(who)
        for phone in self.phones:
            for following in phone.following.values():
                if following.stream is not None:
                    await following.read_up_to_now()

    async def check_reactions(self, group: ModelGroup) -> None:
        """Each member sees who reacted with what, and which of them are their own."""
        for who in group.members() if not group.deleted else ():
            found = await self.people[who].client.execute(WHO_REACTED, {"id": group.id})
            assert found["group"]["messages"]["nodes"] == [
                {
                    "id": message["id"],
                    "reactions": [
                        {
                            "emoji": emoji,
                            "viewerHasReacted": who in people,
                            "users": {"nodes": [{"id": self.people[each].id} for each in people]},
                        }
                        for emoji, people in group.reactions(message).items()
                    ],
                }
                for message in group.messages
            ]

    async def check_reading(self) -> None:
        """What each member has not read, and what one member of each group reads in every way."""
        groups = [group for group in self.groups if not group.deleted]
        for who, person in enumerate(self.people):
            found = await unread(person)
            for group in groups:
                if who in group.members():
                    check_unread(person, group.messages, found[group.id])
        for group in groups:
            if group.members() and group.messages:
                reader = self.people[max(group.members())]
                await check_pages(reader, group.id, group.start, group.messages, group.log)

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


def root_of(target: Json | None) -> str | None:
    """The root of the thread that a reply to this message is in."""
    return (target["threadRoot"] or target)["id"] if target else None


def is_gone(group: ModelGroup, target: Json | None) -> bool:
    """Whether it was deleted before anybody replied."""
    return target is not None and target["deletedAt"] is not None and root_of(target) not in group.replies


def status(group: ModelGroup, who: int) -> str | None:
    return group.people[who].status if who in group.people else None


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
        running = serving(Settings(**fresh))
        yield loop.run(running.__aenter__())
        loop.run(running.__aexit__(None, None, None))


@asynccontextmanager
async def playing(server: Server) -> AsyncGenerator[Play]:
    """New people with new devices, and a group of the first two."""
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


@settings(PROFILE, max_examples=20)
@given(turns=st.lists(st.lists(st.one_of(CHANGES), min_size=3, max_size=3), min_size=7, max_size=7))
def test_after_any_sequence_of_races_lists_and_logs_kept_by_events_are_what_queries_answer(
    own_server: Server, loop: asyncio.Runner, turns: list[list[Act]]
) -> None:
    """Three at a time: who wins is not foretold, but whoever loses is refused in order, and all that is kept agrees."""

    async def play_it() -> None:
        async with playing(own_server) as play:
            for turn in turns:
                await asyncio.gather(*(play.race(act) for act in turn))
            await play.check_what_is_kept()

    loop.run(play_it())
