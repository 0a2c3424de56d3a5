"""Parley with one rule of streams broken, for each: what somebody in a hurry would write. See `tests.sabotage`."""
# pyright: reportPrivateUsage=false

from collections.abc import AsyncGenerator, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

from db import groups
from db.engine import Transaction
from db.records import Group, Standing
from delivery.cohort import Cohort, Member
from delivery.events import EVERYBODY, Batch, Event, Log
from delivery.feed import Feed
from delivery.stream import BATCH, Seat, Stream, Streams
from resolvers import messages, reader
from resolvers.access import Door, EventDoor, ViewerDoor
from resolvers.following import Following
from resolvers.messages import MessagesFollowing, SharedMessages
from resolvers.news import NewsFollowing, SnapshotDoor, SnapshotNews
from resolvers.reader import Shown
from resolvers.refusals import Refusal
from schema.context import Context
from schema.loaders import Loaders
from tests.sabotage import Version, always

MESSAGES, NEWS = "resolvers.messages.MessagesFollowing", "resolvers.news.NewsFollowing"

# Rule 6


async def _open_and_forget(
    self: EventDoor, transaction: Transaction, group_ids: Collection[UUID]
) -> Mapping[UUID, Group | Refusal]:
    own = (await groups.get_many(transaction, [self.group_id])).get(self.group_id)
    return {group_id: EventDoor._own(own) for group_id in group_ids}


DOORS_FORGET_HOW_NEW_THEY_SAW = Version(
    "doors forget how new they saw", (("resolvers.access.EventDoor.open", _open_and_forget),)
)


async def _memberships_beside_the_door(services: Any, _: Door, keys: Collection[Any]) -> Any:
    async with services.read() as transaction:
        return await messages.memberships.get_many(transaction, keys)


READS_BESIDE_THE_DOOR = Version(
    "reads beside the door", (("resolvers.memberships.get_many", _memberships_beside_the_door),)
)


def _open_for_anybody(self: NewsFollowing, fact: Any) -> Door:
    if isinstance(fact, SnapshotNews):
        return SnapshotDoor(ViewerDoor(self._viewer.id))
    event = getattr(fact, "fact", fact).event
    return EventDoor(event.group_id, 0)


OPENS_THE_DOOR_FOR_ANYBODY = Version("opens the door for anybody", ((f"{NEWS}._open", _open_for_anybody),))


async def _settle_nothing(*_: object) -> None:
    pass


SENDS_BEFORE_PERMISSIONS_ARE_APPLIED = Version(
    "sends before permissions are applied", (("delivery.stream.Stream.settle", _settle_nothing),)
)


def _show_what_can_be_shown(self: SharedMessages) -> list[Member]:
    assert self.event is not None
    assert isinstance(self.door, EventDoor)
    seq, seen = self.event.seq, self.door.seen
    return [member for member in self.members if member.floor < seq and seen < member.ending]


SHOWS_WHAT_IT_CAN = Version(
    "shows what it can", (("resolvers.messages.SharedMessages.show_to", _show_what_can_be_shown),)
)


def _settle_any_snapshot(*_: object) -> bool:
    return True


SENDS_AN_OLD_SNAPSHOT = Version("sends an old snapshot", ((f"{NEWS}._settle_snapshot", _settle_any_snapshot),))


def _show_with_old_loaders(self: Context, viewer: Any, following: Following[Any]) -> Loaders:
    self.following = following
    if self._loaders is None:
        self._loaders = Loaders(self.services, viewer, following.door)
    return self._loaders


def _forget_nothing(_: Context) -> None:
    pass


KEEPS_ITS_LOADERS = Version(
    "keeps its loaders",
    (("schema.context.Context.show", _show_with_old_loaders), ("schema.context.Context.forget", _forget_nothing)),
)


_take_own_end = Member.take


def _take_every_end(self: Member, event: Event) -> None:
    _take_own_end(self, replace(event, ends=EVERYBODY) if event.ends else event)


TAKES_THE_ENDS_OF_OTHERS = Version("takes the ends of others", (("delivery.cohort.Member.take", _take_every_end),))

# Rule 7

_begin = Seat.begin


def _begin_at_zero(self: Seat, _: int) -> None:
    _begin(self, 0)


BEGINS_AT_ZERO = Version("begins at zero", (("delivery.stream.Seat.begin", _begin_at_zero),))


def _offer_unless_joining(self: Seat, event: Event) -> None:
    if self._joining is None and event.seq > self.floor and not self.left:
        self._give(event)


KEEPS_NOTHING_WHILE_IT_JOINS = Version(
    "keeps nothing while it joins", (("delivery.stream.Seat.offer", _offer_unless_joining),)
)


async def _begin_where_the_stream_is(self: Seat, floor: int) -> None:
    self.begin(floor)


