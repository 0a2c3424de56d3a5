"""A group that is told to all who are in it and outside of it: by every query, mutation and subscription of the schema,
with every field and every argument. It notes what they are shown, and judges nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, cast

from graphql import OperationType

from schema import ids
from tests.everything import Document, cursor_of, everything, input_of, shown, variables
from tests.harness import Client, GraphQLFailure, Json, Person, Socket, Subscription, World, eventually
from tests.harness.client import JsonValue
from tests.harness.world import PASSWORD
from tests.standings import ADMIN, INVITED, MEMBER, MEMBERS, MODERATOR, NO_MEMBERS, Scene, Standing, scenes_for

NOBODY, GONE = Standing("nobody"), Standing("a member who is removed while all streams are open")
OUTSIDE, INSIDE = [NOBODY, *NO_MEMBERS], MEMBERS
# What is said of the group, and to whom it is shown in the end: what was deleted or taken back, to nobody.
SAID: Mapping[str, Sequence[Standing]] = {
    "name": INSIDE,
    "description": INSIDE,
    "content": INSIDE,
    "client-id": INSIDE,
    "emoji": INSIDE,
    "reply": INSIDE,
    "mention": INSIDE,
    "after-the-removal": INSIDE,
    "last": INSIDE,
    "before-the-edit": [MODERATOR, ADMIN],
    "name-when-invited": [INVITED],
    "name-between": [],
    "emoji-taken-back": [],
    "deleted": [],
    "deleted-before-its-edit": [],
    "deleted-emoji": [],
    "deleted-reply": [],
}
# What is not about a group, or what one may outside of it.
OWN_MATTERS = {"register", "login", "logout", "changePassword", "updateViewer", "createGroup", "answerInvitation"}
# One for each that needs no position in a group's log: the group may only be made by it.
MUTATIONS = {
    each.root.removeprefix("Mutation."): each
    for each in everything(OperationType.MUTATION)
    if "$after" not in each.text
}
MESSAGES, NEWS = "Subscription.groupMessages", "Subscription.myGroupEvents"
FOREIGN_CURSOR = "Reactionusers"  # a cursor of the people behind one reaction, asked of others as well
STREAMS = [
    *(
        each
        for each in everything(OperationType.SUBSCRIPTION, varied=True)
        if each.root == MESSAGES and FOREIGN_CURSOR not in each.text
    ),
    *(each for each in everything(OperationType.SUBSCRIPTION) if each.root != MESSAGES),
]
REPLAYS = [each for each in STREAMS if f"{MESSAGES}(after)" in each.given]
Answers = dict[str, str]


@dataclass
class Ears:
    """Every subscription there is, on one socket, and all that was heard by it."""

    socket: Socket
    streams: list[tuple[Document, Subscription]] = field(default_factory=list[tuple[Document, Subscription]])
    heard: list[tuple[Document, Json]] = field(default_factory=list[tuple[Document, Json]])

    async def follow(self, known: Json, documents: Iterable[Document] = STREAMS) -> None:
        for each in documents:
            self.streams.append((each, await self.socket.subscribe(each.text, variables(each.text, known))))

    async def first(self) -> Answers:
        """What each stream begins with: a refusal, or a snapshot, which happens whenever it is asked for."""
        return {document.text: json.dumps(await self._first(document, stream)) for document, stream in self.streams}

    async def _first(self, document: Document, stream: Subscription) -> JsonValue:
        try:
            return _event(await self._next(document, stream)) | {"occurredAt": None}
        except GraphQLFailure as failure:
            return failure.errors

    async def until(self, root: str, **wanted: str) -> None:
        """Every stream of this root has come to an event of which these fields say this."""
        for document, stream in self.streams:
            while document.root == root:
                event = _event(await self._next(document, stream))
                if event | event.get("message", {}) | wanted == event | event.get("message", {}):
                    break

    async def ends(self, root: str) -> list[Json]:
        """The errors with which every stream of this root ends."""
        found: list[Json] = []
        for document, stream in self.streams:
            try:
                while document.root == root:
                    await self._next(document, stream)
            except GraphQLFailure as failure:
                found += failure.errors
        return found

    async def _next(self, document: Document, stream: Subscription) -> Json:
        self.heard.append((document, await stream.next()))
        return self.heard[-1][1]

    async def take_what_came(self) -> list[Json]:
        await self.socket.ping()
        came = [(document, stream.waiting.popleft()) for document, stream in self.streams for _ in [*stream.waiting]]
        self.heard += came
        return [payload for _, payload in came]


def _event(payload: Json) -> Json:
    (event,) = payload["data"].values()
    return event


def membership_id(person: Person, group_id: str) -> str:
    return ids.encode(ids.MEMBERSHIP, ids.group(group_id), ids.user(person.id))


@dataclass
class Telling:
    """One group, and what of it was shown to whom: in answers and first events, `before` and `after` the second half
    of what happens in it, and in between by open streams. `known` is what everybody outside knows: each id, name and
    cursor of the first half. `fields` are those of the schema that showed something to anybody.
    """

    world: World
    sockets: AsyncExitStack
    scenes: dict[Standing, Scene]
    known: Json = field(default_factory=Json)
    fields: set[str] = field(default_factory=set[str])
    before: dict[Standing, Answers] = field(default_factory=dict[Standing, Answers])
    after: dict[Standing, Answers] = field(default_factory=dict[Standing, Answers])
    heard: dict[Standing, list[Json]] = field(default_factory=dict[Standing, list[Json]])
    ends: list[Json] = field(default_factory=list[Json])
    removed_at: int = 0
    declined: Json = field(default_factory=Json)

    @property
    def scene(self) -> Scene:
        return self.scenes[MEMBER]

    def secret(self, what: str) -> str:
        """Short enough for the name of an emoji."""
        return self.scene.secret if what == "name-when-invited" else f"{self.scene.secret[-12:]}-{what}"

    # What somebody does, and what somebody asks

    async def do(self, person: Person, name: str, /, **input: Any) -> Json:
        """A mutation that shows everything; its payload."""
        document = MUTATIONS[name]
        data = await person.client.execute(document.text, {"input": input} if input else None)
        self.note(document, data)
        return data[name]

    async def manage(self, name: str, /, **input: Any) -> None:
        await self.do(self.scene.admin, name, groupId=self.scene.group_id, **input)

    async def say(self, what: str, **more: Any) -> Json:
        said = {"groupId": self.scene.group_id, "content": self.secret(what), **more}
        return (await self.do(self.scene.member, "sendGroupMessage", **said))["message"]

    async def edit(self, message_id: str, what: str) -> None:
        await self.do(self.scene.member, "editMessage", messageId=message_id, content=self.secret(what))

    async def react(self, message_id: str, what: str, name: str = "addReaction") -> None:
        await self.do(self.scene.admin, name, messageId=message_id, emoji=self.secret(what))

    def note(self, document: Document, data: Json) -> None:
        self.fields |= {name for name, _ in shown(document, data)}

    async def ask(self, standing: Standing) -> Answers:
        """All that can be asked, by an admin and from outside in all variations, and by who is outside all that can be
        tried in the group.
        """
        client, answers = self._client(standing), Answers()
        own = [membership_id(self.scenes[standing].actor, self.scene.group_id)] if standing is not NOBODY else []
        known = self.known["ids"] | {"Membership": [*self.known["ids"]["Membership"], *own]}
        for document in everything(OperationType.QUERY, varied=standing not in (MEMBER, MODERATOR)):
            for id in known[document.shows] if "$id" in document.text else [None]:
                given = variables(document.text, self.known | {"id": id})
                response = await client.raw(document.text, given)
                answers[f"{document.text} {id}"] = response.text
                self.note(document, response.json().get("data") or {})
        return answers | (await self._try(client) if standing not in INSIDE else {})

    async def _try(self, client: Client) -> Answers:
        return {
            name: (await client.raw(document.text, {"input": input_of(name, self.known)})).text
            for name, document in MUTATIONS.items()
            if name not in OWN_MATTERS
        }

    def _client(self, standing: Standing) -> Client:
        return self.world.server.client() if standing is NOBODY else self.scenes[standing].actor.client

    async def listen(self, standing: Standing, documents: Sequence[Document] = STREAMS) -> Ears:
        token = None if standing is NOBODY else self.scenes[standing].actor.token
        ears = Ears(await self.sockets.enter_async_context(self.world.server.socket(token)))
        await ears.follow(self.known, documents)
        return ears

    async def look(self, standing: Standing) -> Answers:
        return await (await self.listen(standing)).first() | await self.ask(standing)

    # The story

    async def first_half(self) -> None:
        """What is said first. With it everything is there that is known outside."""
        scene, position = self.scene, await self.scene.head()
        await self.manage("updateGroup", name=self.secret("name-between"), description=self.secret("description"))
        edited = await self.say("before-the-edit", clientMessageId=self.secret("client-id"))
        deleted = await self.say("deleted-before-its-edit")
        replies = [await self.say(what, replyToId=edited["id"]) for what in ("reply", "deleted-reply")]
        await self.edit(deleted["id"], "deleted")
        await self.react(deleted["id"], "deleted-emoji")
        await self.react(edited["id"], "emoji-taken-back")
        await self.do(scene.admin, "followThread", messageId=edited["id"])
        await self.say("mention", content=f"{self.secret('mention')} @{scene.admin.username}")
        self.known |= {
            "ids": {
                "Group": [scene.group_id],
                "Membership": [membership_id(scene.admin, scene.group_id)],
                "Message": [each["id"] for each in (edited, deleted, *replies)],
                "User": [scene.admin.id],
            },
            "groupId": scene.group_id, "messageId": edited["id"], "userId": scene.member.id, "sender": scene.member.id,
            "mentions": scene.admin.id,
            "username": scene.member.username, "after": position, "date": edited["createdAt"], "upTo": edited["seq"],
            "clientMessageId": self.secret("client-id"), "emoji": self.secret("emoji"), "content": "hello",
            "thread": edited["id"], "replyToId": edited["id"], "role": "ADMIN", "name": "Chess", "description": "",
        }  # fmt: skip
        await self._learn_cursors()

    async def _learn_cursors(self) -> None:
        """A cursor of each kind of list, as its members know it."""
        for document in everything(OperationType.QUERY):
            if document.root in ("Query.group", "Query.message") or document.root.startswith("Query.my"):
                given = {"id": self.known["ids"].get(document.shows, [""])[0], "after": self.known["after"]}
                data = await self.scene.admin.client.execute(document.text, variables(document.text, given))
                for name, value in shown(document, data):
                    edges = cast("Json", value).get("edges") if isinstance(value, dict) else None
                    self.known |= {cursor_of(way, name): edges[0]["cursor"] for way in ("after", "before") if edges}

    async def second_half(self) -> None:
        """Everything else that can happen in a group."""
        edited, deleted, _, deleted_reply = self.known["ids"]["Message"]
        scene = self.scene
        await self.edit(edited, "content")
        await self.react(edited, "emoji-taken-back", "removeReaction")
        await self.react(edited, "emoji")
        for message_id in (deleted, deleted_reply):
            await self.do(scene.admin, "deleteMessage", messageId=message_id)
        await self.manage("updateGroup", name=self.secret("name"))
        await self.manage("markGroupRead", upTo=self.known["upTo"])
        await self.manage("markGroupUnread", messageId=edited)
        await self.do(self.scenes[ADMIN].actor, "markGroupRead", groupId=scene.group_id, upTo=self.known["upTo"])
        await self.do(scene.admin, "markThreadRead", messageId=edited, upTo=self.known["upTo"])
        await self.do(scene.admin, "unfollowThread", messageId=edited)
        for person in (scene.admin, self.scenes[ADMIN].actor):
            await self.do(person, "followThread", messageId=edited)
        await self.manage("sendGroupMessage", content=f"{self.secret('mention')} @all @{scene.member.username}")
        await self.manage("addMember", userId=scene.stranger.id)
        await self.manage("changeMemberRole", userId=scene.stranger.id, role="MODERATOR")
        await self.manage("removeMember", userId=scene.stranger.id)
        await self.manage("inviteMember", userId=scene.stranger.id)

    async def listen_well(self, standing: Standing, documents: Sequence[Document] = STREAMS) -> Ears:
        """`listen` by a member; when this returns each stream has shown something, for which the log has grown."""
        ears = await self.listen(standing, documents)

        async def all_have_heard() -> bool:
            content = f"{self.secret('reply')} @{self.scene.admin.username}"
            await self.say("reply", content=content, replyToId=self.known["thread"])
            await ears.take_what_came()
            return {document.text for document, _ in ears.heard} == {document.text for document in documents}

        await eventually(all_have_heard)
        return ears

    async def admit(self) -> Ears:
        self.scenes[GONE] = replace(self.scene, actor=await self.world.user("gone"))
        await self.manage("addMember", userId=self.scenes[GONE].actor.id)
        await self.do(self.scenes[GONE].actor, "followThread", messageId=self.known["thread"])
        return await self.listen_well(GONE)

    async def remove(self, ears: Ears) -> None:
        """Whoever listens is removed, and at once more happens."""
        await self.manage("removeMember", userId=self.scenes[GONE].actor.id)
        self.removed_at = (await self.say("after-the-removal", replyToId=self.known["thread"]))["seq"] - 1
        await self.manage("updateGroup", description=self.secret("description") + " again")
        self.ends = await ears.ends(MESSAGES)
        await ears.until(NEWS, __typename="RemovedFromGroupEvent")

    async def own_matters(self) -> None:
        """What one does outside of groups, and everything that somebody is told who follows their own groups."""
        boss, user = await self.world.users("boss", "user")
        news = Ears(await user.socket())
        await news.follow(self.known, [each for each in STREAMS if each.root == NEWS and "$after" not in each.text])
        await news.until(NEWS, __typename="GroupsSnapshotEvent")
        own = (await self.do(user, "createGroup", name="Own"))["group"]["id"]
        await news.until(NEWS, __typename="GroupCreatedEvent")
        await self.do(user, "deleteGroup", groupId=own)
        await news.until(NEWS, __typename="GroupDeletedEvent")
        group_id = await self.world.group(boss)
        subject = {"groupId": group_id, "userId": user.id}
        for accept in (False, True):
            await self.do(boss, "inviteMember", **subject)
            await news.until(NEWS, __typename="InvitedToGroupEvent")
            await self.do(user, "answerInvitation", groupId=group_id, accept=accept)
            await news.until(NEWS, __typename="InvitationEndedEvent")
        await news.until(NEWS, __typename="AddedToGroupEvent")
        await self.do(boss, "changeMemberRole", **subject, role="MODERATOR")
        await news.until(NEWS, __typename="GroupUpdatedEvent")
        sent = await self.world.send(boss, group_id)
        await news.until(NEWS, __typename="GroupActivityEvent")
        await self.do(user, "sendGroupMessage", groupId=group_id, content="a reply", replyToId=sent["id"])
        await news.until(NEWS, __typename="ThreadChangedEvent")
        await self.do(user, "markGroupRead", groupId=group_id, upTo=sent["seq"])
        await news.until(NEWS, __typename="GroupReadEvent")
        await self.do(user, "leaveGroup", groupId=group_id)
        await news.until(NEWS, __typename="RemovedFromGroupEvent")
        self.note_heard(news)

    async def log_in_and_out(self) -> None:
        user, names = await self.world.user(), {"firstName": "Ann", "lastName": "Other", "avatarUrl": "/ann.png"}
        username = f"{user.username[:20]}-ann"
        await self.do(user, "register", username=username, password=PASSWORD, **names)
        await self.do(user, "login", username=username, password=PASSWORD)
        await self.do(user, "updateViewer", **names, nickname="Annie")
        await self.do(user, "changePassword", currentPassword=PASSWORD, newPassword="another password")
        await self.do(user, "logout")

    def note_heard(self, ears: Ears) -> None:
        for document, payload in ears.heard:
            self.note(document, payload["data"] or {})


async def tell(world: World) -> Telling:
    """The whole story, from the first word to the last question."""
    async with AsyncExitStack() as sockets:
        telling = Telling(world, sockets, await scenes_for(world, [*NO_MEMBERS, *MEMBERS]))
        await telling.first_half()
        ears = {standing: await telling.listen(standing) for standing in OUTSIDE}
        telling.before = {each: await ears[each].first() | await telling.ask(each) for each in OUTSIDE}
        gone = ears[GONE] = await telling.admit()
        await telling.second_half()
        await telling.remove(gone)
        ears |= {each: await telling.listen_well(each, REPLAYS) for each in INSIDE}
        await telling.say("last", replyToId=telling.known["thread"])
        for each in INSIDE:
            await ears[each].until(MESSAGES, content=telling.secret("last"))
        await telling.own_matters()
        await telling.log_in_and_out()
        for each in ears:
            await ears[each].take_what_came()
            telling.note_heard(ears[each])
        telling.heard = {each: [payload for _, payload in ears[each].heard] for each in ears}
        telling.after = {each: await telling.look(each) for each in [*OUTSIDE, GONE]}
        telling.after |= {each: await telling.ask(each) for each in INSIDE}
        invited = telling.scenes[INVITED].actor
        telling.declined = await telling.do(invited, "answerInvitation", groupId=telling.scene.group_id, accept=False)
    return telling
