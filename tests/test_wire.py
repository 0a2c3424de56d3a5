"""A connection after its handshake: frames in whatever pieces they come, and nothing kept between messages."""
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any, cast

import hypothesis
import pytest
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from schema import ids
from schema.wire import FRAMES_PER_TURN, LEAVING_BYTES, Departures, FrameProtocol, Wire
from tests.conftest import OwnServer
from tests.harness import World, eventually, running_tasks
from tests.inside import followers
from tests.nonsense import EXPLORING

MOST = 70_000


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.writes = 0
        self.is_closed = False
        self.is_paused = False

    def write(self, data: bytes) -> None:
        self.written += data
        self.writes += 1

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def is_closing(self) -> bool:
        return self.is_closed


class Ear:
    """Keeps what is heard."""

    def __init__(self, _: Wire | None = None) -> None:
        self.heard: list[str | None] = []
        self.is_lost = False

    def hear(self, text: str | None) -> None:
        self.heard.append(text)

    def lost(self) -> None:
        self.is_lost = True


CONNECTIONS: set[Wire] = set()


@pytest.fixture(autouse=True)
def ended() -> Generator[None]:
    """Whoever has said goodbye is waited for, and this would go on in the tests that follow."""
    yield
    for wire in tuple(CONNECTIONS):
        wire.connection_lost(None)


def connected(departures: Departures | None = None) -> tuple[Wire, Ear, Transport]:
    """A connection that nobody is at the other end of."""
    ear, transport, writable = Ear(), Transport(), asyncio.Event()
    writable.set()
    config = SimpleNamespace(ws_max_size=MOST)
    handshake = SimpleNamespace(
        transport=transport, connections=CONNECTIONS, tasks=set(), config=config, writable=writable
    )
    return Wire(cast("FrameProtocol", handshake), departures or Departures(), lambda _: ear), ear, transport


def frame(opcode: Opcode, payload: bytes, *, fin: bool = True) -> bytes:
    """As a client sends it."""
    return Frame(opcode, payload, fin).serialize(mask=True)


def text(content: str) -> bytes:
    return frame(Opcode.TEXT, content.encode())


LENGTHS = st.sampled_from([0, 1, 2, 125, 126, 127, 128, 65_535, 65_536, 65_537])
TEXTS = st.one_of(st.text(max_size=40), LENGTHS.map(lambda length: "x" * length))


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, bytes, int]:
    """A text, its frames with pings and pongs between them, and how many pings."""
    content = draw(TEXTS)
    whole = content.encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
    parts = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    sent, pings = b"", 0
    for number, part in enumerate(parts):
        opcode = Opcode.TEXT if number == 0 else Opcode.CONT
        sent += frame(opcode, part, fin=number == len(parts) - 1)
        between = draw(st.sampled_from([None, Opcode.PING, Opcode.PONG]))
        sent += frame(between, b"hi") if between else b""
        pings += between is Opcode.PING
    return content, sent, pings


@EXPLORING
@hypothesis.given(said=st.lists(messages(), max_size=4), data=st.data())
def test_messages_are_heard_in_order_however_their_bytes_are_cut(
    said: list[tuple[str, bytes, int]], data: st.DataObject
) -> None:
    async def hear() -> None:
        wire, ear, transport = connected()
        sent = b"".join(each for _, each, _ in said)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
        for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            wire.data_received(sent[begin:end])
            await asyncio.sleep(0)
        assert ear.heard == [content for content, _, _ in said]
        assert transport.written == b"\x8a\x02hi" * sum(pings for _, _, pings in said)
        assert not transport.is_closed
        assert wire._parser is None

    asyncio.run(hear())


async def test_bytes_one_by_one_are_the_same_as_all_at_once() -> None:
    wire, ear, _ = connected()
    sent = text("first") + frame(Opcode.PING, b"") + frame(Opcode.TEXT, b"sec", fin=False) + frame(Opcode.CONT, b"ond")
    for byte in sent:
        wire.data_received(bytes((byte,)))
    assert ear.heard == ["first", "second"]


@pytest.mark.parametrize("fin", [True, False])
async def test_a_binary_message_is_heard_as_none(*, fin: bool) -> None:
    wire, ear, _ = connected()
    wire.data_received(frame(Opcode.BINARY, b"{", fin=fin))
    if not fin:
        wire.data_received(frame(Opcode.CONT, b"}"))
    assert ear.heard == [None]


