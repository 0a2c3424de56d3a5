"""One contract for the bus on every broker, and what a network adds: faults that are felt, told and mended."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import pytest
from redis.asyncio import Connection
from structlog.testing import capture_logs

from delivery.bus import MAX_CHANNEL_BYTES, MAX_TEXT_BYTES, BrokerAway, Bus, BusUnavailable
from delivery.link import Link, Timing
from delivery.postgres import LISTENS, PostgresEngine
from tests.brokers import Broker, PostgresBroker, RedisBroker, Relay
from tests.harness.waiting import eventually
from tests.processes import free_port

QUICK = Timing(connect=1, reply=0.5, idle=0.1, sign=0.2, first_wait=0.01, longest_wait=0.1)
PATIENT = Timing(idle=60, sign=60, first_wait=0.001, longest_wait=0.002)
"""Never asks for a sign of life, so that only what the test does can reveal a fault."""
HASTY = Timing(idle=60, sign=60, reply=0.3, connect=1, first_wait=0.01, longest_wait=0.1)
"""Nor does this, and it soon gives up what is not answered."""

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
    "\x1b0\x1b\x00e\x1be",
    "'; --\\",
    "x" * MAX_TEXT_BYTES,
]
UNUSUAL_NAMES = ["größe/日本", "c", "C", 'two "words"; --', " ", "x" * MAX_CHANNEL_BYTES, "x" * (MAX_CHANNEL_BYTES - 1)]


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: closed connections fail in other words on uvloop, which serves in production."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def redis_broker() -> Iterator[RedisBroker]:
    """A broker of this module's own: its tests stop, pause and lock it."""
    with closing(RedisBroker()) as broker:
        broker.start()
        yield broker


@pytest.fixture(scope="module")
def postgres_broker() -> Iterator[PostgresBroker]:
    """A broker of this module's own: its tests stop, pause and lock it."""
    with closing(PostgresBroker()) as broker:
        broker.start()
        yield broker


