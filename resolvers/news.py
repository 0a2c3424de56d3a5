"""The news of a user: their own log merged with the logs of their groups. Knows nothing of SQL or GraphQL.

Beginnings (created, added, invited) come from the user's log, endings and changes from the groups' logs. A seat on the
log of each group is taken before the list of groups is read, so the list and the streams meet without a gap.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from db import groups, memberships, users
from db.engine import LogKind, Transaction
from db.records import Group, GroupEventKind, User, UserEvent, UserEventKind
from delivery.events import Event, Log
from delivery.feed import EndReason, Feed, FeedEnded
from delivery.latest import Latest
from delivery.stream import Seat
from frozen import frozen

from .access import ClosedDoor, Door, EventDoor, Viewer, ViewerDoor
from .following import Following, end_of, fault, steadily
from .reader import Shown, group_log, user_log
from .refusals import Lagging, Refusal, unauthenticated
from .services import Services

START_ATTEMPTS = 10
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before a subscriber that lagged begins anew
ACTIVITY_SECONDS = 1.0  # a group's activity is told at most so often
ACTIVITY_GAP = 0.02  # seconds between two groups': 50 a second take 1 % of a core, in however many groups people talk
ENTERING = frozenset({UserEventKind.GROUP_CREATED, UserEventKind.ADDED_TO_GROUP})
GROUP_NEWS = frozenset(
    {
        GroupEventKind.DETAILS_CHANGED,
        GroupEventKind.MEMBER_ADDED,
        GroupEventKind.MEMBER_JOINED,
        GroupEventKind.MEMBER_LEFT,
        GroupEventKind.MEMBER_REMOVED,
        GroupEventKind.MEMBER_PROMOTED,
        GroupEventKind.MEMBER_DEMOTED,
        GroupEventKind.GROUP_DELETED,
    }
)
OF_DEVICES = frozenset({UserEventKind.READ_MOVED, UserEventKind.THREAD_CHANGED})
USER_NEWS = ENTERING | OF_DEVICES | {UserEventKind.INVITED, UserEventKind.INVITATION_ENDED}


@frozen
class SnapshotNews:
    """Everything at one moment: the groups, most recently active first, and the open invitations, oldest first."""

    occurred_at: datetime
    groups: list[Group]
    invitations: list[UserEvent]


@frozen
class OwnNews:
    """An event of the user's own log; `group` where the user is a member of it when it is shown."""

    event: UserEvent
    group: Group | None


@frozen
class GroupNews:
    """An event of a group's log; `ends` if it ended the user's membership; `group` as in `OwnNews`."""

    fact: Shown
    group: Group | None
    ends: bool


News = SnapshotNews | OwnNews | GroupNews


@dataclass(slots=True)
class SnapshotDoor:
    """The door inside a snapshot: every group of the viewer. It remembers which it had to refuse: of these the
    snapshot is out of date.
    """

    inner: ViewerDoor
    refused: set[UUID] = field(default_factory=set[UUID])

    async def open(self, transaction: Transaction, group_ids: Collection[UUID]) -> Mapping[UUID, Group | Refusal]:
        opened = await self.inner.open(transaction, group_ids)
        self.refused.update(group_id for group_id, each in opened.items() if isinstance(each, Refusal))
        return opened


@frozen
class _Start:
    """The user's log, their groups and their invitations, from one snapshot of the database."""

    moment: datetime
    user: User
    groups: Sequence[Group]
    invitations: Sequence[UserEvent]


def _is_activity(event: Event) -> bool:
    if event.log.kind == LogKind.USER:
        return False
    fact: Shown = event.fact
    return fact.event.kind is GroupEventKind.MESSAGE_SENT


def _wanted(event: Event) -> bool:
    if event.log.kind == LogKind.USER:
        own: UserEvent = event.fact
        return own.kind in USER_NEWS
    fact: Shown = event.fact
    return fact.event.kind in GROUP_NEWS


