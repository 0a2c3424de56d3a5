"""One contract for the bus on every broker, and what Redis adds: faults that are felt, told and mended."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, cast

import psutil
import pytest
from redis.asyncio import Connection
from redis.asyncio import Redis as RedisClient
from structlog.testing import capture_logs

from delivery.bus import Bus, BusUnavailable
from delivery.redis import RedisEngine, Timing
from tests.engines import Redis
from tests.harness.waiting import eventually
from tests.processes import free_port

QUICK = Timing(connect=1, reply=0.5, idle=0.1, sign=0.2, first_wait=0.01, longest_wait=0.1)
PATIENT = Timing(idle=60, sign=60, first_wait=0.001, longest_wait=0.002)
"""Never asks for a sign of life, so that only what the test does can reveal a fault."""

UNUSUAL_TEXTS = [
    "",
    " ",
    "a\r\nb\n",
    "\x00",
    "naïve",
    "日本語",
    "👩🏽‍🚀",
    "\u202e\ufeff\u2028",
    '{"seq": 1}',
    "x" * 7_000,
]


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: closed connections fail in other words on uvloop, which serves in production."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    """An engine of this module's own: its tests stop, pause and lock it."""
    with closing(Redis()) as engine:
        engine.start()
        yield engine


class Admin(Protocol):
    async def execute_command(self, *words: str) -> Any: ...


@pytest.fixture
async def admin(redis: Redis) -> AsyncIterator[Admin]:
    client = RedisClient.from_url(redis.url(), decode_responses=True)  # pyright: ignore[reportUnknownMemberType]
    async with client:
        yield cast(Admin, client)


@dataclass
class Pair:
    """Two processes' view of one broker; with memory both are the one process there is."""

    here: Bus
    there: Bus


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    """Every broker in turn."""
    return "memory://" if request.param == "memory" else cast(Redis, request.getfixturevalue("redis")).url()


@pytest.fixture
async def pair(url: str) -> AsyncIterator[Pair]:
    async with Bus(url) as here:
        if url == "memory://":
            yield Pair(here, here)
        else:
            async with Bus(url) as there:
                yield Pair(here, there)


@dataclass(eq=False)
class Ear:
    """A handler that remembers."""

    heard: list[str] = field(default_factory=list[str])

    def __call__(self, text: str) -> None:
        self.heard.append(text)

    async def hears(self, *texts: str) -> None:
        await eventually(lambda: self.heard[-len(texts) :] == list(texts))


async def wait_until_heard(bus: Bus, channel: str, ear: Ear) -> None:
    """Everything that was published on the channel before this has reached its handlers."""
    await bus.publish(channel, "the end")
    await eventually(lambda: "the end" in ear.heard)
    ear.heard.remove("the end")


# What every broker promises.


async def test_a_text_reaches_every_handler_of_its_channel_in_every_process(pair: Pair) -> None:
    ears = [Ear(), Ear(), Ear()]
    await pair.here.join("c", ears[0])
    await pair.here.join("c", ears[1])
    await pair.there.join("c", ears[2])
    await pair.there.publish("c", "hello")
    await eventually(lambda: [ear.heard for ear in ears] == [["hello"]] * 3)
    assert pair.here.well
    assert pair.there.counts.published == 1


async def test_first_subscribers_that_race_all_hear_every_text(pair: Pair) -> None:
    ears = [Ear() for _ in range(20)]
    await asyncio.gather(*(pair.here.join("c", ear) for ear in ears))
    for number in range(5):
        await pair.there.publish("c", str(number))
    await eventually(lambda: all(ear.heard == ["0", "1", "2", "3", "4"] for ear in ears))


async def test_what_is_published_after_join_returned_arrives(pair: Pair) -> None:
    for number in range(50):
        ear = Ear()
        await pair.here.join(f"c{number}", ear)
        await pair.there.publish(f"c{number}", "first")
        await ear.hears("first")


