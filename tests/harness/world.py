"""People and groups for a test, made through the public API in one line each."""

import uuid
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Any

import pytest

from tests.harness.client import Client, GraphQLFailure, Json, JsonValue
from tests.harness.servers import Endpoint
from tests.harness.sockets import Socket, Subscription

PASSWORD = "correct horse battery"
HEAD = "query ($id: ID!) { group(id: $id) { headCursor } }"


@contextmanager
def refused(code: str) -> Generator[pytest.ExceptionInfo[GraphQLFailure]]:
    """Pass only if what is inside is refused with `extensions.code`."""
    with pytest.raises(GraphQLFailure) as failure:
        yield failure
    assert failure.value.code == code, f"expected {code}: {failure.value}"


class Person:
    """A registered user at one server. Sockets that it opens are closed with the world."""

    def __init__(self, viewer: Json, token: str, server: Endpoint, sockets: AsyncExitStack) -> None:
        self.id: str = viewer["id"]
        self.username: str = viewer["username"]
        self.token = token
        self.client: Client = server.client(token)
        self._viewer = viewer
        self.server = server
        self._sockets = sockets

    def at(self, server: Endpoint) -> "Person":
        """The same user, with the same token, at another server."""
        return Person(self._viewer, self.token, server, self._sockets)

    async def run(self, name: str, **variables: Any) -> JsonValue:
        """Run the operation of that name; its one root field, or GraphQLFailure."""
        return await self.client.run(name, **variables)

    async def socket(self) -> Socket:
        """A new socket with this user's token."""
        return await self._sockets.enter_async_context(self.server.socket(self.token))

    async def head(self, group_id: str) -> str:
        """The stream position of the group now."""
        return (await self.client.execute(HEAD, {"id": group_id}))["group"]["headCursor"]

    async def messages(self, group_id: str, after: str | None = None) -> Subscription:
        """`groupMessages` on a new socket, after `after` or else after now: whatever is sent from here on comes."""
        socket = await self.socket()
        return await socket.follow("GroupMessages", groupId=group_id, after=after or await self.head(group_id))

    async def group_events(self) -> Subscription:
        """`myGroupEvents` on a new socket, live when this returns: its first event, the snapshot, has been read."""
        subscription = await (await self.socket()).follow("MyGroupEvents", snapshot=True)
        await subscription.event()
        return subscription


class World:
    """Makes people and groups at one server: `async with World(server) as world`."""

    def __init__(self, server: Endpoint) -> None:
        self.server = server
        self._sockets = AsyncExitStack()

    async def user(self, prefix: str = "ada") -> Person:
        """A new user whose name begins with `prefix`."""
        username = f"{prefix}-{uuid.uuid4().hex[:12]}"
        names = {"firstName": prefix.title(), "lastName": "Test"}
        payload = await self.server.client().run(
            "Register", input={"username": username, "password": PASSWORD, **names}
        )
        return Person(payload["viewer"], payload["token"], self.server, self._sockets)

    async def users(self, *prefixes: str) -> list[Person]:
        """One new user for each prefix."""
        return [await self.user(prefix) for prefix in prefixes]

    async def group(self, admin: Person, *members: Person, name: str = "Chess") -> str:
        """A new group with accepted members; its id."""
        payload = await admin.run("CreateGroup", input={"name": name, "memberIds": [member.id for member in members]})
        return payload["group"]["id"]

    async def send(
        self, person: Person, group_id: str, content: str = "hello", client_message_id: str | None = None
    ) -> Json:
        """Send a message; the message as the payload shows it."""
        sent = {"groupId": group_id, "content": content, "clientMessageId": client_message_id}
        return (await person.run("SendGroupMessage", input=sent))["message"]

    async def __aenter__(self) -> "World":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        exception: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._sockets.aclose()
