"""Reads the logs for the streams: rows, what they show, and whose right to follow ends with them. Knows nothing of SQL
or GraphQL.
"""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from db import events, users
from db.engine import Appended, Database, LogKind, Transaction
from db.records import Group, GroupEvent, GroupEventKind, GroupPage, LoggedEvent, Message, User, UserEvent
from delivery.events import EVERYBODY, Batch, Event, Head, Hint, Log
from frozen import frozen

ENDING_KINDS = frozenset({GroupEventKind.MEMBER_REMOVED, GroupEventKind.MEMBER_LEFT})


def group_log(group_id: UUID) -> Log:
    return Log(LogKind.GROUP.value, group_id)


def user_log(user_id: UUID) -> Log:
    return Log(LogKind.USER.value, user_id)


@frozen
class Shown:
    """A row of a group's log and what is shown with it, all read under `group.access_seq`, once a process."""

    event: GroupEvent
    group: Group
    message: Message | None
    people: Mapping[UUID, User]


def people_of(logged: Iterable[LoggedEvent]) -> set[UUID]:
    """Everybody who is named in these rows."""
    named: set[UUID | None] = set()
    for each in logged:
        named |= {each.event.actor_id, each.event.subject_id}
        named |= {each.message.sender_id, each.message.deleted_by} if each.message else set()
    return {user_id for user_id in named if user_id is not None}


async def shown(transaction: Transaction, page: GroupPage) -> list[Shown]:
    """The rows of a page with the people in them."""
    people = await users.get_many(transaction, people_of(page.events)) if page.events else {}
    return _shown(page, people)


def _shown(page: GroupPage, people: Mapping[UUID, User]) -> list[Shown]:
    return [Shown(each.event, page.group, each.message, people) for each in page.events]


def hint_of(appended: Appended) -> Hint:
    return Hint(Log(appended.log.value, appended.id), appended.seq)


def batch_of(appended: Appended) -> Batch | None:
    """What a transaction appended, as a read of the log after it would give it; None where it has to be read."""
    if appended.page is None:
        return None
    facts = _shown(appended.page, {person.id: person for person in appended.people})
    return Batch([_group_event(fact) for fact in facts], appended.page.group.access_seq)


def _group_event(fact: Shown) -> Event:
    event = fact.event
    ends = (
        EVERYBODY
        if event.kind is GroupEventKind.GROUP_DELETED
        else event.subject_id
        if event.kind in ENDING_KINDS
        else None
    )
    return Event(group_log(event.group_id), event.seq, ends, fact)


class LogReader:
    """The reader that the streams of this process are handed.

    The events of groups carry `Shown`, those of users `UserEvent`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heads(self, logs: Sequence[Log]) -> Mapping[Log, Head]:
        found: dict[Log, Head] = {}
        async with self._database.read() as transaction:
            for kind in LogKind:
                ids = [log.id for log in logs if log.kind == kind]
                if ids:
                    heads = await events.heads(transaction, kind, ids)
                    found |= {
                        Log(kind.value, log_id): Head(seq, access_seq) for log_id, (seq, access_seq) in heads.items()
                    }
        return found

    async def after(self, log: Log, seq: int, limit: int) -> Batch:
        async with self._database.read() as transaction:
            if log.kind == LogKind.USER:
                found = await events.user_events_after(transaction, log.id, seq, limit)
                return Batch([_user_event(event) for event in found], access_seq=0)
            page = await events.after(transaction, log.id, seq, limit)
            if page is None:
                return Batch([], access_seq=0)
            facts = await shown(transaction, page)
        return Batch([_group_event(fact) for fact in facts], page.group.access_seq)

    async def access_between(self, log: Log, after: int, up_to: int) -> Sequence[Event]:
        """Read whole, as `after` does: the event that ends a seat is shown to its listener."""
        if log.kind == LogKind.USER:
            return []
        async with self._database.read() as transaction:
            page = await events.access_between(transaction, log.id, after, up_to)
            facts = await shown(transaction, page) if page else []
        return [_group_event(fact) for fact in facts]


def _user_event(event: UserEvent) -> Event:
    return Event(user_log(event.user_id), event.seq, None, event)
