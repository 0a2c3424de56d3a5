"""The recipe against a live server, which `python -m tests.clients gql` starts."""

import asyncio
import itertools
import json
import os
import signal
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from gql.transport.common.adapters.websockets import WebSocketsAdapter
from gql.transport.exceptions import TransportConnectionFailed, TransportQueryError
from websockets.exceptions import ConnectionClosedError

from tests.clients.gql.bot import answer_everybody
from tests.clients.gql.parley import (
    Json,
    ask,
    draft,
    follow,
    in_order,
    keep,
    over_http,
    over_socket,
    poll,
    request,
    send,
)
from tests.clients.gql.way import ShakyWay
from tests.harness import Endpoint, Person, World, eventually

pytestmark = pytest.mark.usefixtures("leaves_nothing_behind")

URL = os.environ["PARLEY_URL"]
SECONDS = 15


@pytest.fixture(scope="session")
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(urlsplit(URL).port or 80)
    yield endpoint
    await endpoint.http.aclose()


@pytest.fixture
async def world(endpoint: Endpoint) -> AsyncIterator[World]:
    async with World(endpoint) as world:
        yield world


@pytest.fixture
async def way() -> AsyncIterator[ShakyWay]:
    async with ShakyWay.to(URL) as way:
        yield way


@pytest.fixture
async def ada(world: World) -> Person:
    return await world.user("ada")


@pytest.fixture
async def bob(world: World) -> Person:
    return await world.user("bob")


@pytest.fixture
async def group(world: World, ada: Person, bob: Person) -> str:
    """A group of Ada, with Bob in it."""
    return await world.group(ada, bob)


class Seen:
    """What came of a stream: the contents in order, the cursor of the last, and how it ended."""

    def __init__(self) -> None:
        self.contents: list[str] = []
        self.cursor = ""
        self.end: Exception | None = None

    @property
    def code(self) -> str | int | None:
        """The code of the error, or the close code, with which it ended."""
        match self.end:
            case TransportQueryError(errors=[{"extensions": {"code": str(code)}}, *_]):
                return code
            case TransportConnectionFailed(__cause__=ConnectionClosedError(rcvd=close)):
                return close and close.code
            case _:
                return None

    async def have(self, *contents: str) -> None:
        """Wait for these and no others."""
        await eventually(lambda: len(self.contents) >= len(contents) or self.end, SECONDS)
        assert self.end is None
        assert self.contents == list(contents)

    async def ended(self) -> None:
        await eventually(lambda: self.end, SECONDS)


@asynccontextmanager
async def collecting(events: AsyncGenerator[Json]) -> AsyncGenerator[Seen]:
    """Reads a stream while the test goes on."""
    seen = Seen()

    async def collect() -> None:
        async with aclosing(events):
            try:
                async for event in events:
                    seen.contents.append(event["message"]["content"])
                    seen.cursor = event["cursor"]
            except (TransportQueryError, TransportConnectionFailed) as error:
                seen.end = error

    task = asyncio.create_task(collect())
    try:
        yield seen
    finally:
        task.cancel()
        await eventually(task.done, SECONDS)


async def contents(person: Person, group: str) -> list[str]:
    """As the server has them."""
    return [edge["node"]["content"] for edge in (await person.run("GroupHistory", id=group))["messages"]["edges"]]


async def restart_server(how: signal.Signals) -> None:
    """End the server, and wait until it serves again."""
    before = server_pid()
    os.kill(before, how)
    await eventually(lambda: server_pid() != before, 40)


def server_pid() -> int:
    return int(Path(os.environ["PARLEY_PID_FILE"]).read_text())


# --- asking ----------------------------------------------------------------------------------------------------------


async def test_a_token_authenticates_over_http_and_over_the_socket(ada: Person) -> None:
    for client in (over_http(URL, ada.token), over_socket(URL, ada.token)):
        async with client as session:
            assert (await session.execute(request("Viewer")))["viewer"]["username"] == ada.username


