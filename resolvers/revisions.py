"""What becomes of messages after they were sent: editing, deleting, and what they said before. Knows nothing of SQL or
GraphQL.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from db import memberships, messages, reactions, revisions
from db.engine import Transaction
from db.events import GroupLog
from db.records import GroupEventKind, Membership, Message, MessageRevision
from settings import Settings

from . import mentions, text, threads
from .access import Door, Operation, Viewer, allows, forbidden, locked
from .refusals import ErrorCode, Refusal, conflict, not_found
from .services import Services

MOST_REVISIONS = 100  # of one message; with 4,000 characters each they are a megabyte


async def edit(services: Services, viewer: Viewer, message_id: UUID, *, content: str) -> Message:
    """Give the viewer's own message another content, and keep the one before; the same content makes no event.

    Raises BAD_USER_INPUT, NOT_FOUND, CONFLICT for a deleted message, too late, or edited too often, and what the door
    raises.
    """
    content = text.content(content)

    async def work(transaction: Transaction) -> Message:
        log, own, message = await locked_message(transaction, viewer.id, message_id, Operation.CHANGE_OWN_MESSAGE)
        if message.sender_id != viewer.id:
            raise _only_its_sender(own)
        if message.deleted_at is not None:
            raise conflict("This message was deleted: it cannot be edited.")
        if message.content == content:
            return message
        _check_in_time(services.settings, log, message, "edited")
        await _keep_content(transaction, message)
        event = log.append(GroupEventKind.MESSAGE_EDITED, viewer.id, message_id=message.id)
        mentioned = await mentions.find(transaction, own, content, event.seq, message.mentions)
        edited = replace(
            message, content=content, edited_seq=event.seq, edited_at=event.occurred_at, mentions=mentioned
        )
        await mentions.keep(transaction, edited, message.mentions)
        return await write_changed(transaction, log, edited)

    return await services.write(work)


async def delete(services: Services, viewer: Viewer, message_id: UUID) -> Message:
    """Empty a message for ever: its content, what it said before, its mentions and reactions. Its row stays as a
    tombstone.

    Senders delete their own, moderators and admins anybody's. One that is deleted already stays as it is, without an
    event. Raises NOT_FOUND, CONFLICT too late, and what the door raises.
    """

    async def work(transaction: Transaction) -> Message:
        log, own, message = await locked_message(transaction, viewer.id, message_id, Operation.CHANGE_OWN_MESSAGE)
        deletes_any = allows(own, Operation.DELETE_ANY_MESSAGE)
        if message.sender_id != viewer.id and not deletes_any:
            raise forbidden(Operation.DELETE_ANY_MESSAGE, own.status)
        if message.deleted_at is not None:
            return message
        if not deletes_any:
            _check_in_time(services.settings, log, message, "deleted")
        await revisions.remove(transaction, message.id)
        await reactions.remove_all(transaction, message.id)
        event = log.append(GroupEventKind.MESSAGE_DELETED, viewer.id, message_id=message.id)
        deleted = replace(
            message, content="", deleted_at=event.occurred_at, deleted_by=viewer.id,
            mentions=mentions.without_places(message.mentions),
        )  # fmt: skip
        await mentions.keep(transaction, deleted, message.mentions)
        deleted = await write_changed(transaction, log, deleted)
        if deleted.thread_root_id is not None:
            await threads.shrink(transaction, log, deleted)
        return deleted

    return await services.write(work)


async def locked_message(
    transaction: Transaction, viewer_id: UUID, message_id: UUID, operation: Operation
) -> tuple[GroupLog, Membership, Message]:
    """The message as it is under the lock of its group, which is the same for ever. Raises NOT_FOUND, and what the door
    raises.
    """
    before = await messages.get(transaction, message_id)
    if before is None:
        raise not_found("message")
    log, own = await locked(transaction, viewer_id, before.group_id, operation)
    message = await messages.get(transaction, message_id)
    assert message is not None
    return log, own, message


def _only_its_sender(own: Membership) -> Refusal:
    return Refusal(ErrorCode.FORBIDDEN, "Only its sender may edit a message.", membershipStatus=own.status.value)


def _check_in_time(settings: Settings, log: GroupLog, message: Message, done: str) -> None:
    """By the clock of the log, which never goes back."""
    seconds = settings.message_edit_seconds
    if seconds and log.now - message.created_at > timedelta(seconds=seconds):
        raise conflict(f"It is too late: a message can be {done} by its sender for {seconds:,} seconds.")


async def _keep_content(transaction: Transaction, message: Message) -> None:
    if await revisions.count(transaction, message.id) >= MOST_REVISIONS:
        raise conflict(f"A message can be edited {MOST_REVISIONS} times.")
    version, moment = message.edited_seq or message.seq, message.edited_at or message.created_at
    await revisions.keep(transaction, MessageRevision(message.id, version, message.content, moment))


async def write_changed(transaction: Transaction, log: GroupLog, message: Message) -> Message:
    """The message as the log's last event made it."""
    message = replace(message, version=log.group.head_seq, updated_at=log.group.active_at)
    await messages.change(transaction, message)
    log.shows(message)
    await log.write()
    return message


async def get_many(
    services: Services, viewer: Viewer, door: Door, shown: Sequence[Message]
) -> Sequence[Sequence[MessageRevision] | None]:
    """For each of these copies what the message said before, oldest first; None for whoever may not see that: all but
    its sender and those who may delete anybody's.

    Who may is read in the snapshot that the door is passed in, so that it knows how new a state is shown.
    """
    async with services.read() as transaction:
        opened = await door.open(transaction, {message.group_id for message in shown})
        standings = await memberships.get_many(transaction, {(group_id, viewer.id) for group_id in opened})
        visible = [
            message
            for message in shown
            if not isinstance(opened[message.group_id], Refusal)
            and _may_see(viewer.id, standings.get((message.group_id, viewer.id)), message)
        ]
        found = await revisions.of_messages(transaction, {each.id for each in visible if each.edited_seq is not None})
    seen = set(visible)
    return [_before(found.get(message.id, ()), message) if message in seen else None for message in shown]


def _may_see(viewer_id: UUID, own: Membership | None, message: Message) -> bool:
    wanted = Operation.CHANGE_OWN_MESSAGE if message.sender_id == viewer_id else Operation.DELETE_ANY_MESSAGE
    return allows(own, wanted)


def _before(found: Sequence[MessageRevision], message: Message) -> Sequence[MessageRevision]:
    """Without what a newer copy says: this one may have been read before it was edited again."""
    return [revision for revision in found if revision.version < (message.edited_seq or message.seq)]
