"""The devices of people in the model: the streams that they follow, and what they have read of them over reconnects.
Knows no Python of Parley.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import NoReturn

import pytest

from tests.folding import Device
from tests.harness import GraphQLFailure, Json, Person, Server, Socket, Subscription, refused
from tests.model_groups import ModelGroup

MESSAGE = """fragment Parts on Message {
    id seq version content clientMessageId createdAt updatedAt editedAt deletedAt sender { id } deletedBy { id }
    reactions { emoji count } threadRoot { id } thread { replyCount lastReply { id } }
    mentionsAll mentions { start length user { id } } }"""
FOLLOW_MESSAGES = f"""subscription ($groupId: ID!, $after: String, $filter: MessageEventFilter) {{
    groupMessages(groupId: $groupId, after: $after, filter: $filter) {{ cursor seq kind message {{ ...Parts }} }} }}
{MESSAGE}"""


@dataclass
class Following:
    """One group's messages, or those that a filter shows, as a device has read them, over reconnects. `stream` is there
    while it follows.
    """

    group: ModelGroup
    only: Json | None = None
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

    async def stop(self) -> None:
        assert self.stream is not None
        await self.stream.complete()
        self.stream = None

    async def read_up_to_now(self) -> None:
        assert self.stream is not None
        while len(self.events) < len(self.group.shown(self.only)):
            await self.read()
        await self.stream.nothing()
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
        """What was read is that part of the log, each event once, with a message that is not older than it."""
        made = self.group.shown(self.only)[: len(self.events)]
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
        self.following: list[Following] = []
        self._server = server
        self._connection = AsyncExitStack()

    async def connect(self) -> None:
        """On a new socket: a new snapshot, and each stream after the last cursor that was read."""
        await self.disconnect()
        self.socket = await self._connection.enter_async_context(self._server.socket(self.person.token))
        # What nobody has read would keep a goodbye from being heard.
        self._connection.callback(self.socket.lose)
        self.news = Device(self.person, self.socket)
        await self.news.follow()
        for following in self.following:
            if following.stream is not None:
                await self.subscribe(following)

    def of(self, group: ModelGroup) -> list[Following]:
        """What it follows of this group, or has followed."""
        return [following for following in self.following if following.group is group]

    async def disconnect(self) -> None:
        await self._connection.aclose()

    async def subscribe(self, following: Following) -> None:
        variables = {"groupId": following.group.id, "after": following.cursor, "filter": following.only}
        following.stream = await self.socket.subscribe(FOLLOW_MESSAGES, variables)

    async def follow(self, group: ModelGroup, only: Json | None, refusal: str | None) -> None:
        """Follow with this filter as well, from the group's start, and with each earlier one from where the device left
        off; refused with this code, if with any.
        """
        if all(following.only != only for following in self.of(group)):
            self.following.append(Following(group, only))
        for following in self.of(group):
            if following.stream is None:
                await self.subscribe(following)
                if refusal is not None:
                    with refused(refusal):
                        await following.read()
                    following.stream = None

    async def unfollow(self, group: ModelGroup) -> None:
        for following in self.of(group):
            if following.stream is not None:
                await following.take_what_came()
                await following.stop()

    async def look(self) -> None:
        """Take what has come so far."""
        await self.socket.ping()
        for following in self.following:
            await following.take_what_came()