async def test_a_token_that_is_not_good_is_refused_once(way: ShakyWay, group: str) -> None:
    async with over_http(way.url, "no-such-token") as session:
        with pytest.raises(TransportQueryError) as refusal:
            await ask(session, "Viewer")
    assert refusal.value.errors
    assert refusal.value.errors[0]["extensions"]["code"] == "UNAUTHENTICATED"
    before = way.connections
    async with collecting(follow(way.url, "no-such-token", group, "")) as seen:
        await seen.ended()
    assert seen.code == 4403
    assert way.connections == before + 1


async def test_queries_and_mutations_go_over_the_socket_beside_a_subscription(ada: Person, group: str) -> None:
    async with over_socket(URL, ada.token) as session:
        position = (await session.execute(request("Group", id=group)))["group"]["headCursor"]
        async with aclosing(session.subscribe(request("GroupMessages", groupId=group, after=position))) as answers:
            input = {"groupId": group, "content": "hello"}
            sent = (await session.execute(request("SendGroupMessage", input=input)))["sendGroupMessage"]["message"]
            assert (await anext(answers))["groupMessages"]["message"]["id"] == sent["id"]
            history = (await session.execute(request("GroupHistory", id=group)))["group"]
    assert [edge["node"]["id"] for edge in history["messages"]["edges"]] == [sent["id"]]


async def test_a_mistake_in_a_document_leaves_the_socket_alone(ada: Person) -> None:
    async with over_socket(URL, ada.token) as session:
        with pytest.raises(TransportQueryError, match="BAD_USER_INPUT"):
            await session.execute(request("Group"))
        assert (await session.execute(request("Viewer")))["viewer"]["id"] == ada.id


async def test_a_page_of_the_longest_messages_goes_over_the_socket(world: World, ada: Person, group: str) -> None:
    for _ in range(100):
        await world.send(ada, group, "\N{GRINNING FACE}" * 4_000)
    async with over_socket(URL, ada.token) as session:
        history = (await session.execute(request("GroupHistory", id=group, last=100)))["group"]
    assert len(history["messages"]["edges"]) == 100


async def test_what_cannot_be_asked_now_is_asked_again(way: ShakyWay, ada: Person) -> None:
    way.open = False
    async with over_http(way.url, ada.token) as session:
        asking = asyncio.create_task(ask(session, "Viewer"))
        await eventually(lambda: way.connections > 1)
        way.open = True
        assert (await asking)["id"] == ada.id


# --- sending ---------------------------------------------------------------------------------------------------------


async def test_a_send_whose_answers_are_lost_is_in_the_log_once(way: ShakyWay, ada: Person, group: str) -> None:
    async with over_http(way.url, ada.token) as session:
        way.lose_answers = 2
        await send(session, group, "hello")
    assert way.connections == 3
    assert await contents(ada, group) == ["hello"]


async def test_a_refused_send_says_why(ada: Person, group: str) -> None:
    async with over_http(URL, ada.token) as session:
        with pytest.raises(TransportQueryError, match="BAD_USER_INPUT"):
            await send(session, group, "x" * 4_001)


async def test_draft_answer_and_event_in_any_order_are_one_message(ada: Person, group: str) -> None:
    async with over_http(URL, ada.token) as session:
        viewer = await ask(session, "Viewer")
        position = await ada.head(group)
        mine, other = draft(viewer, "hello", str(uuid.uuid4())), draft(viewer, "hello", str(uuid.uuid4()))
        answer = await send(session, group, "hello", mine["clientMessageId"])
    async with aclosing(follow(URL, ada.token, group, position)) as events:
        event = (await anext(events))["message"]
    for order in itertools.permutations([mine, answer, event]):
        messages: dict[str, Json] = {}
        for message in (other, *order):
            keep(messages, message)
        assert [message["id"] for message in in_order(messages)] == [answer["id"], other["id"]]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_the_higher_version_stays(ada: Person, group: str, order: Sequence[int]) -> None:
    async with over_http(URL, ada.token) as session:
        answer = await send(session, group, "hello")
    messages: dict[str, Json] = {}
    for version in order:
        keep(messages, {**answer, "version": version})
    assert [message["version"] for message in in_order(messages)] == [2]