async def test_a_join_amid_publishing_misses_nothing_from_then_on(pair: Pair) -> None:
    ear, started = Ear(), 0

    async def publish_for_ever() -> None:
        nonlocal started
        while True:
            started += 1
            await pair.there.publish("c", str(started))

    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(publish_for_ever())
        await eventually(lambda: started > 20)
        await pair.here.join("c", ear)
        next_one = started + 1
        await eventually(lambda: started > next_one + 20)
        publishing.cancel()
    await eventually(lambda: ear.heard and int(ear.heard[-1]) >= next_one + 20)
    first, last = int(ear.heard[0]), int(ear.heard[-1])
    assert first <= next_one
    assert ear.heard == [str(number) for number in range(first, last + 1)]


@pytest.mark.parametrize("leaves_first", [True, False])
@pytest.mark.parametrize("turns", range(6))
async def test_whoever_joins_while_the_last_one_leaves_hears_everything(
    pair: Pair, turns: int, leaves_first: bool
) -> None:
    old, new = Ear(), Ear()

    async def after(turns: int, step: Callable[[str, Ear], Any], ear: Ear) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await step("c", ear)

    for _ in range(5):
        await pair.here.join("c", old)
        steps = [after(turns, pair.here.leave, old), after(0, pair.here.join, new)]
        await asyncio.gather(*(steps if leaves_first else reversed(steps)))
        await pair.there.publish("c", "after")
        await new.hears("after")
        assert old.heard == []
        await pair.here.leave("c", new)
        new.heard.clear()


async def test_whoever_left_hears_nothing_more_and_the_others_do(pair: Pair) -> None:
    staying, leaving = Ear(), Ear()
    await pair.here.join("c", staying)
    await pair.here.join("c", leaving)
    await pair.here.leave("c", leaving)
    await wait_until_heard(pair.there, "c", staying)
    await pair.here.leave("c", leaving)
    await pair.here.leave("unknown", leaving)
    assert leaving.heard == []


async def test_a_join_that_is_cancelled_leaves_no_handler(pair: Pair) -> None:
    given_up, ear = Ear(), Ear()
    joining = asyncio.create_task(pair.here.join("c", given_up))
    await asyncio.sleep(0)
    assert joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    await pair.here.join("c", ear)
    await wait_until_heard(pair.there, "c", ear)
    assert given_up.heard == []


async def test_a_hundred_channels_do_not_mix(pair: Pair) -> None:
    ears = {f"c{number}": Ear() for number in range(100)}
    await asyncio.gather(*(pair.here.join(channel, ear) for channel, ear in ears.items()))
    await asyncio.gather(*(pair.there.publish(channel, f"for {channel}") for channel in ears))
    await eventually(lambda: all(ear.heard for ear in ears.values()))
    assert {channel: ear.heard for channel, ear in ears.items()} == {channel: [f"for {channel}"] for channel in ears}


async def test_a_handler_that_raises_is_told_and_stops_nobody(pair: Pair) -> None:
    def broken(text: str) -> None:
        raise RuntimeError(text)

    before, after = Ear(), Ear()
    with capture_logs() as lines:
        await pair.here.join("c", before)
        await pair.here.join("c", broken)
        await pair.here.join("c", after)
        for text in ("one", "two"):
            await pair.there.publish("c", text)
        await after.hears("one", "two")
        await before.hears("one", "two")
    assert [line["event"] for line in lines] == ["handler_failed"] * 2


async def test_texts_keep_their_order_on_a_channel(pair: Pair) -> None:
    ear = Ear()
    await pair.here.join("c", ear)
    texts = [str(number) for number in range(500)]
    for text in texts:
        await pair.there.publish("c", text)
    await eventually(lambda: len(ear.heard) >= len(texts))
    assert ear.heard == texts


async def test_any_text_comes_out_as_it_went_in(pair: Pair) -> None:
    ear = Ear()
    await pair.here.join("größe/日本", ear)
    for text in UNUSUAL_TEXTS:
        await pair.there.publish("größe/日本", text)
    await ear.hears(*UNUSUAL_TEXTS)


async def test_no_task_is_left_after_the_end(url: str) -> None:
    before = asyncio.all_tasks()
    async with Bus(url) as bus:
        for number in range(10):
            await bus.join(f"c{number}", Ear())
        await asyncio.gather(*(bus.publish("c1", "text") for _ in range(20)))
        assert len(asyncio.all_tasks() - before) >= 10
    assert asyncio.all_tasks() == before


