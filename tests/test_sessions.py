"""The end of a token, felt by later requests and by every open socket, on every node."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from db import groups, tables
from db.engine import Transaction, utc_now
from resolvers import messages, sessions, users
from schema import ids
from schema import socket as schema_socket
from tests.conftest import OwnServer
from tests.harness import (
    Completed,
    Endpoint,
    Json,
    Node,
    Person,
    Socket,
    SocketClosed,
    Subscription,
    World,
    refused,
)
from tests.harness.world import PASSWORD
from tests.inside import LogBook, break_log, process_of

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

Ending = Callable[[Endpoint, Person], Awaitable[None]]
VIEWER = "{ viewer { username } }"


async def another_token(person: Person, server: Endpoint) -> str:
    """A second log-in of the same person."""
    return (await server.client().run("Login", input={"username": person.username, "password": PASSWORD}))["token"]


async def log_out(server: Endpoint, person: Person) -> None:
    await person.run("Logout")


async def change_password_elsewhere(server: Endpoint, person: Person) -> None:
    elsewhere = server.client(await another_token(person, server))
    await elsewhere.run("ChangePassword", input={"currentPassword": PASSWORD, "newPassword": "another horse"})


async def disable(server: Endpoint, person: Person) -> None:
    assert await users.disable(process_of(server).services, person.username)


async def expire_in(server: Endpoint, person: Person, seconds: float) -> None:
    """Give the token another end: no test can wait for a day."""
    soon = utc_now() + timedelta(seconds=seconds)
    change = update(tables.tokens).where(tables.tokens.c.digest == users.digest(person.token)).values(expires_at=soon)

    async def work(transaction: Transaction) -> None:
        await transaction.execute(change)

    await process_of(server).database.write(work)


async def expire(server: Endpoint, person: Person) -> None:
    await expire_in(server, person, -1)


ENDINGS = {
    "log-out": log_out,
    "a new password": change_password_elsewhere,
    "disabling": disable,
}
each_ending = pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS.keys())
each_ending_or_expiry = pytest.mark.parametrize("end", [*ENDINGS.values(), expire], ids=[*ENDINGS.keys(), "expiry"])


async def ended(subscription: Subscription, code: str = "SESSION_EXPIRED") -> Json:
    """The extensions of the error with which it ends."""
    (error,) = await subscription.end()
    assert error["message"].endswith(".")
    assert error["extensions"]["code"] == code
    return error["extensions"]


async def is_closed(socket: Socket, code: int = 4403) -> None:
    assert await socket.closed() == code


# Later requests


@each_ending_or_expiry
async def test_a_token_that_has_ended_is_good_for_nothing_that_needs_a_viewer(world: World, end: Ending) -> None:
    ada = await world.user()
    group = await world.group(ada)
    await end(world.server, ada)
    for name, variables in (
        ("Viewer", {}),
        ("MyGroups", {}),
        ("Group", {"id": group}),
        ("CreateGroup", {"input": {"name": "Chess"}}),
        ("SendGroupMessage", {"input": {"groupId": group, "content": "hello"}}),
        ("Logout", {}),
    ):
        with refused("UNAUTHENTICATED"):
            await ada.run(name, **variables)


async def test_a_token_is_refused_from_its_end_on_however_many_others_ask_meanwhile(world: World) -> None:
    ada, ben = await world.users("ada", "ben")
    done = asyncio.Event()

    async def ask() -> None:
        while not done.is_set():
            assert await ben.client.execute(VIEWER) == {"viewer": {"username": ben.username}}

    async with asyncio.TaskGroup() as others:
        for _ in range(20):
            others.create_task(ask())
        for _ in range(20):
            client = world.server.client(await another_token(ada, world.server))
            assert await client.execute(VIEWER) == {"viewer": {"username": ada.username}}
            await client.run("Logout")
            with refused("UNAUTHENTICATED"):
                await client.execute(VIEWER)
        done.set()


@each_ending_or_expiry
async def test_a_token_that_has_ended_does_not_fail_what_needs_no_viewer(world: World, end: Ending) -> None:
    ada, ben = await world.users("ada", "ben")
    await end(world.server, ada)
    assert await ada.client.execute("{ __typename }") == {"__typename": "Query"}
    login = await ada.run("Login", input={"username": ben.username, "password": PASSWORD})
    assert login["viewer"]["id"] == ben.id


@each_ending_or_expiry
async def test_a_socket_with_a_token_that_has_ended_is_closed_with_4403(world: World, end: Ending) -> None:
    ada = await world.user()
    await end(world.server, ada)
    with pytest.raises(SocketClosed) as closed:
        await ada.socket()
    assert closed.value.code == 4403


async def test_a_disabled_user_cannot_log_in_and_is_told_no_more_than_a_stranger(world: World) -> None:
    ada = await world.user()
    await disable(world.server, ada)
    client = world.server.client()
    messages: set[str] = set()
    for username, password in ((ada.username, PASSWORD), (ada.username, "wrong horse"), ("nobody-here", PASSWORD)):
        with refused("UNAUTHENTICATED") as failure:
            await client.run("Login", input={"username": username, "password": password})
        messages.add(str(failure.value))
    assert len(messages) == 1


async def test_a_user_is_disabled_once(world: World) -> None:
    ada = await world.user()
    services = process_of(world.server).services
    assert await users.disable(services, ada.username.upper())
    assert not await users.disable(services, ada.username)


# Open sockets


@each_ending
async def test_each_subscription_gets_an_error_and_then_the_socket_closes_with_4403(
    world: World, book: LogBook, end: Ending
) -> None:
    ada, ben = await world.users("ada", "ben")
    group = await world.group(ada, ben)
    socket, idle = await ada.socket(), await ada.socket()
    listening = [await socket.follow("GroupMessages", groupId=group, after=await ada.head(group)) for _ in range(2)]
    listening.append(await socket.follow("MyGroupEvents", snapshot=True))
    await listening[-1].event()
    others = await ben.messages(group)
    await end(world.server, ada)
    for subscription in listening:
        assert await ended(subscription) == {"code": "SESSION_EXPIRED", "retry": False}
    await is_closed(socket)
    await is_closed(idle)
    await world.send(ben, group, "still here")
    assert (await others.event())["message"]["content"] == "still here"
    book.check()


async def test_who_leaves_at_the_last_error_still_hears_4403(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As libraries do; and here the subscription is being read for, so it ends only later."""
    begun, go_on, read = asyncio.Event(), asyncio.Event(), groups.all_of

    async def read_late(*args: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await read(*args)

    monkeypatch.setattr(groups, "all_of", read_late)
    ada = await world.user()
    socket = await ada.socket()
    news = await socket.follow("MyGroupEvents", snapshot=True)
    await begun.wait()
    await log_out(world.server, ada)
    await ended(news)
    await socket.leave()
    await is_closed(socket)
    go_on.set()


async def test_a_token_that_expires_ends_its_sockets_at_that_moment(world: World) -> None:
    ada = await world.user()
    await expire_in(world.server, ada, 1)
    socket = await ada.socket()
    news = await socket.follow("MyGroupEvents", snapshot=True)
    await news.event()
    await ended(news)
    await is_closed(socket)


async def test_an_expiry_that_is_far_away_is_looked_at_again_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timer of the event loop is trusted with thirty days."""
    monkeypatch.setattr(sessions, "LONGEST_TIMER_SECONDS", 0.05)
    ada = await world.user()
    await expire_in(world.server, ada, 1)
    await is_closed(await ada.socket())


async def test_the_sockets_of_another_token_stay_open(world: World) -> None:
    ada = await world.user()
    group = await world.group(ada)
    other_token = await another_token(ada, world.server)
    closing = await ada.socket()
    async with world.server.socket(other_token) as staying:
        messages = await staying.follow("GroupMessages", groupId=group, after=await ada.head(group))
        await ada.run("Logout")
        await is_closed(closing)
        assert await (await staying.subscribe(VIEWER)).event() == {"username": ada.username}
        sent = {"groupId": group, "content": "from the other device"}
        await world.server.client(other_token).run("SendGroupMessage", input=sent)
        assert (await messages.event())["message"]["content"] == "from the other device"


async def test_a_new_password_keeps_the_token_that_set_it_and_ends_all_others(world: World) -> None:
    ada = await world.user()
    others = [await another_token(ada, world.server) for _ in range(2)]
    keeping = await ada.socket()
    async with world.server.socket(others[0]) as first, world.server.socket(others[1]) as second:
        changed = await keeping.follow(
            "ChangePassword", input={"currentPassword": PASSWORD, "newPassword": "another horse"}
        )
        assert (await changed.event())["viewer"]["id"] == ada.id
        await is_closed(first)
        await is_closed(second)
    assert await (await keeping.subscribe(VIEWER)).event() == {"username": ada.username}
    for password, code in ((PASSWORD, "UNAUTHENTICATED"), ("another horse", None)):
        login = {"username": ada.username, "password": password}
        if code:
            with refused(code):
                await world.server.client().run("Login", input=login)
        else:
            assert (await world.server.client().run("Login", input=login))["viewer"]["id"] == ada.id


async def test_a_wrong_current_password_ends_nothing(world: World) -> None:
    ada = await world.user()
    socket = await ada.socket()
    with refused("BAD_USER_INPUT") as failure:
        await ada.run("ChangePassword", input={"currentPassword": "wrong horse", "newPassword": "another horse"})
    assert failure.value.extensions["field"] == "currentPassword"
    assert await (await socket.subscribe(VIEWER)).event() == {"username": ada.username}


async def test_a_log_out_over_the_socket_is_answered_before_the_socket_closes(world: World) -> None:
    ada = await world.user()
    socket = await ada.socket()
    news = await socket.follow("MyGroupEvents", snapshot=True)
    await news.event()
    logout = await socket.follow("Logout")
    assert await logout.event() == {"loggedOut": True}
    with pytest.raises(Completed):
        await logout.next()
    await ended(news)
    await is_closed(socket)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Every send waits for this before it begins."""
    go, send = asyncio.Event(), messages.send

    async def wait_and_send(*args: object, **options: object) -> object:
        await go.wait()
        return await send(*args, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(messages, "send", wait_and_send)
    return go


@each_ending
async def test_a_mutation_under_way_is_answered_before_the_socket_closes(
    world: World, held: asyncio.Event, end: Ending
) -> None:
    ada = await world.user()
    group = await world.group(ada)
    socket = await ada.socket()
    news = await socket.follow("MyGroupEvents", snapshot=True)
    await news.event()
    sending = await socket.follow("SendGroupMessage", input={"groupId": group, "content": "under way"})
    await socket.ping()
    await end(world.server, ada)
    await ended(news)
    held.set()
    assert (await sending.event())["message"]["content"] == "under way"
    await is_closed(socket)


async def test_what_takes_too_long_after_the_end_of_the_session_ends_with_it(
    world: World, held: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_socket, "LAST_WORDS_SECONDS", 0.05)
    ada = await world.user()
    group = await world.group(ada)
    socket = await ada.socket()
    sending = await socket.follow("SendGroupMessage", input={"groupId": group, "content": "too long"})
    await socket.ping()
    await log_out(world.server, ada)
    await ended(sending)
    await is_closed(socket)
    held.set()


async def test_what_is_asked_after_the_end_of_the_session_is_not_done(world: World, held: asyncio.Event) -> None:
    ada, ben = await world.users("ada", "ben")
    group = await world.group(ada, ben)
    socket = await ada.socket()
    news = await socket.follow("MyGroupEvents", snapshot=True)
    await news.event()
    await socket.follow("SendGroupMessage", input={"groupId": group, "content": "under way"})
    await socket.ping()
    await log_out(world.server, ada)
    await ended(news)
    late = await socket.follow("CreateGroup", input={"name": "Too late"})
    held.set()
    await is_closed(socket)
    assert not late.waiting
    (edge,) = (await ben.run("GroupHistory", id=group))["messages"]["edges"]
    assert edge["node"]["content"] == "under way"


# Without the news of the end


async def test_an_operation_looks_at_the_token_itself_and_does_not_wait_for_the_news(world: World) -> None:
    """Here no event tells of the end: the row is changed behind the server's back."""
    ada = await world.user()
    socket = await ada.socket()
    news = await socket.follow("MyGroupEvents", snapshot=True)
    await news.event()
    await expire(world.server, ada)
    refusal = await (await socket.subscribe(VIEWER)).next()
    assert [error["extensions"]["code"] for error in refusal["errors"]] == ["SESSION_EXPIRED"]
    await ended(news)
    await is_closed(socket)


async def test_a_socket_whose_log_cannot_be_read_is_closed_with_1013(world: World) -> None:
    """Nobody would tell it of the end of its token."""
    ada = await world.user()
    socket = await ada.socket()
    news = await socket.follow("MyGroupEvents", snapshot=True)
    await news.event()
    break_log(world.server, ids.user(ada.id))
    extensions = await ended(news, "SERVICE_UNAVAILABLE")
    assert extensions["retry"] is True
    await is_closed(socket, 1013)


# Other nodes


async def test_a_log_out_on_one_node_closes_the_sockets_on_another(two_nodes: tuple[Node, Node]) -> None:
    here, there = two_nodes
    async with World(here) as world:
        ada = await world.user()
        far = ada.at(there)
        socket = await far.socket()
        news = await socket.follow("MyGroupEvents", snapshot=True)
        await news.event()
        await ada.run("Logout")
        await ended(news)
        await is_closed(socket)
        with refused("UNAUTHENTICATED"):
            await far.run("Viewer")


async def test_tokens_end_when_the_setting_says(own_server: OwnServer) -> None:
    server = await own_server(token_days=1)
    async with World(server) as world:
        before = utc_now()
        ada = await world.user()
        login = await ada.run("Login", input={"username": ada.username, "password": PASSWORD})
        day = timedelta(days=1)
        expires_at = type(before).fromisoformat(login["expiresAt"])
        assert before + day <= expires_at <= utc_now() + day


@pytest.fixture
def book(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> LogBook:
    return LogBook(capsys, caplog)