async def test_a_message_in_frames_that_is_larger_than_the_bound_is_closed_with_1009() -> None:
    wire, ear, transport = connected()
    for opcode in (Opcode.TEXT, Opcode.CONT):
        wire.data_received(frame(opcode, b"x" * (MOST // 2 + 1), fin=False))
    assert Close.parse(transport.written[2:]).code == 1009
    assert (ear.heard, ear.is_lost, transport.is_closed) == ([], True, True)


async def test_a_close_is_answered_and_what_comes_after_it_is_not_heard() -> None:
    wire, ear, transport = connected()
    wire.data_received(frame(Opcode.CLOSE, Close(1000, "done").serialize()) + text("late"))
    assert Close.parse(transport.written[2:]) == Close(1000, "done")
    assert (ear.heard, ear.is_lost, transport.is_closed) == ([], True, True)
    wire.connection_lost(None)


async def test_after_a_close_of_ours_messages_are_not_heard_and_the_answer_ends_the_connection() -> None:
    wire, ear, transport = connected()
    await wire.close(4400, "bad")
    wire.write_text(b"too late")
    assert transport.written[2:] == Close(4400, "bad").serialize()
    wire.data_received(text("late"))
    assert not transport.is_closed
    wire.data_received(frame(Opcode.CLOSE, Close(4400, "bad").serialize()))
    assert (ear.heard, transport.is_closed) == ([], True)
    wire.connection_lost(None)


async def test_a_peer_that_reads_nothing_is_sent_no_pongs() -> None:
    wire, _, transport = connected()
    wire.pause_writing()
    wire.data_received(frame(Opcode.PING, b"hi") * 3)
    assert transport.written == b""
    wire.resume_writing()
    wire.data_received(frame(Opcode.PING, b"ho"))
    assert transport.written == b"\x8a\x02ho"


def sent(*contents: str) -> bytes:
    """As a server sends them."""
    return b"".join(Frame(Opcode.TEXT, content.encode()).serialize(mask=False) for content in contents)


async def test_what_is_written_in_one_turn_of_the_loop_leaves_in_one_write_and_in_order() -> None:
    wire, _, transport = connected()
    for content in ("one", "two", "three"):
        wire.write_text(content.encode())
    assert transport.written == b""
    await asyncio.sleep(0)
    assert (transport.written, transport.writes) == (sent("one", "two", "three"), 1)
    wire.write_text(b"four")
    await asyncio.sleep(0)
    assert (transport.written, transport.writes) == (sent("one", "two", "three", "four"), 2)


async def test_a_turn_keeps_a_bounded_part_of_what_is_written_in_it() -> None:
    wire, _, transport = connected()
    contents = ["x" * 1000] * 100
    for written, content in enumerate(contents, start=1):
        wire.write_text(content.encode())
        assert len(sent(*contents[:written])) - len(transport.written) <= LEAVING_BYTES
    await asyncio.sleep(0)
    assert transport.written == sent(*contents)


@pytest.mark.parametrize("whose", ["ours", "theirs"])
async def test_a_close_comes_after_what_was_written_before_it(whose: str) -> None:
    wire, _, transport = connected()
    wire.write_text(b"last")
    if whose == "ours":
        wire.write_close(1000)
    else:
        wire.data_received(frame(Opcode.CLOSE, Close(1000, "").serialize()))
    assert transport.written == sent("last") + Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=False)
    await asyncio.sleep(0)
    assert transport.writes == 2


def fail(_: bytes) -> None:
    raise ZeroDivisionError


async def test_a_connection_that_fails_holds_up_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault["exception"]))
    departures = Departures()
    wires = [connected(departures) for _ in range(3)]
    monkeypatch.setattr(wires[1][2], "write", fail)
    for wire, _, _ in wires:
        wire.write_text(b"said")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [transport.written for _, _, transport in wires] == [sent("said"), b"", sent("said")]
    assert [type(fault) for fault in faults] == [ZeroDivisionError]


async def test_what_waits_for_the_end_of_a_turn_is_dropped_with_the_connection() -> None:
    wire, _, transport = connected()
    wire.write_text(b"late")
    transport.close()
    wire.connection_lost(None)
    await asyncio.sleep(0)
    assert transport.written == b""


async def test_a_flood_of_messages_leaves_turns_of_the_loop_to_others() -> None:
    wire, ear, transport = connected()
    flood = [f"{number}" for number in range(10 * FRAMES_PER_TURN)]
    wire.data_received(b"".join(map(text, flood)))
    turns = 0
    while len(ear.heard) < len(flood):
        assert transport.is_paused
        await asyncio.sleep(0)
        turns += 1
    assert turns == 9
    await eventually(lambda: not transport.is_paused)
    wire.data_received(text("last"))
    assert ear.heard == [*flood, "last"]


async def test_a_quiet_socket_holds_no_task_and_no_parser(own_server: OwnServer) -> None:
    server = await own_server()
    async with World(server) as world:
        ada = await world.user()
        group_id = await world.group(ada)
        stream = await ada.messages(group_id)
        await eventually(lambda: followers(server, ids.group(group_id)) == 1)
        assert (await world.send(ada, group_id))["seq"] == (await stream.event())["seq"]

        def ours() -> list[Any]:
            return [task for task in running_tasks() if any(at in repr(task) for at in ("schema/socket", "run_asgi"))]

        await eventually(lambda: ours() == [])