async def _begin_and_lose(self: Seat, floor: int) -> None:
    stream, self.floor = self.stream, max(self.floor, floor)
    target = max(self.floor, stream.applied)
    await self._apply_access(stream.access_seq)
    while self.floor < target and not self.left:
        batch = await stream.reader.after(stream.log, self.floor, BATCH)
        await self._apply_access(batch.access_seq)
        self._hand(event for event in batch.events if event.seq <= target)
        self.floor = max((event.seq for event in batch.events), default=target)
    self.begin(max(self.floor, target))


async def _begin_without_looking_back(self: Seat, floor: int) -> None:
    stream, self.floor = self.stream, max(self.floor, floor)
    target = max(self.floor, stream.applied)
    while self.floor < target and not self.left:
        batch = await stream.reader.after(stream.log, self.floor, BATCH)
        await self._apply_access(batch.access_seq)
        due = [event for event in batch.events if event.seq <= target]
        self._hand(due)
        self.floor = due[-1].seq if due else target
    self.begin(self.floor)


SKIPS_WHAT_THE_STREAM_HAS_PASSED = Version(
    "skips what the stream has passed", (("delivery.stream.Seat.begin_from", _begin_where_the_stream_is),)
)
LOSES_WHAT_IT_READ_TOO_MUCH = Version(
    "loses what it read too much", (("delivery.stream.Seat.begin_from", _begin_and_lose),)
)
MISSES_PERMISSIONS_APPLIED_BEFORE = Version(
    "misses permissions applied before", (("delivery.stream.Seat.begin_from", _begin_without_looking_back),)
)


async def _note_and_apply_nothing(self: Stream, batch: Batch) -> None:
    self.access_seq = max(self.access_seq, batch.access_seq)


ENDS_ONLY_AT_THE_END = Version(
    "ends only at the end", (("delivery.stream.Stream._apply_access", _note_and_apply_nothing),)
)


@contextmanager
def _deaf(_: Streams, __: Sequence[Log]) -> Generator[dict[Log, int]]:
    yield {}


DEAF_WHILE_A_STREAM_IS_MADE = Version("deaf while a stream is made", (("delivery.stream.Streams._listening", _deaf),))


def _drained_and_again(self: Stream, _: object) -> None:
    self._drain = None
    self.hint(0)


STARTS_AGAIN_WHEN_IT_IS_STOPPED = Version(
    "starts again when it is stopped", (("delivery.stream.Stream._drained", _drained_and_again),)
)


async def _head_after_the_judgement(self: MessagesFollowing) -> None:
    seat = await self._sit()
    await self._readable()
    async with self._services.read() as transaction:
        group = (await groups.get_many(transaction, [self._group_id]))[self._group_id]
    seat.begin(group.head_seq)


READS_THE_HEAD_AFTER_THE_JUDGEMENT = Version(
    "reads the head after the judgement", ((f"{MESSAGES}._begin_now", _head_after_the_judgement),)
)


async def _replay_and_then_sit(self: MessagesFollowing, after: str) -> AsyncGenerator[Shown]:
    batch = await self._first_batch(after)
    self.cursor = after
    for fact in batch.facts:
        yield fact
    seat = await self._sit()
    seat.begin(batch.group.head_seq)


SITS_AFTER_THE_HEAD_WAS_READ = Version("sits after the head was read", ((f"{MESSAGES}._replay", _replay_and_then_sit),))


async def _list_and_then_sit(self: NewsFollowing) -> Any:
    start = await self._read_start()
    self._own = (await self._sit([reader.user_log(self._viewer.id)]))[0]
    for seat in await self._sit([reader.group_log(group.id) for group in start.groups]):
        self._seats[seat.stream.log.id] = seat
    self._go_live(start)
    return start


LISTS_AND_THEN_SITS = Version("lists and then sits", ((f"{NEWS}._begin", _list_and_then_sit),))


def _judged_by_nothing(_: MessagesFollowing, standing: Standing) -> Group:
    return standing.group


JUDGES_A_REPLAY_ONCE = Version("judges a replay once", ((f"{MESSAGES}._judged", _judged_by_nothing),))

# Rule 8


async def _show_once(self: Following[Any], fact: Any) -> AsyncGenerator[Any]:
    self._fact = fact
    self.door = self._open(fact)
    yield fact


SKIPS_A_FAULTY_EVENT = Version("skips a faulty event", (("resolvers.following.Following._show", _show_once),))
SENDS_A_FAULTY_EVENT = Version(
    "sends a faulty event",
    (("schema.socket.is_fault", always(answer=False)), ("schema.cohorts.is_fault", always(answer=False))),
)
TAKES_MISTAKES_FOR_FAULTS = Version(
    "takes mistakes for faults",
    (("schema.socket.is_fault", always(answer=True)), ("schema.cohorts.is_fault", always(answer=True))),
)

_settle_following = Following[Any].settle


