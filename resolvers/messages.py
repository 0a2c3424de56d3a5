"""Messages: sending, reading back, and following a group's log. Knows nothing of SQL or GraphQL."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from time import thread_time
from uuid import UUID

from uuid_utils.compat import uuid7

import failpoints
from db import events, memberships, messages
from db.engine import Transaction
from db.events import GroupLog
from db.records import MESSAGE_KINDS, Group, GroupEventKind, Membership, Message, Standing
from delivery.cohort import Cohort, Member
from delivery.events import Event, Wants
from delivery.feed import EndReason
from delivery.stream import Seat
from frozen import frozen

from . import follows, mentions, text, threads
from .access import Door, EventDoor, Operation, Viewer, judge, locked, readable
from .cursors import Position, invalid_position, position
from .filters import Filter
from .following import Following, end_of, end_of_seat, end_shown, fault, membership_ended, steadily
from .pages import Page, PageRequest, behind_door, readable_of, requested
from .reader import Shown, group_log, shown
from .refusals import ErrorCode, Refusal, conflict, not_found
from .resuming import Found, Place, find, part, sight
from .services import Services

SHOWING, TURN = 150, 8_000  # deliveries of 1 µs: what it costs to show an event, and what others may wait for
Join = Callable[[Seat, Viewer, Wants, str | None], None]
"""Takes over a live seat, with what is wanted of it and the last cursor that was sent."""


@frozen
class Sent:
    """A message in the log; `replayed` if an earlier request with the same id had put it there."""

    message: Message
    replayed: bool


async def send(
    services: Services,
    viewer: Viewer,
    group_id: UUID,
    *,
    content: str,
    client_message_id: str | None,
    reply_to_id: UUID | None = None,
) -> Sent:
    """Put a message into the group's log, exactly once for each id that its sender gives.

    Membership is judged first. A repeat of an id returns the message as it is now; another content, another group or
    another message to reply to under the same id is CONFLICT. Raises BAD_USER_INPUT, what `threads.branch` raises, and
    what the door raises.
    """
    content, client_id = text.content(content), text.client_message_id(client_message_id)
    digest = _digest(group_id, content, reply_to_id) if client_id is not None else b""

    async def work(transaction: Transaction) -> Sent:
        log, own = await locked(transaction, viewer.id, group_id, Operation.SEND)
        if client_id is not None and (earlier := await _earlier(transaction, viewer.id, client_id, digest)):
            return Sent(earlier, replayed=True)
        branch = await threads.branch(transaction, group_id, reply_to_id) if reply_to_id else None
        message = await _append(transaction, log, own, content, client_id, branch and branch.root.id)
        if branch:
            await threads.grow(transaction, log, branch, message)
            await follows.follow_by_reply(transaction, log, branch, message)
        if client_id is not None:
            await messages.keep_sent_id(transaction, message, digest)
        await log.write()
        await mentions.keep(transaction, message)
        return Sent(message, replayed=False)

    return await services.write(work)


def _digest(group_id: UUID, content: str, reply_to_id: UUID | None) -> bytes:
    """What a request asked for. No UTF-8 holds the byte that parts the content from the rest."""
    asked = group_id.bytes + content.encode()
    return hashlib.sha256(asked + b"\xff" + reply_to_id.bytes if reply_to_id else asked).digest()


async def _earlier(transaction: Transaction, sender_id: UUID, client_id: str, digest: bytes) -> Message | None:
    kept = await messages.sent_id(transaction, sender_id, client_id)
    if kept is None:
        return None
    if kept.digest != digest:
        raise conflict("You used this clientMessageId for another message. Use a new one for each message.")
    return await messages.get(transaction, kept.message_id)


async def _append(
    transaction: Transaction,
    log: GroupLog,
    own: Membership,
    content: str,
    client_id: str | None,
    thread_root_id: UUID | None = None,
) -> Message:
    message_id, sender_id = uuid7(), own.user_id
    event = log.append(GroupEventKind.MESSAGE_SENT, sender_id, message_id=message_id)
    message = Message(
        id=message_id, group_id=log.group.id, seq=event.seq, version=event.seq, sender_id=sender_id, content=content,
        client_message_id=client_id, created_at=event.occurred_at, updated_at=event.occurred_at,
        thread_root_id=thread_root_id,
        mentions=await mentions.find(transaction, own, content, event.seq),
    )  # fmt: skip
    await messages.add(transaction, message)
    log.shows(message)
    return message


async def pages(
    services: Services, door: Door, group_ids: Sequence[UUID], request: PageRequest
) -> Mapping[UUID, Page[Message] | Refusal]:
    """The same page of several groups' messages, oldest first."""
    async with services.read() as transaction:
        return await behind_door(transaction, door, group_ids, request, messages.pages)


