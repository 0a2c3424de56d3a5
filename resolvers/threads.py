"""Threads: a message, the root, and the replies to it, one level deep. Knows nothing of SQL or GraphQL."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from db import messages, threads
from db.engine import Transaction
from db.events import GroupLog
from db.records import Group, Message, Thread
from frozen import frozen

from .access import Door
from .pages import Page, PageRequest, cut
from .refusals import Refusal, conflict, not_found
from .services import Services


@frozen
class Branch:
    """Where a reply goes: to the root of a thread, which is not there before the first reply."""

    root: Message
    thread: Thread | None


async def branch(transaction: Transaction, group_id: UUID, message_id: UUID) -> Branch:
    """Where a reply to this message goes; a reply to a reply goes to the root of both. Call it under the group's lock.

    A thread outlives its deleted root. Raises NOT_FOUND for a message that is not in this group, CONFLICT for one that
    was deleted before anybody replied to it.
    """
    answered = await messages.get(transaction, message_id)
    if answered is None or answered.group_id != group_id:
        raise not_found("message")
    root = answered
    if answered.thread_root_id is not None:
        root = await messages.get(transaction, answered.thread_root_id) or answered
    thread = await threads.get(transaction, root.id)
    if thread is None and root.deleted_at is not None:
        raise conflict("This message was deleted: nobody can begin a thread with it.")
    return Branch(root, thread)


async def grow(transaction: Transaction, log: GroupLog, branch: Branch, reply: Message) -> None:
    """Count a reply that the log's last event is about."""
    count = branch.thread.reply_count if branch.thread else 0
    thread = Thread(branch.root.id, count + 1, reply.created_at, reply)
    await threads.keep(transaction, thread, first=branch.thread is None)
    await _touch(transaction, log, branch.root)


async def shrink(transaction: Transaction, log: GroupLog, reply: Message) -> None:
    """Count out a reply whose row is that of a deleted message already, which the log's last event is about."""
    assert reply.thread_root_id is not None
    root = await messages.get(transaction, reply.thread_root_id)
    assert root is not None
    thread = await threads.get(transaction, root.id)
    assert thread is not None
    last_reply = thread.last_reply
    if last_reply and last_reply.id == reply.id:
        last_reply = await threads.last_reply(transaction, root.id, below=reply.seq)
    thread = replace(thread, reply_count=thread.reply_count - 1, last_reply=last_reply)
    await threads.keep(transaction, thread, first=False)
    await _touch(transaction, log, root)


async def _touch(transaction: Transaction, log: GroupLog, root: Message) -> None:
    """A root changes with its thread: of two copies the one with the higher version has the newer count."""
    await messages.change(transaction, replace(root, version=log.group.head_seq, updated_at=log.group.active_at))


def may_have_replies(message: Message) -> bool:
    """False for a reply, and for a copy that no event has changed."""
    return message.thread_root_id is None and message.version > message.seq


async def get_many(services: Services, door: Door, shown: Sequence[Message]) -> Sequence[Thread | Refusal | None]:
    """For each of these copies its thread, never older than the copy; None where nobody has replied."""
    async with services.read() as transaction:
        opened = await door.open(transaction, {message.group_id for message in shown})
        ids = {message.id for message in shown if not isinstance(opened[message.group_id], Refusal)}
        found = await threads.get_many(transaction, ids)
    return [
        group if isinstance(group := opened[message.group_id], Refusal) else found.get(message.id) for message in shown
    ]


async def pages(
    services: Services, door: Door, roots: Sequence[Message], request: PageRequest
) -> Mapping[Message, Page[Message] | Refusal]:
    """The same page of the replies to several messages, oldest first."""
    async with services.read() as transaction:
        opened = await door.open(transaction, {root.group_id for root in roots})
        readable = [root.id for root in roots if not isinstance(opened[root.group_id], Refusal)]
        found = await threads.replies(transaction, readable, request.probe)
    return {root: _page(opened[root.group_id], request, found.get(root.id, ())) for root in roots}


def _page(group: Group | Refusal, request: PageRequest, probed: Sequence[Message]) -> Page[Message] | Refusal:
    return group if isinstance(group, Refusal) else replace(cut(request, probed), group=group)