class NewsFollowing(Following[News]):
    """One subscriber of their own news.

    `snapshot`: the first is the whole list as of the moment that the rest follows on. A subscriber that lags then gets
    a new one in place of what waits; without it, `Lagging`. `activity`: also that messages were sent, the newest of
    each group now and then.
    """

    def __init__(self, services: Services, viewer: Viewer, *, snapshot: bool, activity: bool) -> None:
        super().__init__()
        self._activity = activity
        self._feed = self._new_feed(services)
        self._services = services
        self._viewer = viewer
        self._snapshot = snapshot
        self._own: Seat | None = None
        self._seats: dict[UUID, Seat] = {}
        self._pause = FIRST_PAUSE / 2
        self._begun = 0.0
        self._newest: dict[UUID, Group] = {}

    def _new_feed(self, services: Services) -> Feed:
        latest = Latest(_is_activity, per_log=ACTIVITY_SECONDS, between=ACTIVITY_GAP) if self._activity else None
        return Feed(services.settings.max_waiting_events, _wanted, latest)

    def stop(self) -> None:
        super().stop()
        self._feed.end(EndReason.STOPPED)

    def _leave(self) -> None:
        for seat in (*self._seats.values(), *((self._own,) if self._own else ())):
            seat.leave()
        self._seats.clear()
        self._newest.clear()

    async def _facts(self) -> AsyncGenerator[News, None]:
        arrived = await self._begin()
        while arrived is not None:
            if isinstance(arrived, _Start):
                if self._snapshot:
                    snapshot = SnapshotNews(arrived.moment, list(arrived.groups), list(arrived.invitations))
                    arrived = None
                    yield snapshot
            elif arrived.log.kind == LogKind.USER:
                async for news in self._of_user(arrived.fact):
                    yield news
            else:
                yield self._of_group(arrived)
            arrived = await self._next_or_anew()

    async def _next(self) -> Event | None:
        """The next event, None when the subscriber has stopped. Raises the end that a feed has without an event."""
        if self.stopped:
            return None
        try:
            return await self._feed.next()
        except FeedEnded as ended:
            if ended.reason is EndReason.STOPPED:
                return None
            raise (Lagging() if ended.reason is EndReason.LAGGING else end_of(fault())) from None

    async def _next_or_anew(self) -> Event | _Start | None:
        """The next event, or a new start for a subscriber that has lagged and can be told so by a new snapshot."""
        try:
            return await self._next()
        except Lagging:
            if not self._snapshot:
                raise
        return await self._begin_anew()

    async def _begin_anew(self) -> _Start | None:
        """A new start in place of the backlog, after pauses in which nothing is kept for this subscriber. None when it
        stops meanwhile.

        Everybody who hears of a burst may lag in it. The process has turns for new starts, so that these leave room for
        the rest; the subscriber's own pauses grow, so that one which never keeps up gets two snapshots in a minute.
        """
        self._leave()
        self._feed = self._new_feed(self._services)
        await self._wait(self._own_pause())
        await self._wait(self._services.renewals.turn())
        return None if self.stopped else await self._begin()

    def _own_pause(self) -> float:
        """It doubles, until the subscriber has kept up for as long as the longest."""
        kept_up = time.monotonic() - self._begun > LONGEST_PAUSE
        self._pause = FIRST_PAUSE if kept_up else min(LONGEST_PAUSE, 2 * self._pause)
        return self._pause

    async def _wait(self, seconds: float) -> None:
        """Wait for so long, or until the subscriber stops: nobody hands events to its new feed yet."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._next()

    # The start

    async def _begin(self) -> _Start:
        """Seats first, then the list; again for groups that came meanwhile."""
        self._own = (await self._sit([user_log(self._viewer.id)]))[0]
        start = await steadily(self._read_start)
        for _ in range(START_ATTEMPTS):
            missing = [group.id for group in start.groups if group.id not in self._seats]
            if not missing:
                break
            for seat in await self._sit([group_log(group_id) for group_id in missing]):
                self._seats[seat.stream.log.id] = seat
            start = await steadily(self._read_start)
        else:
            raise fault()
        self._go_live(start)
        self._begun = time.monotonic()
        return start

    async def _sit(self, logs: Sequence[Log]) -> list[Seat]:
        seats = await steadily(lambda: self._services.streams.seats(logs, self._viewer.id, self._feed))
        if len(seats) < len(logs):
            for seat in seats:
                seat.leave()
            raise unauthenticated()
        return seats

    async def _read_start(self) -> _Start:
        async with self._services.read() as transaction:
            user = (await users.get_many(transaction, [self._viewer.id]))[self._viewer.id]
            own_groups = await groups.all_of(transaction, self._viewer.id)
            invitations = await memberships.invitations_of(transaction, self._viewer.id)
            return _Start(transaction.now, user, own_groups, invitations)

    def _go_live(self, start: _Start) -> None:
        floors = {group.id: group.head_seq for group in start.groups}
        for group_id, seat in tuple(self._seats.items()):
            if group_id in floors:
                seat.begin(floors[group_id])
            else:
                seat.leave()
                del self._seats[group_id]
        assert self._own is not None
        self._own.begin(start.user.head_seq)

    # What comes

    async def _of_user(self, event: UserEvent) -> AsyncGenerator[News, None]:
        if event.kind in ENTERING and event.group_id is not None:
            async for news in self._enter(event.group_id, event.data["after"]):
                yield news
            yield OwnNews(event, await self._group_now(event.group_id))
        elif event.kind in OF_DEVICES and event.group_id is not None:
            yield OwnNews(event, await self._group_now(event.group_id))
        else:
            yield OwnNews(event, None)

    async def _enter(self, group_id: UUID, after: int) -> AsyncGenerator[News, None]:
        """Follow the group's log above `after`.

        What is left of an earlier membership is shown first, its end above all.
        """
        earlier = self._seats.get(group_id)
        if earlier is not None:
            await earlier.stream.reach(after)
            for event in self._feed.take_out(lambda event: event.log == group_log(group_id)):
                yield self._of_group(event)
            earlier.leave()
        seat = (await self._sit([group_log(group_id)]))[0]
        self._seats[group_id] = seat
        await steadily(lambda: seat.begin_from(after))

    async def _group_now(self, group_id: UUID) -> Group | None:
        """The group as it is, if the user is still a member by all that is known; `settle` makes sure of it."""
        seat = self._seats.get(group_id)
        if seat is not None and seat.left and seat.ending is None:
            raise end_of(fault())
        if seat is None or seat.left:
            return None

        async def read() -> Group | None:
            async with self._services.read() as transaction:
                return (await groups.get_many(transaction, [group_id])).get(group_id)

        group = await steadily(read)
        return self._never_older(group) if group else None

    def _of_group(self, event: Event) -> GroupNews:
        fact: Shown = event.fact
        ends = event.ends_for(self._viewer.id)
        if ends:
            self._seats.pop(fact.event.group_id, None)
            self._newest.pop(fact.event.group_id, None)
            self._feed.forget_latest(lambda waiting: waiting.log == event.log)
            return GroupNews(fact, None, ends)
        group = self._never_older(fact.group)
        return GroupNews(fact if group is fact.group else replace(fact, group=group), group, ends)

    def _never_older(self, group: Group) -> Group:
        """The group, or what was shown of it before, if that is newer: activity waits while later events go first."""
        shown = self._newest.get(group.id, group)
        if self._activity:
            self._newest[group.id] = group if group.head_seq >= shown.head_seq else shown
        return self._newest.get(group.id, group)

    # Showing

    def _open(self, fact: News) -> Door:
        if isinstance(fact, SnapshotNews):
            return SnapshotDoor(ViewerDoor(self._viewer.id))
        return EventDoor(fact.group.id, fact.group.access_seq) if fact.group else ClosedDoor()

    async def _settle(self, fact: News) -> bool:
        if isinstance(fact, SnapshotNews):
            return self._settle_snapshot(fact)
        if fact.group is None:
            return True
        assert isinstance(self.door, EventDoor)
        seat = self._seats.get(fact.group.id)
        if seat is not None and self.door.seen > seat.stream.access_seq:
            await seat.stream.settle(self.door.seen)
        if seat is not None and not seat.left:
            return True
        if seat is not None and seat.ending is None:
            raise end_of(fault())
        self._fact = replace(fact, group=None)
        return False

    def _let_go(self, fact: News) -> None:
        """A snapshot is each subscriber's own."""
        if isinstance(fact, SnapshotNews):
            fact.groups.clear()
            fact.invitations.clear()

    def _settle_snapshot(self, fact: SnapshotNews) -> bool:
        """A group whose membership ended before the snapshot could be shown is not in it, and what its log says of the
        end is not told: a later beginning comes from the user's log.
        """
        assert isinstance(self.door, SnapshotDoor)
        refused = self.door.refused
        for group_id in refused:
            self._seats.pop(group_id).leave()
        gone = {group_log(group_id) for group_id in refused}
        self._feed.take_out(lambda event: event.log in gone)
        fact.groups[:] = [group for group in fact.groups if group.id not in refused]
        return not refused