async def pages_without_replies(
    services: Services, door: Door, group_ids: Sequence[UUID], request: PageRequest
) -> Mapping[UUID, Page[Message] | Refusal]:
    """As `pages`, of what is no reply."""
    async with services.read() as transaction:
        return await behind_door(transaction, door, group_ids, request, messages.pages_without_replies)


async def newest(services: Services, door: Door, group_ids: Sequence[UUID]) -> Mapping[UUID, Message | Refusal | None]:
    """The newest message of each group, None in a group without messages."""
    async with services.read() as transaction:
        opened = await door.open(transaction, group_ids)
        found = await messages.newest(transaction, readable_of(opened))
        return {
            group_id: each if isinstance(each, Refusal) else found.get(group_id) for group_id, each in opened.items()
        }


async def get(services: Services, viewer: Viewer, message_id: UUID) -> Message:
    """The message. Raises NOT_FOUND, and what the door of its group raises."""
    async with services.read() as transaction:
        message = await messages.get(transaction, message_id)
        if message is None:
            raise not_found("message")
        await readable(transaction, viewer.id, message.group_id)
        return message


async def behind(services: Services, door: Door, wanted: Sequence[tuple[UUID, UUID]]) -> Sequence[Message | Refusal]:
    """For each (group, message of it) the message."""
    async with services.read() as transaction:
        opened = await door.open(transaction, {group_id for group_id, _ in wanted})
        found = await messages.get_many(transaction, {message_id for _, message_id in wanted})
    return [
        group if isinstance(group := opened[group_id], Refusal) else found[message_id]
        for group_id, message_id in wanted
    ]


async def visible(services: Services, viewer: Viewer, message_id: UUID) -> Message | None:
    """The message, if the viewer is a member of its group; else None."""
    async with services.read() as transaction:
        message = await messages.get(transaction, message_id)
        if message is None:
            return None
        try:
            await readable(transaction, viewer.id, message.group_id)
        except Refusal:
            return None
        return message


@frozen
class EventPage:
    """Events after a position, the position after them, and whether there are more."""

    events: Sequence[Shown]
    cursor: str
    has_more: bool


async def events_after(
    services: Services, door: Door, group_id: UUID, *, after: str, first: int | None, only: Filter | None = None
) -> EventPage:
    """The polling fallback: the same events with the same cursors as `follow`, from one snapshot with the judgement.

    A page may be short, or empty, and still say that there is more: its cursor lies after all that was looked at.
    """
    limit = requested(first, None, None, None, newest_by_default=False).limit
    async with services.read() as transaction:
        opened = (await door.open(transaction, [group_id]))[group_id]
        if isinstance(opened, Refusal):
            raise opened
        start = position(after, group_id)
        nonces = {0: 0} | await events.nonces_at(transaction, group_id, [start.seq])
        _check_row(start, nonces.get(start.seq))
        page = await events.after(transaction, group_id, start.seq, limit + 1, part=part(only, start.seq))
        facts = await shown(transaction, page) if page else []
        if len(facts) > limit:
            return EventPage(facts[:limit], cursor_of(facts[limit - 1]), has_more=True)
        if (seen := sight(start.seq)) < opened.head_seq:
            return EventPage(facts, await _cursor_at(transaction, group_id, seen), has_more=True)
        return EventPage(facts, head_cursor(opened), has_more=False)


async def _cursor_at(transaction: Transaction, group_id: UUID, seq: int) -> str:
    nonces = await events.nonces_at(transaction, group_id, [seq])
    return Position(group_id, seq, nonces[seq]).encode()  # a log has no holes


def _check_row(start: Position, nonce: int | None) -> None:
    """Raises CURSOR_INVALID unless the row that the cursor names is there with the same random bits."""
    if nonce != start.nonce:
        raise invalid_position()


