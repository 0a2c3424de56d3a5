"""What members have read: saying how far, what lies after that, who has seen what. Knows nothing of SQL or GraphQL."""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from db import events, memberships, messages, unread, users
from db.engine import Transaction
from db.records import Group, Message, Standing, Unread, UserEvent, UserEventKind

from .access import Door, Operation, Viewer, judge
from .pages import readable_of
from .refusals import Refusal, bad_input, not_found, unauthenticated
from .services import Services

Wanted = Callable[[Standing, int], int]


async def mark_read(services: Services, viewer: Viewer, group_id: UUID, up_to: int) -> Group:
    """Everything up to this seq is read. What was read stays so: a lower seq changes nothing.

    Raises BAD_USER_INPUT for a seq that the log has not reached.
    """

    def further(standing: Standing, read_seq: int) -> int:
        if up_to > standing.group.head_seq:
            raise bad_input("upTo lies beyond the end of this group's log.", field="upTo")
        return max(read_seq, up_to)

    async def work(transaction: Transaction) -> Group:
        return await _move(transaction, viewer, group_id, further)

    return await services.write(work)


async def mark_unread(services: Services, viewer: Viewer, group_id: UUID, message_id: UUID) -> Group:
    """Everything from this message on is not read, as far as it came after the viewer joined.

    Raises NOT_FOUND for a message that is not in this group.
    """

    async def work(transaction: Transaction) -> Group:
        message = await messages.get(transaction, message_id)

        def before(standing: Standing, _: int) -> int:
            if message is None or message.group_id != standing.group.id:
                raise not_found("message")
            return message.seq - 1

        return await _move(transaction, viewer, group_id, before)

    return await services.write(work)


async def _move(transaction: Transaction, viewer: Viewer, group_id: UUID, wanted: Wanted) -> Group:
    """Move the viewer's position to where `wanted` says, and tell their devices. What stays the same makes no event.

    Only the log of the viewer is locked. A membership that ends at the same time may leave a position behind: it shows
    nothing to anybody, and counts again only for who comes back.
    """
    logs = await events.lock_users(transaction, [viewer.id])
    if viewer.id not in logs.heads:
        raise unauthenticated()
    standings = await memberships.standings(transaction, viewer.id, [group_id])
    standing = judge(standings.get(group_id), Operation.MARK)
    assert standing.membership is not None
    joined_seq = standing.membership.joined_seq or 0
    kept = await unread.kept(transaction, viewer.id, group_id)
    now = max(joined_seq, kept or 0)
    read_seq = max(joined_seq, wanted(standing, now))
    if read_seq != now:
        await unread.keep(transaction, viewer.id, group_id, read_seq, first=kept is None)
        logs.append(viewer.id, UserEventKind.READ_MOVED, actor_id=viewer.id, group_id=group_id, data={"seq": read_seq})
        await logs.write()
    return standing.group


def moved_to(event: UserEvent) -> int:
    """How far the viewer has read, as a READ_MOVED event says."""
    return event.data["seq"]


async def of_groups(
    services: Services, viewer: Viewer, door: Door, group_ids: Sequence[UUID]
) -> Mapping[UUID, Unread | Refusal]:
    """What the viewer has not read of each group, all as of one moment.

    NOT_FOUND inside an event that is shown while their membership ends: what ended it takes the event's place.
    """
    async with services.read() as transaction:
        opened = await door.open(transaction, group_ids)
        found = await unread.get_many(transaction, viewer.id, readable_of(opened))
    return {
        group_id: each if isinstance(each, Refusal) else found.get(group_id) or not_found("group")
        for group_id, each in opened.items()
    }


async def seen_by(
    services: Services, viewer: Viewer, door: Door, shown: Sequence[Message]
) -> Sequence[Sequence[UUID] | None]:
    """For each of these messages the members who said they have read as far, but its sender; in the order in which they
    joined. All as of one moment.

    None in a group of more members than the setting says, for a viewer who does not share their own positions, and
    where the door refuses.
    """
    most = services.settings.seen_by_members
    async with services.read() as transaction:
        opened = await door.open(transaction, {message.group_id for message in shown})
        own = (await users.get_many(transaction, [viewer.id])).get(viewer.id)
        told = own is not None and own.shares_read_positions
        small = [each.id for each in opened.values() if not isinstance(each, Refusal) and each.member_count <= most]
        positions = await unread.shared(transaction, small if told else [])
    return [
        [user_id for user_id, seq in found.items() if seq >= message.seq and user_id != message.sender_id]
        if (found := positions.get(message.group_id)) is not None
        else None
        for message in shown
    ]