@pytest.fixture(params=["redis", "postgres"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Every broker over a network in turn."""
    return request.getfixturevalue(f"{request.param}_broker")


@pytest.fixture
async def relay(broker: Broker) -> AsyncIterator[Relay]:
    async with Relay(broker) as relay:
        yield relay


@dataclass
class Pair:
    """Two processes' view of one broker; with memory both are the one process there is."""

    here: Bus
    there: Bus


@pytest.fixture(params=["memory", "redis", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Every broker in turn."""
    if request.param == "memory":
        return "memory://"
    return cast(Broker, request.getfixturevalue(f"{request.param}_broker")).url


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


async def test_texts_published_at_once_all_arrive_also_when_they_are_alike(pair: Pair) -> None:
    ear = Ear()
    await pair.here.join("c", ear)
    await asyncio.gather(*(pair.there.publish("c", "alike") for _ in range(50)))
    await ear.hears(*["alike"] * 50)
    assert pair.there.counts.lost == 0


async def test_any_text_comes_out_as_it_went_in(pair: Pair) -> None:
    ear = Ear()
    await pair.here.join("c", ear)
    for text in UNUSUAL_TEXTS:
        await pair.there.publish("c", text)
    await ear.hears(*UNUSUAL_TEXTS)


async def test_a_channel_is_its_name_to_the_letter(pair: Pair) -> None:
    ears = {name: Ear() for name in UNUSUAL_NAMES}
    for name, ear in ears.items():
        await pair.here.join(name, ear)
    for name in ears:
        await pair.there.publish(name, f"for {name}")
    await eventually(lambda: all(ear.heard for ear in ears.values()))
    assert {name: ear.heard for name, ear in ears.items()} == {name: [f"for {name}"] for name in ears}


@pytest.mark.parametrize("name", ["", "x" * (MAX_CHANNEL_BYTES + 1), "é" * 32, "a\x00b"])
async def test_a_channel_that_would_not_fit_every_broker_is_refused_by_each(pair: Pair, name: str) -> None:
    with pytest.raises(ValueError, match="A channel's name has 1 to 63 bytes"):
        await pair.here.join(name, Ear())
    await pair.there.publish(name, "text")
    assert (pair.there.counts.lost, pair.there.well) == (1, True)


@pytest.mark.parametrize("text", ["\ud800", "x" * (MAX_TEXT_BYTES + 1), "é" * (MAX_TEXT_BYTES // 2 + 1)])
async def test_a_text_that_cannot_be_sent_is_lost_and_stops_nothing(pair: Pair, text: str) -> None:
    ear = Ear()
    await pair.here.join("c", ear)
    with capture_logs() as lines:
        await pair.there.publish("c", text)
    assert [line["event"] for line in lines] == ["hint_lost"]
    await pair.there.publish("c", "text")
    await ear.hears("text")
    assert (pair.there.counts.lost, pair.there.counts.published, pair.there.well) == (1, 1, True)


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


# What a broker over a network adds: it goes away and comes back.


@dataclass(eq=False)
class Alarm:
    """A recovery listener that counts."""

    rings: int = 0

    def __call__(self) -> None:
        self.rings += 1


async def test_everything_is_as_before_after_the_broker_was_stopped_and_started(broker: Broker) -> None:
    alarm, ears = Alarm(), {f"c{number}": Ear() for number in range(20)}
    async with Bus(broker.url) as here, Bus(broker.url) as there:
        here.add_recovery_listener(alarm)
        for channel, ear in ears.items():
            await here.join(channel, ear)
        with capture_logs() as lines:
            broker.stop()
            await eventually(lambda: not here.well)
            for _ in range(3):
                await there.publish("c0", "into the void")
            assert not there.well
            late = ears["late"] = Ear()
            await here.join("late", late)
            gone = ears.pop("c1")
            await here.leave("c1", gone)
            broker.start()
            await eventually(lambda: here.well and there.well)
        assert alarm.rings == here.counts.recoveries == here.counts.faults == 1
        assert there.counts.lost == 3
        for channel in ears:
            await there.publish(channel, "back")
        await eventually(lambda: all(ear.heard[-1:] == ["back"] for ear in ears.values()))
        assert gone.heard == []
        assert broker.password not in str(lines)


async def test_a_broker_restarted_in_a_blink_is_noticed(broker: Broker) -> None:
    alarm, ear = Alarm(), Ear()
    async with Bus(broker.url, QUICK) as bus:
        bus.add_recovery_listener(alarm)
        await bus.join("c", ear)
        broker.restart()
        await eventually(lambda: alarm.rings)
        await bus.publish("c", "back")
        await ear.hears("back")


async def test_a_listening_connection_that_is_killed_is_replaced(broker: Broker) -> None:
    alarm, ear = Alarm(), Ear()
    async with Bus(broker.url, PATIENT) as bus:
        bus.add_recovery_listener(alarm)
        await bus.join("c", ear)
        for rings in range(1, 4):
            await broker.end_listening()
            await eventually(lambda rings=rings: alarm.rings == rings)
            assert bus.well
            await bus.publish("c", f"back {rings}")
            await ear.hears(f"back {rings}")
    assert bus.counts.lost == 0


async def test_joins_right_after_the_listening_connection_died_hear_after_the_recovery(broker: Broker) -> None:
    async with Bus(broker.url, PATIENT) as bus:
        await bus.join("c", Ear())
        for number in range(10):
            ears = [Ear(), Ear()]
            await broker.end_listening()
            await asyncio.gather(*(bus.join(f"c{number}.{place}", ear) for place, ear in enumerate(ears)))
            await eventually(lambda number=number: bus.well and bus.counts.recoveries == number + 1)
            for place, ear in enumerate(ears):
                await bus.publish(f"c{number}.{place}", "back")
                await ear.hears("back")


async def test_a_transport_that_closed_just_now_is_a_fault_like_any_other(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send_as_uvloop_does(*_: object, **__: object) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")

    async with Bus(broker.url, PATIENT) as bus:
        ear = Ear()
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "send_command", send_as_uvloop_does)
            patch.setattr(asyncpg.Connection, "execute", send_as_uvloop_does)
            await bus.join("c", ear)
            await bus.publish("c", "late")
            assert not bus.well
            assert (bus.counts.faults, bus.counts.lost) == (2, 1)
        await eventually(lambda: bus.well)
        await wait_until_heard(bus, "c", ear)


async def test_publishing_connections_that_died_idle_lose_nothing(broker: Broker) -> None:
    ear = Ear()
    async with Bus(broker.url, PATIENT) as bus:
        await bus.join("c", ear)
        await asyncio.gather(*(bus.publish("c", "warm") for _ in range(20)))
        await broker.end_publishing()
        await asyncio.gather(*(bus.publish("c", "cold") for _ in range(20)))
        await ear.hears(*["cold"] * 20)
    assert (bus.counts.lost, bus.counts.faults) == (0, 0)


async def test_a_broker_that_falls_silent_is_noticed_without_any_traffic(broker: Broker) -> None:
    alarm, ear = Alarm(), Ear()
    async with Bus(broker.url, QUICK) as bus:
        bus.add_recovery_listener(alarm)
        await bus.join("c", ear)
        with broker.paused():
            await eventually(lambda: not bus.well)
        await eventually(lambda: bus.well)
        assert alarm.rings == 1
        await bus.publish("c", "back")
        await ear.hears("back")


async def test_a_quiet_broker_that_answers_stays_well(broker: Broker) -> None:
    seen: set[str] = set()

    async def was_asked_four_times() -> bool:
        seen.add(str(await broker.signs_of_life()))
        return len(seen) > 4

    async with Bus(broker.url, Timing(idle=0.05)) as bus:
        await bus.join("c", Ear())
        await eventually(was_asked_four_times)
        assert bus.well
    assert bus.counts.faults == 0


async def test_a_join_while_the_broker_is_silent_returns_unwell_and_hears_after_the_recovery(broker: Broker) -> None:
    alarm, ear = Alarm(), Ear()
    async with Bus(broker.url, HASTY) as bus:
        bus.add_recovery_listener(alarm)
        with broker.paused():
            await asyncio.gather(bus.join("c", ear), bus.join("d", Ear()))
            assert not bus.well
        await eventually(lambda: alarm.rings)
        await bus.publish("c", "back")
        await ear.hears("back")


async def test_a_publish_into_a_silent_broker_waits_once_and_arrives_late(broker: Broker) -> None:
    alarm, ear = Alarm(), Ear()
    async with Bus(broker.url, HASTY) as bus:
        bus.add_recovery_listener(alarm)
        await bus.join("c", ear)
        with broker.paused():
            began = time.monotonic()
            await asyncio.gather(*(bus.publish("c", "late") for _ in range(20)))
            for _ in range(80):
                await bus.publish("c", "late")
            assert time.monotonic() - began < 4 * HASTY.reply
            assert not bus.well
        await eventually(lambda: bus.well)
        assert alarm.rings == 1
        await ear.hears("late")
        await bus.publish("c", "back")
        await ear.hears("back")
    assert bus.counts.lost == 100


async def test_a_broker_that_refuses_texts_keeps_the_bus_unwell_until_it_takes_them(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, attempts = Link[Any]._send_in_time, list[str]()  # pyright: ignore[reportPrivateUsage]

    async def send_and_count(link: Link[Any], channel: str, text: str) -> None:
        attempts.append(text)
        await send(link, channel, text)

    monkeypatch.setattr(Link, "_send_in_time", send_and_count)
    async with Bus(broker.url, QUICK) as bus:
        ear = Ear()
        await bus.join("c", ear)
        async with broker.refusing_texts():
            await bus.publish("c", "refused")
            assert not bus.well
            await eventually(lambda: len(attempts) > 3)
            assert not bus.well
        await eventually(lambda: bus.well)
        await ear.hears("refused")


async def test_a_channel_that_redis_refuses_makes_the_bus_unwell_and_no_join_fails(redis_broker: RedisBroker) -> None:
    async with Bus(redis_broker.url, QUICK) as bus:
        ear = Ear()
        await redis_broker.do("ACL", "SETUSER", "default", "resetchannels", "&allowed")
        try:
            await bus.join("c", ear)
            assert not bus.well
        finally:
            await redis_broker.do("ACL", "SETUSER", "default", "allchannels")
        await eventually(lambda: bus.well)
        await bus.publish("c", "back")
        await ear.hears("back")


async def test_an_engine_that_breaks_its_promise_is_told_and_leaves_no_join_hanging(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(link: Link[Any], channel: str) -> None:
        raise RuntimeError(channel)

    async with Bus(broker.url) as bus:
        ear = Ear()
        with monkeypatch.context() as patch, capture_logs() as lines:
            patch.setattr(Link, "subscribe", broken)
            await bus.join("c", ear)
        assert [line["event"] for line in lines] == ["channel_failed"]
        await bus.join("c", ear)
        await wait_until_heard(bus, "c", ear)


async def test_a_recovery_listener_that_raises_stops_no_other(broker: Broker) -> None:
    def broken() -> None:
        raise RuntimeError

    alarm = Alarm()
    async with Bus(broker.url, PATIENT) as bus:
        bus.add_recovery_listener(broken)
        bus.add_recovery_listener(alarm)
        await bus.join("c", Ear())
        with capture_logs():
            await broker.end_listening()
            await eventually(lambda: alarm.rings)
        assert bus.well


async def test_the_last_one_to_leave_ends_the_subscription(broker: Broker) -> None:
    async with Bus(broker.url, PATIENT) as bus:
        first, second = Ear(), Ear()
        await bus.join("c", first)
        await bus.join("c", second)
        await bus.leave("c", first)
        await wait_until_heard(bus, "c", second)
        assert not await broker.has_left("c")
        await bus.leave("c", second)
        await eventually(lambda: broker.has_left("c"))


async def test_no_connection_is_left_after_the_end(broker: Broker) -> None:
    async with Bus(broker.url) as bus:
        await bus.join("c", Ear())
        await asyncio.gather(*(bus.publish("c", "text") for _ in range(20)))
        assert broker.connections() > 1
    await eventually(lambda: broker.connections() == 0)


async def test_nothing_is_left_after_an_end_amid_an_outage(broker: Broker) -> None:
    before = asyncio.all_tasks()
    async with Bus(broker.url, QUICK) as bus:
        await bus.join("c", Ear())
        broker.stop()
        await eventually(lambda: not bus.well)
        await bus.publish("c", "void")
        await bus.join("d", Ear())
    broker.start()
    assert asyncio.all_tasks() == before
    assert broker.connections() == 0


async def test_nothing_is_left_after_an_end_while_the_broker_is_silent(broker: Broker) -> None:
    before, bus = asyncio.all_tasks(), await Bus(broker.url, HASTY).__aenter__()
    await bus.join("c", Ear())
    await bus.publish("c", "text")
    with broker.paused():
        publishing = asyncio.create_task(bus.publish("c", "late"))
        await asyncio.sleep(0)
        await bus.__aexit__(None, None, None)
        await publishing
        assert asyncio.all_tasks() == before
        await eventually(lambda: broker.connections() == 0)
    assert bus.counts.lost == 1


# Moments that only a broker with slow answers has.


async def test_join_returns_only_after_the_broker_has_confirmed_it(broker: Broker, relay: Relay) -> None:
    async with Bus(relay.url, PATIENT) as bus:
        relay.hold_from(broker.asking)
        joins = [asyncio.create_task(bus.join("c", Ear())) for _ in range(2)]
        await relay.asked.wait()
        assert not any(join.done() for join in joins)
        relay.answer()
        await asyncio.gather(*joins)
        assert bus.well


async def test_leaving_before_the_confirmation_ends_the_subscription_after_it(broker: Broker, relay: Relay) -> None:
    async with Bus(relay.url, PATIENT) as bus:
        ear = Ear()
        relay.hold_from(broker.asking)
        joining = asyncio.create_task(bus.join("c", ear))
        await relay.asked.wait()
        await bus.leave("c", ear)
        assert not joining.done()
        relay.answer()
        await joining
        await eventually(lambda: broker.has_left("c"))


async def test_a_join_after_somebody_left_before_the_confirmation_hears_everything(
    broker: Broker, relay: Relay
) -> None:
    async with Bus(relay.url, PATIENT) as bus:
        old, new = Ear(), Ear()
        relay.hold_from(broker.asking)
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


async def test_a_join_whose_connection_breaks_returns_at_once_and_hears_after_the_recovery(
    broker: Broker, relay: Relay
) -> None:
    async with Bus(relay.url, Timing(reply=60)) as bus:
        ear = Ear()
        relay.hold_from(broker.asking)
        joining = asyncio.create_task(bus.join("c", ear))
        await relay.asked.wait()
        relay.cut()
        async with asyncio.timeout(10):
            await joining
        relay.answer()
        await eventually(lambda: bus.well)
        await bus.publish("c", "back")
        await ear.hears("back")


async def test_a_publish_whose_connection_breaks_is_tried_once_more(broker: Broker, relay: Relay) -> None:
    async with Bus(relay.url, PATIENT) as bus:
        relay.hold_from(broker.publishing)
        publishing = asyncio.create_task(bus.publish("c", "text"))
        await relay.asked.wait()
        relay.cut()
        relay.answer()
        await publishing
        assert (bus.counts.published, bus.counts.lost) == (1, 0)


async def test_joining_and_leaving_while_everything_is_subscribed_again(broker: Broker, relay: Relay) -> None:
    async with Bus(relay.url, PATIENT) as bus:
        staying, leaving, returning, coming = Ear(), Ear(), Ear(), Ear()
        await bus.join("staying", staying)
        await bus.join("leaving", leaving)
        await bus.join("returning", returning)
        relay.hold_from(broker.asking)
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
        await eventually(lambda: broker.has_left("leaving"))


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


# What only PostgreSQL has.


async def test_everything_is_subscribed_again_in_one_statement(postgres_broker: PostgresBroker) -> None:
    async with Bus(postgres_broker.url, PATIENT) as bus:
        for number in range(8):
            await bus.join(f"c{number}", Ear())
        await postgres_broker.end_listening()
        await eventually(lambda: bus.counts.recoveries)
        statement = await postgres_broker.ask("SELECT query FROM pg_stat_activity WHERE application_name = $1", LISTENS)
    assert sorted(statement.split(";")) == [f'LISTEN "c{number}"' for number in range(8)]


async def test_a_server_that_listens_no_more_is_noticed(postgres_broker: PostgresBroker) -> None:
    """As behind a pooler that shares its sessions."""

    async def made_to_forget(bus: Bus) -> bool:
        connection = cast(PostgresEngine, bus._engine)._connection  # pyright: ignore[reportPrivateUsage]
        with suppress(asyncpg.InterfaceError):  # it is being asked for a sign of life
            return connection is not None and await connection.execute("UNLISTEN *") == "UNLISTEN"
        return False

    async with Bus(postgres_broker.url, Timing(idle=0.05, first_wait=0.01)) as bus:
        ear = Ear()
        await bus.join("c", ear)
        with capture_logs() as lines:
            await eventually(lambda: made_to_forget(bus))
            await eventually(lambda: bus.counts.recoveries)
        assert "does not listen any more" in lines[0]["reason"]
        await wait_until_heard(bus, "c", ear)


async def test_a_text_that_postgresql_cannot_carry_is_lost_and_stops_nothing(postgres_broker: PostgresBroker) -> None:
    async with Bus(postgres_broker.url, PATIENT) as bus:
        await bus.publish("c", "\x00" * MAX_TEXT_BYTES)
        await bus.publish("c", "text")
        assert (bus.counts.lost, bus.counts.published, bus.well) == (1, 1, True)


async def test_a_text_that_postgresql_cannot_carry_ends_an_outage_when_it_answers_again(
    postgres_broker: PostgresBroker,
) -> None:
    async with Bus(postgres_broker.url, QUICK) as bus:
        postgres_broker.stop()
        await bus.publish("c", "\x00" * MAX_TEXT_BYTES)
        postgres_broker.start()
        await eventually(lambda: bus.well)


@pytest.mark.parametrize("options", ["sslmode=disable", "sslmode=prefer", "ssl=allow", "application_name=mine"])
async def test_a_postgresql_url_may_have_the_options_that_a_database_has(
    postgres_broker: PostgresBroker, options: str
) -> None:
    async with Bus(postgres_broker.url.replace("postgresql://", "postgres://") + f"?{options}") as bus:
        ear = Ear()
        await bus.join("c", ear)
        await wait_until_heard(bus, "c", ear)


@pytest.mark.parametrize("name", ["sslmode", "ssl"])
async def test_a_server_without_tls_is_refused_where_tls_is_required(
    postgres_broker: PostgresBroker, name: str
) -> None:
    with pytest.raises(BusUnavailable, match="rejected SSL upgrade"):
        await Bus(f"{postgres_broker.url}?{name}=require").__aenter__()


# What an operator reads when it cannot start.


@pytest.mark.parametrize("url", ["redis://somebody:secret@{}/2?client_name=secret", "postgres://somebody:secret@{}/x"])
async def test_a_broker_that_is_not_there_is_named_in_one_sentence_without_password(url: str) -> None:
    place, before = f"127.0.0.1:{free_port()}", asyncio.all_tasks()
    sentence = rf"^The broker at {urlsplit(url).scheme}://{re.escape(place)} cannot be used: .+\.$"
    with pytest.raises(BrokerAway, match=sentence) as told:
        await Bus(url.format(place)).__aenter__()
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)
    assert asyncio.all_tasks() == before


async def test_of_several_hosts_that_are_not_there_none_is_named() -> None:
    with pytest.raises(BrokerAway, match=r"^The broker at BROADCAST_URL cannot be used: .+\.$") as told:
        await Bus(f"postgres://a:secret@127.0.0.1:{free_port()},127.0.0.1:{free_port()}/x").__aenter__()
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("who", [":guess@", ""])
async def test_a_wrong_password_is_said_and_not_repeated(broker: Broker, who: str) -> None:
    who = who and f"{broker.user}{who}"
    with pytest.raises(BusUnavailable, match=r"(?i)password|authentication") as told:
        await Bus(f"{broker.scheme}://{who}127.0.0.1:{broker.port}/0").__aenter__()
    assert told.type is BusUnavailable  # no waiting mends it
    assert "guess" not in str(told.value)
    await eventually(lambda: broker.connections() == 0)


@pytest.mark.parametrize("scheme", ["redis", "postgres"])
async def test_a_broker_that_accepts_and_never_answers_is_given_up(scheme: str) -> None:
    hung_up = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(10):
            with pytest.raises(BrokerAway, match="no answer in time"):
                await Bus(f"{scheme}://127.0.0.1:{port}", QUICK).__aenter__()
            await hung_up.wait()


@pytest.mark.parametrize(
    "url",
    ["", "secret", "kafka://secret@host", "redis://:sec/ret@host", "redis://host:secret", "redis://host?secret=1",
     "redis://host?db=secret", "postgres://a:sec/ret@host/x", "postgres://a:1/sec@host/x", "postgres://a:1#sec@host/x",
     "postgres://host:secret/x", "postgres://host/x?secret", "postgres://host/x?port=secret",
     "postgresql:///x?host=a:secret"],
)  # fmt: skip
def test_a_url_that_cannot_be_read_is_refused_at_once_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"^BROADCAST_URL [^\n]+$") as told:
        Bus(url)
    assert "sec" not in str(told.value)
    assert told.value.__cause__ is None