def cursor_of(fact: Shown) -> str:
    return Position(fact.event.group_id, fact.event.seq, fact.event.nonce).encode()


def head_cursor(group: Group) -> str:
    """The stream position of the group as it was read."""
    return Position(group.id, group.head_seq, group.head_nonce).encode()


def start_cursor(group_id: UUID) -> str:
    """The stream position before the first event."""
    return Position(group_id, 0, 0).encode()


def is_message_event(event: Event) -> bool:
    fact: Shown = event.fact
    return fact.event.kind in MESSAGE_KINDS


@frozen
class _Batch:
    group: Group
    facts: Sequence[Shown]
    seen: int  # up to which seq the log was looked at

    @property
    def is_last(self) -> bool:
        return self.seen >= self.group.head_seq


class MessagesFollowing(Following[Shown]):
    """One subscriber of a group's messages: what was missed after a cursor, up to the head that was read last.

    What comes later comes through the cohort that is joined then, without a gap and without a double, and `live_end`
    says what its end means. With `only` the rest is left out, wherever it comes from; what ends the subscription never
    is.
    """

    def __init__(
        self,
        services: Services,
        viewer: Viewer,
        group_id: UUID,
        after: str | None,
        join: Join,
        only: Filter | None = None,
    ) -> None:
        super().__init__()
        self._services = services
        self._viewer = viewer
        self._group_id = group_id
        self._seat: Seat | None = None
        self._has_more = False  # has come above the floor of its seat
        self._after = after
        self._join = join
        self._only = only
        self._shows = is_message_event if only is None else only.shows
        self._began = 0.0  # what it does now of its replay

    def take(self, event: Event) -> None:
        """As the listener of its seat, above the floor. What comes here is read again by the cohort."""
        self._has_more = self._has_more or self._shows(event)

    def end(self, reason: EndReason) -> None:
        """The seat says that it was left."""

    def _leave(self) -> None:
        if self._seat is not None:
            self._seat.leave()
            self._seat = None  # they refer to each other

    async def _facts(self) -> AsyncGenerator[Shown, None]:
        if self._after is None:
            await self._begin_now()
        else:
            async for fact in self._replay(self._after):
                yield fact
                failpoints.reach("mid_replay")
                self._began = await self._services.replays.turn_after(self._began)
        if self._seat is not None and not self.stopped:
            self._hand_over(self._seat)

    def _hand_over(self, seat: Seat) -> None:
        """What has come meanwhile comes again through the cohort, which begins at the seat's floor."""
        if seat.left:
            raise end_of_seat(seat, self.cursor)
        if not self._has_more:
            seat.floor = max(seat.floor, seat.stream.applied)
        self._seat = None
        self._join(seat, self._viewer, self._shows, self.cursor)

    async def _begin_now(self) -> None:
        seat = await self._sit()
        group = await steadily(self._readable)
        seat.begin(group.head_seq)

    async def _readable(self) -> Group:
        async with self._services.read() as transaction:
            return (await readable(transaction, self._viewer.id, self._group_id)).group

    async def _sit(self) -> Seat:
        streams = self._services.streams
        seats = await steadily(lambda: streams.seats([group_log(self._group_id)], self._viewer.id, self))
        if not seats:
            raise not_found("group")
        self._seat = seats[0]
        return seats[0]

    async def _replay(self, after: str) -> AsyncGenerator[Shown, None]:
        """From the cursor to the head.

        The seat is taken once the head is near, and before the head that it begins above is read.
        """
        batch, floor = await self._first_batch(after), None
        self.cursor = after
        while not self.stopped:
            if self._seat is not None and floor is None:
                floor = batch.group.head_seq
                self._seat.begin(floor)
            for fact in batch.facts:
                if floor is None or fact.event.seq <= floor:
                    yield fact
            if floor is not None and batch.seen >= floor:
                return
            if self._seat is None and batch.is_last:
                await self._sit()
            batch = await self._batch(batch.seen)

    async def _first_batch(self, after: str) -> _Batch:
        """Membership is judged first: a cursor tells nothing to somebody who may not read the group."""
        try:
            start = position(after, self._group_id)
        except Refusal:
            await steadily(self._readable)
            raise
        found = await self._found(Place(self._viewer.id, start.seq, begins=True))
        group = judge(found.standing, Operation.READ).group
        _check_row(start, found.nonce)
        return _Batch(group, found.facts, found.seen)

    async def _batch(self, seq: int) -> _Batch:
        """Judged by the membership in the snapshot that the events are from."""
        try:
            found = await self._found(Place(self._viewer.id, seq))
            return _Batch(self._judged(found.standing), found.facts, found.seen)
        except Refusal as refusal:
            raise end_of(refusal, self.cursor) from None

    async def _found(self, place: Place) -> Found:
        found = await steadily(lambda: find(self._services, self._group_id, place, self._only))
        self._began = thread_time()
        return found

    def _judged(self, standing: Standing | None) -> Group:
        try:
            return judge(standing, Operation.READ).group
        except Refusal as refusal:
            raise membership_ended() if refusal.code is ErrorCode.FORBIDDEN else refusal from None

    def _open(self, fact: Shown) -> Door:
        return EventDoor(fact.event.group_id, fact.group.access_seq)

    async def _settle(self, fact: Shown) -> bool:
        """Apply permissions as far as anything was read for this event; whoever they ended gets only the end."""
        assert isinstance(self.door, EventDoor)
        if self.door.seen > fact.group.access_seq:
            await self._apply_access(self.door.seen)
        self.cursor = cursor_of(fact)
        return True

    async def _apply_access(self, access_seq: int) -> None:
        if self._seat is None:
            await self._judge_again()
            return
        await self._seat.stream.settle(access_seq)
        if self._seat.left:
            raise end_of_seat(self._seat, self.cursor)

    async def _judge_again(self) -> None:
        async def read() -> None:
            async with self._services.read() as transaction:
                found = await memberships.standings(transaction, self._viewer.id, [self._group_id])
            self._judged(found.get(self._group_id))

        try:
            await steadily(read)
        except Refusal as refusal:
            raise end_of(refusal, self.cursor) from None