# --- following -------------------------------------------------------------------------------------------------------


async def test_a_subscription_gets_what_others_send(world: World, ada: Person, bob: Person, group: str) -> None:
    async with collecting(follow(URL, bob.token, group, await bob.head(group))) as seen:
        await world.send(ada, group, "one")
        await world.send(ada, group, "two")
        await seen.have("one", "two")


async def test_after_a_broken_connection_a_stream_resumes(
    world: World, way: ShakyWay, ada: Person, bob: Person, group: str
) -> None:
    async with collecting(follow(way.url, bob.token, group, await bob.head(group))) as seen:
        await world.send(ada, group, "before")
        await seen.have("before")
        way.open = False
        way.cut()
        for content in ("one", "two", "three"):
            await world.send(ada, group, content)
        way.open = True
        await seen.have("before", "one", "two", "three")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_after_the_servers_restart_a_stream_resumes(
    world: World, ada: Person, bob: Person, group: str, how: signal.Signals
) -> None:
    async with collecting(follow(URL, bob.token, group, await bob.head(group))) as seen:
        await world.send(ada, group, "before")
        await seen.have("before")
        await restart_server(how)
        await world.send(ada, group, "missed")
        await seen.have("before", "missed")


async def test_a_connection_that_has_gone_silent_is_replaced(
    world: World, way: ShakyWay, ada: Person, bob: Person, group: str
) -> None:
    async with collecting(follow(way.url, bob.token, group, await bob.head(group), keep_alive=0.2)) as seen:
        await world.send(ada, group, "before")
        await seen.have("before")
        way.freeze()
        await world.send(ada, group, "missed")
        await seen.have("before", "missed")


async def test_a_stream_that_ends_with_retry_goes_on_after_the_last_event(
    world: World, ada: Person, bob: Person, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WebSocketsAdapter, "receive", interrupted_at("two", WebSocketsAdapter.receive))
    async with collecting(follow(URL, bob.token, group, await bob.head(group))) as seen:
        for content in ("one", "two", "three"):
            await world.send(ada, group, content)
        await seen.have("one", "two", "three")


def interrupted_at(content: str, receive: Any) -> Any:
    """The event of that message becomes the end of its stream, once; no test can bring that about from outside."""
    interrupted = False

    async def received(adapter: WebSocketsAdapter) -> str:
        nonlocal interrupted
        frame = json.loads(await receive(adapter))
        if not interrupted and frame["type"] == "next" and content in str(frame):
            interrupted = True
            end = {"message": "…", "extensions": {"code": "SERVICE_UNAVAILABLE", "retry": True}}
            frame = {"id": frame["id"], "type": "error", "payload": [end]}
        return json.dumps(frame)

    return received


async def test_removal_ends_a_stream(world: World, way: ShakyWay, ada: Person, bob: Person, group: str) -> None:
    async with collecting(follow(way.url, bob.token, group, await bob.head(group))) as seen:
        await world.send(ada, group, "one")
        await seen.have("one")
        await ada.run("RemoveMember", input={"groupId": group, "userId": bob.id})
        await seen.ended()
    assert seen.code == "MEMBERSHIP_ENDED"
    assert way.connections == 1


async def test_a_log_out_ends_a_stream(world: World, way: ShakyWay, ada: Person, bob: Person, group: str) -> None:
    async with collecting(follow(way.url, bob.token, group, await bob.head(group))) as seen:
        await world.send(ada, group, "one")
        await seen.have("one")
        await bob.run("Logout")
        await seen.ended()
    assert seen.code == "SESSION_EXPIRED"
    assert way.connections == 1