async def test_a_bus_that_is_not_open_takes_no_handler_and_loses_texts_without_a_word(url: str) -> None:
    bus = Bus(url)
    for _ in range(2):
        assert not bus.well
        with pytest.raises(RuntimeError, match="not open"):
            await bus.join("c", Ear())
        await bus.publish("c", "lost")
        async with Bus(url) as bus:
            assert bus.well
            joining = asyncio.create_task(bus.join("c", Ear()))
            await asyncio.sleep(0)
        await joining


# What Redis adds: it goes away and comes back.


@dataclass(eq=False)
class Alarm:
    """A recovery listener that counts."""

    rings: int = 0

    def __call__(self) -> None:
        self.rings += 1


def connections_to(engine: Redis) -> int:
    """This process's open connections to the engine."""
    found = psutil.Process().net_connections("tcp")
    return sum(bool(each.raddr) and each.raddr.port == engine.port and each.status == "ESTABLISHED" for each in found)


async def receivers(admin: Admin, channel: str) -> int:
    return int((await admin.execute_command("PUBSUB", "NUMSUB", channel))[1])


async def test_everything_is_as_before_after_redis_was_stopped_and_started(redis: Redis) -> None:
    alarm, ears = Alarm(), {f"c{number}": Ear() for number in range(20)}
    async with Bus(redis.url()) as here, Bus(redis.url()) as there:
        here.add_recovery_listener(alarm)
        for channel, ear in ears.items():
            await here.join(channel, ear)
        with capture_logs() as lines:
            redis.stop()
            await eventually(lambda: not here.well)
            for _ in range(3):
                await there.publish("c0", "into the void")
            assert not there.well
            late = ears["late"] = Ear()
            await here.join("late", late)
            gone = ears.pop("c1")
            await here.leave("c1", gone)
            redis.start()
            await eventually(lambda: here.well and there.well)
        assert alarm.rings == here.counts.recoveries == here.counts.faults == 1
        assert there.counts.lost == 3
        for channel in ears:
            await there.publish(channel, "back")
        await eventually(lambda: all(ear.heard[-1:] == ["back"] for ear in ears.values()))
        assert gone.heard == []
        assert redis.url().split("@", maxsplit=1)[0].rsplit(":", 1)[1] not in str(lines)


async def test_redis_restarted_in_a_blink_is_noticed(redis: Redis) -> None:
    alarm, ear = Alarm(), Ear()
    async with Bus(redis.url(), QUICK) as bus:
        bus.add_recovery_listener(alarm)
        await bus.join("c", ear)
        redis.restart()
        await eventually(lambda: alarm.rings)
        await bus.publish("c", "back")
        await ear.hears("back")


async def test_a_listening_connection_that_is_killed_is_replaced(redis: Redis, admin: Admin) -> None:
    alarm, ear = Alarm(), Ear()
    async with Bus(redis.url(), PATIENT) as bus:
        bus.add_recovery_listener(alarm)
        await bus.join("c", ear)
        for rings in range(1, 4):
            assert await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
            await eventually(lambda rings=rings: alarm.rings == rings)
            assert bus.well
            await bus.publish("c", f"back {rings}")
            await ear.hears(f"back {rings}")
    assert bus.counts.lost == 0


async def test_joins_right_after_the_listening_connection_died_hear_after_the_recovery(
    redis: Redis, admin: Admin
) -> None:
    async with Bus(redis.url(), PATIENT) as bus:
        await bus.join("c", Ear())
        for number in range(10):
            ears = [Ear(), Ear()]
            await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.gather(*(bus.join(f"c{number}.{place}", ear) for place, ear in enumerate(ears)))
            await eventually(lambda number=number: bus.well and bus.counts.recoveries == number + 1)
            for place, ear in enumerate(ears):
                await bus.publish(f"c{number}.{place}", "back")
                await ear.hears("back")