def live_end(why: Event | EndReason, cursor: str | None, last: Event | None) -> Refusal | None:
    """Why a subscriber in a cohort gets no more, None if it wanted no more. `cursor` is the one it had when it joined,
    `last` the last event that was sent to it since.
    """
    cursor = cursor_of(last.fact) if last is not None else cursor
    if isinstance(why, Event):
        return end_shown(why.fact, cursor)
    return None if why is EndReason.STOPPED else end_of(fault(), cursor)


class SharedMessages(Following[Shown]):
    """A cohort's messages, handed out once for all of its members; `members` are those of the event being shown."""

    def __init__(self, cohort: Cohort) -> None:
        super().__init__()
        self._cohort = cohort
        self.event: Event | None = None
        self.members: Sequence[Member] = ()

    async def _facts(self) -> AsyncGenerator[Shown, None]:
        spent = 0
        while event := await self._next():
            spent += SHOWING + len(self.members)
            if event.ends is None:
                yield event.fact
            else:
                for member in self.members:
                    member.finish(event)
            self.members = ()  # whoever has left is not held until the next event
            if spent >= TURN:  # many events for many members leave room for others
                await asyncio.sleep(0)
                spent = 0

    async def _next(self) -> Event | None:
        if found := await self._cohort.next():
            self.event, self.members = found
            return self.event
        return None

    def _leave(self) -> None:
        self._cohort.end(EndReason.FAULT)

    def _open(self, fact: Shown) -> Door:
        return EventDoor(fact.event.group_id, fact.group.access_seq)

    async def _settle(self, fact: Shown) -> bool:
        """As for one subscriber; `show_to` ends whom the permissions have ended."""
        assert isinstance(self.door, EventDoor)
        if self.door.seen > fact.group.access_seq:
            await self.members[0].seat.stream.settle(self.door.seen)
        return True

    def show_to(self) -> list[Member]:
        """The members that may see what was read for this event. Whom the permissions have ended gets the end now: a
        later event could be shown without having been read so late, and would skip this one.
        """
        assert self.event is not None
        assert isinstance(self.door, EventDoor)
        seq, seen = self.event.seq, self.door.seen
        due = [member for member in self.members if member.floor < seq]
        for member in due:
            if seen >= member.ending and (ending := member.seat.ending):
                member.finish(ending)
        return [member for member in due if seen < member.ending]