async def _settle_ahead(self: Following[Any], *, faulty: bool) -> bool:
    if isinstance(self._fact, Shown):
        self.cursor = messages.cursor_of(self._fact)
    if isinstance(self, messages.SharedMessages):
        for member in self.members:
            member.last = self.event
    return await _settle_following(self, faulty=faulty)


MOVES_THE_CURSOR_BEFORE_IT_SENDS = Version(
    "moves the cursor before it sends", (("resolvers.following.Following.settle", _settle_ahead),)
)


async def _read_on_over_faults(self: Stream) -> None:
    while self._known > self.applied and self._seats:
        try:
            batch = await self.reader.after(self.log, self.applied, BATCH)
            await self._apply_access(batch)
        except Exception:  # noqa: BLE001
            self.applied = self._known
            continue
        self._hand_out(batch)


_read_on_over_faults.__qualname__ = Stream._read_on.__qualname__
SKIPS_WHAT_IT_CANNOT_READ = Version(
    "skips what it cannot read", (("delivery.stream.Stream._read_on", _read_on_over_faults),)
)


def _skip_and_go_on(self: Stream, _: Exception) -> None:
    self.applied = self._known


SKIPS_WHAT_IT_GIVES_UP = Version("skips what it gives up", (("delivery.stream.Stream._give_up", _skip_and_go_on),))


async def _settle_news_whatever_ended(self: NewsFollowing, fact: Any) -> bool:
    if isinstance(fact, SnapshotNews) or fact.group is None:
        return True
    seat = self._seats[fact.group.id]
    assert isinstance(self.door, EventDoor)
    await seat.stream.settle(self.door.seen)
    if not seat.left:
        return True
    self._fact = replace(fact, group=None)
    return False


TAKES_A_FAULT_FOR_AN_END = Version("takes a fault for an end", ((f"{NEWS}._settle", _settle_news_whatever_ended),))


async def _read_once(read: Any) -> Any:
    return await read()


HAS_NO_PATIENCE = Version("has no patience", (("resolvers.messages.steadily", _read_once),))

# The outbox

_take = Feed.take


def _take_without_bound(self: Feed, event: Event) -> None:
    self._bound = 1_000_000
    _take(self, event)


FEEDS_WITHOUT_BOUND = Version("feeds without bound", (("delivery.feed.Feed.take", _take_without_bound),))

# Cohorts that are slower than their log


def _keep_whatever_comes(self: Cohort, event: Event) -> None:
    self._take(event)


KEEPS_WHATEVER_COMES = Version("keeps whatever comes", (("delivery.cohort.Cohort.take", _keep_whatever_comes),))


async def _go_on_without(self: Cohort) -> None:
    self.is_behind = False


FORGETS_WHAT_IT_LET_GO = Version(
    "forgets what it let go", (("delivery.cohort.Cohort._catch_up", _go_on_without),)
)  # fmt: skip


async def _read_once_more(self: Cohort) -> None:
    if batch := await self._stream.read(self._taken):
        for event in batch.events:
            self._take(event)
    self.is_behind = False


STOPS_READING_TOO_SOON = Version(
    "stops reading too soon", (("delivery.cohort.Cohort._catch_up", _read_once_more),)
)  # fmt: skip


def _take_what_it_has(self: Cohort, event: Event) -> None:
    self._taken = event.seq
    if event.ends is None and self._wants(event):
        self._wait(event, [])


TAKES_WHAT_IT_HAS = Version("takes what it has", (("delivery.cohort.Cohort._take", _take_what_it_has),))

_begin_member = Member.__init__


def _begin_anywhere(self: Member, cohort: Cohort, seat: Seat, outlet: Any) -> None:
    _begin_member(self, cohort, seat, outlet)
    self.floor = 0


def _whichever(cohorts: Sequence[Cohort], _: int) -> Sequence[Cohort]:
    return cohorts


def _do_nothing(_: Cohort) -> None:
    pass


BEGINS_ANYWHERE = Version("begins anywhere", (("delivery.cohort.Member.__init__", _begin_anywhere),))
GOES_WITH_WHOM_IT_MEETS = Version("goes with whom it meets", (("schema.cohorts.no_further", _whichever),))
WAITS_FOR_ITS_TURN = Version("waits for its turn", (("delivery.cohort.Cohort._end_overdue", _do_nothing),))


async def _read_without_permissions(self: Stream, after: int) -> Batch:
    return await self.reader.after(self.log, after, BATCH)


READS_WITHOUT_PERMISSIONS = Version(
    "reads without permissions", (("delivery.stream.Stream.read", _read_without_permissions),)
)

# Rule 9, on a running server


async def _check_heads_forward(self: Streams) -> None:
    for followed, head in (await self._heads(tuple(self._streams))).items():
        if stream := self._streams.get(followed):
            stream.hint(head.seq)


LOOKS_ONLY_FORWARD = Version("looks only forward", (("delivery.stream.Streams.check_heads", _check_heads_forward),))