async def test_a_transport_that_closed_just_now_is_a_fault_like_any_other(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send_as_uvloop_does(connection: Connection, *words: str, **options: bool) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")

    async with Bus(redis.url(), PATIENT) as bus:
        ear = Ear()
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "send_command", send_as_uvloop_does)
            await bus.join("c", ear)
            await bus.publish("c", "late")
            assert not bus.well
            assert (bus.counts.faults, bus.counts.lost) == (2, 1)
        await eventually(lambda: bus.well)
        await wait_until_heard(bus, "c", ear)


async def test_a_publishing_connection_that_closed_just_now_is_replaced_at_once(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, refused = Connection.send_command, list[str]()

    async def send_but_not_at_first(connection: Connection, *words: str, **options: bool) -> None:
        if "PUBLISH" in words and not refused:
            refused.extend(words)
            raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")
        await send(connection, *words, **options)

    async with Bus(redis.url(), PATIENT) as bus:
        monkeypatch.setattr(Connection, "send_command", send_but_not_at_first)
        await bus.publish("c", "text")
        assert refused
        assert (bus.counts.published, bus.counts.faults) == (1, 0)


async def test_publishing_connections_that_died_idle_lose_nothing(redis: Redis, admin: Admin) -> None:
    ear = Ear()
    async with Bus(redis.url(), PATIENT) as bus:
        await bus.join("c", ear)
        await asyncio.gather(*(bus.publish("c", "warm") for _ in range(20)))
        await admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.gather(*(bus.publish("c", "cold") for _ in range(20)))
        await ear.hears(*["cold"] * 20)
    assert (bus.counts.lost, bus.counts.faults) == (0, 0)


async def test_a_redis_that_falls_silent_is_noticed_without_any_traffic(redis: Redis) -> None:
    alarm, ear = Alarm(), Ear()
    async with Bus(redis.url(), QUICK) as bus:
        bus.add_recovery_listener(alarm)
        await bus.join("c", ear)
        redis.pause(1)
        await eventually(lambda: not bus.well)
        await eventually(lambda: bus.well)
        assert alarm.rings == 1
        await bus.publish("c", "back")
        await ear.hears("back")


async def test_a_quiet_redis_that_answers_stays_well(redis: Redis, admin: Admin) -> None:
    async with Bus(redis.url(), QUICK) as bus:
        await bus.join("c", Ear())
        commands = "cmdstat_ping"

        async def pings() -> int:
            stats: dict[str, Any] = await admin.execute_command("INFO", "commandstats")
            return stats.get(commands, {"calls": 0})["calls"]

        before = await pings()
        while await pings() < before + 4:
            assert bus.well
    assert bus.counts.faults == 0


async def test_a_join_while_redis_is_silent_returns_unwell_and_hears_after_the_recovery(redis: Redis) -> None:
    alarm, ear = Alarm(), Ear()
    timing = Timing(idle=60, sign=60, reply=0.2, connect=0.5, first_wait=0.01, longest_wait=0.1)
    async with Bus(redis.url(), timing) as bus:
        bus.add_recovery_listener(alarm)
        redis.pause(1)
        await asyncio.gather(bus.join("c", ear), bus.join("d", Ear()))
        assert not bus.well
        await eventually(lambda: alarm.rings)
        await bus.publish("c", "back")
        await ear.hears("back")


async def test_a_publish_into_a_silent_redis_waits_once_and_arrives_late(redis: Redis) -> None:
    timing = Timing(idle=60, sign=60, reply=0.2, first_wait=0.01, longest_wait=0.1)
    alarm, ear = Alarm(), Ear()
    async with Bus(redis.url(), timing) as bus:
        bus.add_recovery_listener(alarm)
        await bus.join("c", ear)
        redis.pause(1)
        began = time.monotonic()
        await asyncio.gather(*(bus.publish("c", "late") for _ in range(20)))
        for _ in range(80):
            await bus.publish("c", "late")
        assert time.monotonic() - began < 0.9
        assert not bus.well
        await eventually(lambda: bus.well)
        assert alarm.rings == 1
        await ear.hears("late")
        await bus.publish("c", "back")
        await ear.hears("back")
    assert bus.counts.lost == 100


async def test_a_redis_that_refuses_texts_keeps_the_bus_unwell_until_it_takes_them(redis: Redis, admin: Admin) -> None:
    async with Bus(redis.url(), QUICK) as bus:
        ear = Ear()
        await bus.join("c", ear)
        await admin.execute_command("ACL", "SETUSER", "default", "-publish")
        try:
            await bus.publish("c", "refused")
            assert not bus.well
            calls = "cmdstat_publish"
            before = (await admin.execute_command("INFO", "commandstats")).get(calls, {})
            await eventually(lambda: _rejected_more_often(admin, calls, int(before.get("rejected_calls", 0)) + 2))
            assert not bus.well
        finally:
            await admin.execute_command("ACL", "SETUSER", "default", "+publish")
        await eventually(lambda: bus.well)
        await ear.hears("refused")


async def _rejected_more_often(admin: Admin, command: str, times: int) -> bool:
    stats = await admin.execute_command("INFO", "commandstats")
    return int(stats.get(command, {}).get("rejected_calls", 0)) >= times


async def test_a_channel_that_redis_refuses_makes_the_bus_unwell_and_no_join_fails(redis: Redis, admin: Admin) -> None:
    async with Bus(redis.url(), QUICK) as bus:
        ear = Ear()
        await admin.execute_command("ACL", "SETUSER", "default", "resetchannels", "&allowed")
        try:
            await bus.join("c", ear)
            assert not bus.well
        finally:
            await admin.execute_command("ACL", "SETUSER", "default", "allchannels")
        await eventually(lambda: bus.well)
        await bus.publish("c", "back")
        await ear.hears("back")


async def test_an_engine_that_breaks_its_promise_is_told_and_leaves_no_join_hanging(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(engine: RedisEngine, channel: str) -> None:
        raise RuntimeError(channel)

    async with Bus(redis.url()) as bus:
        ear = Ear()
        with monkeypatch.context() as patch, capture_logs() as lines:
            patch.setattr(RedisEngine, "subscribe", broken)
            await bus.join("c", ear)
        assert [line["event"] for line in lines] == ["channel_failed"]
        await bus.join("c", ear)
        await wait_until_heard(bus, "c", ear)


async def test_a_stranger_s_bytes_that_are_no_text_stop_nothing(redis: Redis, admin: Admin) -> None:
    async with Bus(redis.url(), PATIENT) as bus:
        ear = Ear()
        await bus.join("c", ear)
        await admin.execute_command("PUBLISH", "c", cast(str, b"\xff\xfe"))
        await bus.publish("c", "text")
        await ear.hears("text")
    assert bus.counts.faults == 0


async def test_a_text_that_cannot_be_sent_is_lost_and_stops_nothing(redis: Redis) -> None:
    async with Bus(redis.url(), PATIENT) as bus:
        with capture_logs() as lines:
            await bus.publish("c", "\ud800")
        assert [line["event"] for line in lines] == ["hint_lost"]
        await bus.publish("c", "text")
        assert (bus.counts.lost, bus.counts.published, bus.well) == (1, 1, True)


async def test_a_recovery_listener_that_raises_stops_no_other(redis: Redis, admin: Admin) -> None:
    def broken() -> None:
        raise RuntimeError

    alarm = Alarm()
    async with Bus(redis.url(), PATIENT) as bus:
        bus.add_recovery_listener(broken)
        bus.add_recovery_listener(alarm)
        await bus.join("c", Ear())
        with capture_logs():
            await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await eventually(lambda: alarm.rings)
        assert bus.well


async def test_the_last_one_to_leave_ends_the_subscription_at_redis(redis: Redis, admin: Admin) -> None:
    async with Bus(redis.url()) as bus:
        first, second = Ear(), Ear()
        await bus.join("c", first)
        await bus.join("c", second)
        await bus.leave("c", first)
        assert await receivers(admin, "c") == 1
        await bus.leave("c", second)
        await eventually(lambda: _none_receives(admin, "c"))


async def _none_receives(admin: Admin, channel: str) -> bool:
    return await receivers(admin, channel) == 0


async def test_no_connection_is_left_after_the_end(redis: Redis) -> None:
    async with Bus(redis.url()) as bus:
        await bus.join("c", Ear())
        await asyncio.gather(*(bus.publish("c", "text") for _ in range(20)))
        assert connections_to(redis) > 1
    await eventually(lambda: connections_to(redis) == 0)


async def test_nothing_is_left_after_an_end_amid_an_outage(redis: Redis) -> None:
    before = asyncio.all_tasks()
    async with Bus(redis.url(), QUICK) as bus:
        await bus.join("c", Ear())
        redis.stop()
        await eventually(lambda: not bus.well)
        await bus.publish("c", "void")
        await bus.join("d", Ear())
    redis.start()
    assert asyncio.all_tasks() == before
    assert connections_to(redis) == 0


# Moments that only a broker with slow answers has.


class Relay:
    """Stands between a bus and Redis: holds back Redis's answers from a given question on, and cuts connections."""

    def __init__(self, engine: Redis) -> None:
        self._engine = engine
        self._answering = asyncio.Event()
        self._answering.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._question = b""
        self.asked = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._engine.url().replace(str(self._engine.port), str(port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.answer()
        self._server.close()
        self.cut()
        await eventually(lambda: not self._writers)

    def hold_from(self, question: bytes) -> None:
        """`asked` is set as soon as the question has come; from then on nothing is answered."""
        self._question = question
        self.asked.clear()

    def answer(self) -> None:
        self._question = b""
        self._answering.set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._engine.port)
        await asyncio.gather(self._ask(reader, far_writer), self._reply(far_reader, writer))

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._kept(writer):
            while data := await reader.read(65_536):
                if self._question and self._question in data:
                    self.asked.set()
                    self._answering.clear()
                writer.write(data)

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._kept(writer):
            while data := await reader.read(65_536):
                await self._answering.wait()
                writer.write(data)

    @asynccontextmanager
    async def _kept(self, writer: asyncio.StreamWriter) -> AsyncGenerator[None]:
        self._writers.add(writer)
        with suppress(ConnectionError, RuntimeError):  # uvloop's word for a transport that is closed
            yield
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self._writers.discard(writer)


@pytest.fixture
async def relay(redis: Redis) -> AsyncIterator[Relay]:
    async with Relay(redis) as relay:
        yield relay


async def test_join_returns_only_after_redis_has_confirmed_it(relay: Relay) -> None:
    async with Bus(relay.url, PATIENT) as bus:
        relay.hold_from(b"SUBSCRIBE")
        joins = [asyncio.create_task(bus.join("c", Ear())) for _ in range(2)]
        await relay.asked.wait()
        assert not any(join.done() for join in joins)
        relay.answer()
        await asyncio.gather(*joins)
        assert bus.well


async def test_leaving_before_the_confirmation_ends_the_subscription_after_it(relay: Relay, admin: Admin) -> None:
    async with Bus(relay.url, PATIENT) as bus:
        ear = Ear()
        relay.hold_from(b"SUBSCRIBE")
        joining = asyncio.create_task(bus.join("c", ear))
        await relay.asked.wait()
        await bus.leave("c", ear)
        assert not joining.done()
        relay.answer()
        await joining
        await eventually(lambda: _none_receives(admin, "c"))


async def test_a_join_after_somebody_left_before_the_confirmation_hears_everything(relay: Relay) -> None:
    async with Bus(relay.url, PATIENT) as bus:
        old, new = Ear(), Ear()
        relay.hold_from(b"SUBSCRIBE")
        joining = [asyncio.create_task(bus.join("c", old))]
        await relay.asked.wait()
        await bus.leave("c", old)
        joining.append(asyncio.create_task(bus.join("c", new)))
        await asyncio.sleep(0)
        relay.answer()
        await asyncio.gather(*joining)
        await bus.publish("c", "hello")
        await new.hears("hello")
        assert old.heard == []


async def test_a_join_whose_connection_breaks_returns_at_once_and_hears_after_the_recovery(relay: Relay) -> None:
    async with Bus(relay.url, Timing(reply=60)) as bus:
        ear = Ear()
        relay.hold_from(b"SUBSCRIBE")
        joining = asyncio.create_task(bus.join("c", ear))
        await relay.asked.wait()
        relay.cut()
        await joining
        relay.answer()
        await eventually(lambda: bus.well)
        await bus.publish("c", "back")
        await ear.hears("back")


async def test_a_publish_whose_connection_breaks_is_tried_once_more(relay: Relay) -> None:
    async with Bus(relay.url, PATIENT) as bus:
        relay.hold_from(b"PUBLISH")
        publishing = asyncio.create_task(bus.publish("c", "text"))
        await relay.asked.wait()
        relay.cut()
        relay.answer()
        await publishing
        assert (bus.counts.published, bus.counts.lost) == (1, 0)


async def test_joining_and_leaving_while_everything_is_subscribed_again(relay: Relay, admin: Admin) -> None:
    async with Bus(relay.url, PATIENT) as bus:
        staying, leaving, returning, coming = Ear(), Ear(), Ear(), Ear()
        await bus.join("staying", staying)
        await bus.join("leaving", leaving)
        await bus.join("returning", returning)
        relay.hold_from(b"SUBSCRIBE")
        relay.cut()
        await relay.asked.wait()
        await bus.leave("leaving", leaving)
        await bus.leave("returning", returning)
        await bus.join("returning", returning)
        await bus.join("coming", coming)
        assert not bus.well
        relay.answer()
        await eventually(lambda: bus.well)
        for channel in ("staying", "returning", "coming"):
            await bus.publish(channel, "back")
        for ear in (staying, returning, coming):
            await ear.hears("back")
        await eventually(lambda: _none_receives(admin, "leaving"))


async def test_a_cancelled_publish_ends_at_once_and_harms_no_other(relay: Relay) -> None:
    async with Bus(relay.url, PATIENT) as bus:
        ear = Ear()
        await bus.join("c", ear)
        relay.hold_from(b"cancelled")
        publishing = asyncio.create_task(bus.publish("c", "cancelled"))
        await relay.asked.wait()
        publishing.cancel()
        relay.answer()
        with pytest.raises(asyncio.CancelledError):
            await publishing
        await bus.publish("c", "next")
        await ear.hears("cancelled", "next")
    assert (bus.counts.lost, bus.counts.faults) == (0, 0)


# What an operator reads when it cannot start.


async def test_a_broker_that_is_not_there_is_named_in_one_sentence_without_password() -> None:
    port, before = free_port(), asyncio.all_tasks()
    bus = Bus(f"redis://somebody:secret@127.0.0.1:{port}/2?client_name=secret")
    with pytest.raises(
        BusUnavailable, match=rf"^The broker at redis://127\.0\.0\.1:{port} cannot be used: .+\.$"
    ) as told:
        await bus.__aenter__()
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)
    assert asyncio.all_tasks() == before


async def test_a_wrong_password_is_said_and_not_repeated(redis: Redis) -> None:
    for url in (f"redis://:guess@127.0.0.1:{redis.port}", f"redis://127.0.0.1:{redis.port}"):
        with pytest.raises(BusUnavailable, match=r"(?i)password|authentication") as told:
            await Bus(url).__aenter__()
        assert "guess" not in str(told.value)
    await eventually(lambda: connections_to(redis) == 0)


async def test_a_broker_that_accepts_and_never_answers_is_given_up() -> None:
    hung_up = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BusUnavailable, match="no answer in time"):
            await Bus(f"redis://127.0.0.1:{port}", QUICK).__aenter__()
        await hung_up.wait()


@pytest.mark.parametrize(
    "url",
    ["", "secret", "kafka://secret@host", "redis://:sec/ret@host", "redis://host:secret", "redis://host?secret=1",
     "redis://host?db=secret"],
)  # fmt: skip
def test_a_url_that_cannot_be_read_is_refused_at_once_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"^BROADCAST_URL [^\n]+$") as told:
        Bus(url)
    assert "sec" not in str(told.value)
    assert told.value.__cause__ is None