async def test_a_token_that_ended_while_the_client_was_away_ends_its_stream(
    world: World, way: ShakyWay, ada: Person, bob: Person, group: str
) -> None:
    async with collecting(follow(way.url, bob.token, group, await bob.head(group))) as seen:
        await world.send(ada, group, "one")
        await seen.have("one")
        way.open = False
        way.cut()
        await bob.run("Logout")
        way.open = True
        await seen.ended()
    assert seen.code == 4403


async def test_an_address_that_is_wrong_is_told_at_once(ada: Person, group: str) -> None:
    async with collecting(follow(f"{URL}/nothing", ada.token, group, "")) as seen:
        await seen.ended()


MOMENTS = range(30)  # turns of the event loop; gql needs about ten to notice a loss


async def test_a_stream_can_be_left_at_any_moment_of_a_loss(
    world: World, way: ShakyWay, ada: Person, bob: Person, group: str
) -> None:
    start = await bob.head(group)
    await world.send(ada, group)
    for moment in MOMENTS:
        async with asyncio.timeout(SECONDS), aclosing(follow(way.url, bob.token, group, start)) as events:
            await anext(events)
            way.cut()
            await turns(moment)


async def test_a_stream_can_be_cancelled_at_any_moment_of_a_loss(
    world: World, way: ShakyWay, ada: Person, bob: Person, group: str
) -> None:
    start = await bob.head(group)
    await world.send(ada, group)
    for moment in MOMENTS:
        async with collecting(follow(way.url, bob.token, group, start)) as seen:
            await seen.have("hello")
            way.cut()
            await turns(moment)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- a bot -----------------------------------------------------------------------------------------------------------


async def test_a_bot_that_does_it_again_answers_each_message_once(
    world: World, ada: Person, bob: Person, group: str
) -> None:
    start = await bob.head(group)
    await world.send(ada, group, "one")
    expected = ["one", "You said one"]
    for content in ("two", "three"):
        bot = asyncio.create_task(answer_everybody(URL, bob.token, group, start))
        await world.send(ada, group, content)
        expected += [content, f"You said {content}"]
        await eventually(partial(heard, ada, group, len(expected)), SECONDS)
        bot.cancel()
        await asyncio.wait([bot])
    assert sorted(await contents(ada, group)) == sorted(expected)


async def heard(person: Person, group: str, count: int) -> bool:
    return len(await contents(person, group)) >= count


# --- polling ---------------------------------------------------------------------------------------------------------


async def test_polling_gives_the_same_events_and_takes_over_where_a_stream_stopped(
    world: World, ada: Person, bob: Person, group: str
) -> None:
    async with collecting(follow(URL, bob.token, group, await bob.head(group))) as streamed:
        await world.send(ada, group, "one")
        await streamed.have("one")
    await world.send(ada, group, "two")
    async with over_http(URL, bob.token) as session, collecting(poll(session, group, streamed.cursor, 0.02)) as polled:
        await polled.have("two")
        await world.send(ada, group, "three")
        await polled.have("two", "three")


async def test_polling_goes_on_after_the_server_could_not_be_reached_and_ends_with_the_membership(
    world: World, way: ShakyWay, ada: Person, bob: Person, group: str
) -> None:
    position = await bob.head(group)
    async with over_http(way.url, bob.token) as session, collecting(poll(session, group, position, 0.02)) as polled:
        await eventually(lambda: way.connections)
        way.open = False
        way.cut()
        await world.send(ada, group, "one")
        before = way.connections
        await eventually(lambda: way.connections > before, SECONDS)
        way.open = True
        await polled.have("one")
        await ada.run("RemoveMember", input={"groupId": group, "userId": bob.id})
        await polled.ended()
    assert polled.code == "FORBIDDEN"
