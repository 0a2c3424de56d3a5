"""What was missed: the next part of a group's log for everybody who reads on from nearby places at the same time.

Knows nothing of SQL or GraphQL.
"""

from collections.abc import Sequence
from uuid import UUID

from db import events, memberships
from db.events import Part
from db.records import GroupPage, Standing
from frozen import frozen

from .cursors import BIGGEST_SEQ
from .filters import EVERY_EVENT, WINDOW, Filter
from .reader import Shown, shown
from .services import Services

REPLAY_BATCH = 100
MOST_AT_ONCE = 128


@frozen
class Place:
    """Where somebody reads on; `begins`: after a cursor, and not after what was read before."""

    user_id: UUID
    seq: int
    begins: bool = False


@frozen
class Found:
    """What comes after a place, and what its reader is in the group, all from one snapshot.

    `seen` is up to which seq the log was looked at, `nonce` what the row at the place has, for one who begins.
    """

    standing: Standing | None
    facts: Sequence[Shown] = ()
    seen: int = 0
    nonce: int | None = None


def sight(seq: int) -> int:
    """Up to where a read of the log after `seq` looks."""
    return min(seq + WINDOW, BIGGEST_SEQ)


def part(only: Filter | None, seq: int) -> Part:
    """What a read of the log after `seq` is asked for."""
    only = only or EVERY_EVENT
    return Part(only.kinds, only.sender_id, only.thread_id, only.mentioned_id, sight(seq))


async def find(services: Services, group_id: UUID, place: Place, only: Filter | None) -> Found:
    """What comes next, read after this was called. Raises SERVICE_UNAVAILABLE, RoundFailed."""

    async def read(places: Sequence[Place]) -> Sequence[Found | None]:
        return await read_on(services, group_id, places, only)

    return await services.replays.ask((group_id, only), place, read)


async def read_on(
    services: Services, group_id: UUID, places: Sequence[Place], only: Filter | None
) -> Sequence[Found | None]:
    """What comes after each of these places, from one snapshot; None for one that is not near the first, or too many.

    Raises SERVICE_UNAVAILABLE.
    """
    first = places[0].seq
    async with services.read() as transaction:
        page = await events.after(transaction, group_id, first, REPLAY_BATCH, part=part(only, first))
        if page is None:
            return [Found(None) for _ in places]
        facts, seen = await shown(transaction, page), _seen(page, first)
        near = [each for each in places if each.seq == first or _is_within(each, first, seen, page)][:MOST_AT_ONCE]
        standings = await memberships.of_users(transaction, group_id, {each.user_id for each in near})
        starts = {each.seq for each in near if each.begins}
        nonces = {0: 0} | (await events.nonces_at(transaction, group_id, starts) if starts else {})

    def found(place: Place) -> Found:
        standing = Standing(page.group, standings.get(place.user_id))
        later = [fact for fact in facts if fact.event.seq > place.seq] if place.seq > first else facts
        return Found(standing, later, seen, nonces.get(place.seq))

    taken = set(map(id, near))
    return [found(each) if id(each) in taken else None for each in places]


def _is_within(place: Place, first: int, seen: int, page: GroupPage) -> bool:
    """Whether what was read tells the reader something new: what comes next, or that nothing does."""
    return first < place.seq and (place.seq < seen or seen >= page.group.head_seq)


def _seen(page: GroupPage, after: int) -> int:
    if len(page.events) == REPLAY_BATCH:
        return page.events[-1].event.seq
    return min(sight(after), page.group.head_seq)
