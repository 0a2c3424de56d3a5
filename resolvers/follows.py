"""Following threads, and what a follower has not read of them. Knows nothing of SQL or GraphQL."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from db import events, follows, memberships, messages, threads
from db.engine import Transaction
from db.events import GroupLog, UserLogs
from db.records import Follow, Message, Standing, UserEvent, UserEventKind
from frozen import frozen

from .access import Door, Operation, Viewer, judge
from .cursors import THREAD_MARK, ActivityKey
from .pages import Page, by_activity
from .refusals import Refusal, bad_input, conflict, not_found, unauthenticated
from .services import Services
from .threads import Branch


async def follow_by_reply(transaction: Transaction, log: GroupLog, branch: Branch, reply: Message) -> None:
    """Whoever replies follows the thread from their reply on; with the first reply the sender of the root follows it
    too, if they are a member still. Nothing else is written for a member.
    """
    starts = {reply.sender_id: reply.seq}
    if branch.thread is None and branch.root.sender_id != reply.sender_id:
        own = await memberships.get(transaction, log.group.id, branch.root.sender_id)
        if Standing(log.group, own).is_member:
            starts[branch.root.sender_id] = branch.root.seq
    new = [user_id for user_id in starts if await follows.kept(transaction, user_id, branch.root.id) is None]
    logs = await events.lock_users(transaction, new) if new else UserLogs(transaction, {})
    for user_id in logs.heads:  # who began to follow meanwhile has taken the key: it is judged again
        await follows.keep(transaction, user_id, branch.root, starts[user_id])
        _tell(logs, user_id, branch.root, actor_id=reply.sender_id)
    await logs.write()


def _tell(logs: UserLogs, user_id: UUID, root: Message, *, actor_id: UUID) -> None:
    data = {"root": root.id.hex}
    logs.append(user_id, UserEventKind.THREAD_CHANGED, actor_id=actor_id, group_id=root.group_id, data=data)


def root_of(event: UserEvent) -> UUID:
    """Of which thread a THREAD_CHANGED event tells."""
    return UUID(hex=event.data["root"])


async def follow(services: Services, viewer: Viewer, message_id: UUID) -> Message:
    """Follow the thread that this message is the root of or a reply in; what was said so far counts as read.

    Returns the root. Following twice changes nothing. Raises NOT_FOUND, CONFLICT for a message that nobody has replied
    to, and what the door raises.
    """

    async def work(transaction: Transaction) -> Message:
        own = await _own(transaction, viewer, message_id, Operation.FOLLOW)
        if await threads.get(transaction, own.root.id) is None:
            raise conflict("Nobody has replied to this message yet: there is no thread to follow.")
        if own.read_seq is None:
            await follows.keep(transaction, viewer.id, own.root, own.standing.group.head_seq)
            await own.tell(viewer)
        return own.root

    return await services.write(work)


async def unfollow(services: Services, viewer: Viewer, message_id: UUID) -> Message:
    """Follow the thread no more, and forget how far it was read. Returns the root.

    What is not followed stays so. Raises NOT_FOUND, and what the door raises.
    """

    async def work(transaction: Transaction) -> Message:
        own = await _own(transaction, viewer, message_id, Operation.FOLLOW)
        if own.read_seq is not None:
            await follows.remove(transaction, viewer.id, own.root.id)
            await own.tell(viewer)
        return own.root

    return await services.write(work)


async def mark_read(services: Services, viewer: Viewer, message_id: UUID, up_to: int) -> Message:
    """The replies up to this seq are read. A lower seq changes nothing, and neither does any where the thread is not
    followed.

    Returns the root. Raises NOT_FOUND, BAD_USER_INPUT for a seq that the log has not reached, and what the door raises.
    """

    async def work(transaction: Transaction) -> Message:
        own = await _own(transaction, viewer, message_id, Operation.MARK)
        if up_to > own.standing.group.head_seq:
            raise bad_input("upTo lies beyond the end of this group's log.", field="upTo")
        if own.read_seq is not None and up_to > own.read_seq:
            await follows.move(transaction, viewer.id, own.root.id, up_to)
            await own.tell(viewer)
        return own.root

    return await services.write(work)


@frozen
class _Own:
    """A thread and what the viewer, whose log is locked, has read of it; None if they do not follow it."""

    root: Message
    standing: Standing
    logs: UserLogs
    read_seq: int | None

    async def tell(self, viewer: Viewer) -> None:
        """All devices of the viewer."""
        _tell(self.logs, viewer.id, self.root, actor_id=viewer.id)
        await self.logs.write()


async def _own(transaction: Transaction, viewer: Viewer, message_id: UUID, operation: Operation) -> _Own:
    """Only the log of the viewer is locked. A membership that ends at the same time may leave a row behind: it shows
    nothing to anybody, and counts again only for who comes back.
    """
    message = await messages.get(transaction, message_id)
    if message is None:
        raise not_found("message")
    logs = await events.lock_users(transaction, [viewer.id])
    if viewer.id not in logs.heads:
        raise unauthenticated()
    standings = await memberships.standings(transaction, viewer.id, [message.group_id])
    standing = judge(standings.get(message.group_id), operation)
    root = await messages.get(transaction, message.thread_root_id or message.id)
    assert root is not None
    kept = await follows.kept(transaction, viewer.id, root.id)
    joined_seq = standing.membership.joined_seq if standing.membership else None
    return _Own(root, standing, logs, None if kept is None else max(kept, joined_seq or 0))


async def get_many(
    services: Services, viewer: Viewer, door: Door, roots: Sequence[Message]
) -> Sequence[Follow | Refusal | None]:
    """For each of these threads what it is to the viewer, all as of one moment; None where they do not follow it."""
    async with services.read() as transaction:
        opened = await door.open(transaction, {root.group_id for root in roots})
        found = await follows.get_many(transaction, viewer.id, {root.id for root in roots})
    return [group if isinstance(group := opened[root.group_id], Refusal) else found.get(root.id) for root in roots]


async def page(
    services: Services, viewer: Viewer, *, first: int | None, after: ActivityKey | None
) -> tuple[Page[Message], Sequence[str]]:
    """The roots of the threads that the viewer follows, most recently active first, in the order of the first page;
    with the cursor of each.
    """
    async with services.read() as transaction:
        return await by_activity(partial(follows.page_of, transaction, viewer.id), THREAD_MARK, first, after)
