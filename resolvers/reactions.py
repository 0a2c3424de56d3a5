"""Reactions to messages: adding, removing, counting, and who they are of. Knows nothing of SQL or GraphQL."""

from collections.abc import Mapping, Sequence
from uuid import UUID, uuid5

from db import reactions
from db.engine import Transaction
from db.records import Group, GroupEventKind, Message, Reacted, Reaction
from frozen import frozen

from . import text
from .access import Door, Operation, Viewer
from .pages import Page, PageRequest, cut
from .refusals import Refusal, conflict
from .revisions import locked_message, write_changed
from .services import Services

MOST_EMOJI = 20  # of one message; of how many people each of them is has no bound


@frozen
class Emoji:
    """One emoji at one message of a group."""

    group_id: UUID
    message_id: UUID
    emoji: str

    @property
    def id(self) -> UUID:
        """For cursors: those of one list are none of another's."""
        return uuid5(self.message_id, self.emoji)


async def add(services: Services, viewer: Viewer, message_id: UUID, emoji: str) -> Message:
    """React to a message; a reaction that is there already makes no event.

    Raises BAD_USER_INPUT, NOT_FOUND, CONFLICT for a deleted message or one emoji too many, and what the door raises.
    """
    emoji = text.emoji(emoji)

    async def work(transaction: Transaction) -> Message:
        log, _, message = await locked_message(transaction, viewer.id, message_id, Operation.REACT)
        if message.deleted_at is not None:
            raise conflict("This message was deleted: it takes no reactions.")
        if await reactions.is_kept(transaction, message.id, viewer.id, emoji):
            return message
        await _check_room(transaction, message.id, emoji)
        event = log.append(GroupEventKind.REACTION_ADDED, viewer.id, message_id=message.id, data={"emoji": emoji})
        await reactions.keep(transaction, Reacted(message.id, viewer.id, emoji, event.seq))
        return await write_changed(transaction, log, message)

    return await services.write(work)


async def remove(services: Services, viewer: Viewer, message_id: UUID, emoji: str) -> Message:
    """Take the viewer's own reaction back; one that is not there makes no event.

    Raises BAD_USER_INPUT, NOT_FOUND, and what the door raises.
    """
    emoji = text.emoji(emoji)

    async def work(transaction: Transaction) -> Message:
        log, _, message = await locked_message(transaction, viewer.id, message_id, Operation.REACT)
        if not await reactions.is_kept(transaction, message.id, viewer.id, emoji):
            return message
        log.append(GroupEventKind.REACTION_REMOVED, viewer.id, message_id=message.id, data={"emoji": emoji})
        await reactions.remove(transaction, message.id, viewer.id, emoji)
        return await write_changed(transaction, log, message)

    return await services.write(work)


async def _check_room(transaction: Transaction, message_id: UUID, emoji: str) -> None:
    if await reactions.is_used(transaction, message_id, emoji):
        return
    if await reactions.count(transaction, message_id) >= MOST_EMOJI:
        raise conflict(f"A message can have at most {MOST_EMOJI} different reactions.")


async def get_many(
    services: Services, viewer: Viewer | None, door: Door, shown: Sequence[Message]
) -> Sequence[Sequence[Reaction] | Refusal]:
    """For each of these copies the reactions to the message, never older than the copy; without a viewer none is own.

    A copy that no event has changed has none, and nothing is read for it.
    """
    changed = [message for message in shown if _may_have_any(message)]
    if not changed:
        return [() for _ in shown]
    async with services.read() as transaction:
        opened = await door.open(transaction, {message.group_id for message in changed})
        ids = {message.id for message in changed if not isinstance(opened[message.group_id], Refusal)}
        found = await reactions.of_messages(transaction, ids, viewer.id if viewer else None)
    return [_shown(opened, found, message) if _may_have_any(message) else () for message in shown]


def _may_have_any(message: Message) -> bool:
    return message.version > message.seq and message.deleted_at is None


def _shown(
    opened: Mapping[UUID, Group | Refusal], found: Mapping[UUID, Sequence[Reaction]], message: Message
) -> Sequence[Reaction] | Refusal:
    group = opened[message.group_id]
    return group if isinstance(group, Refusal) else found[message.id]


async def pages(
    services: Services, door: Door, wanted: Sequence[Emoji], request: PageRequest
) -> Mapping[Emoji, Page[Reacted] | Refusal]:
    """The same page of who reacted so, in the order in which they did."""
    async with services.read() as transaction:
        opened = await door.open(transaction, {each.group_id for each in wanted})
        readable = [each for each in wanted if not isinstance(opened[each.group_id], Refusal)]
        found = await reactions.pages(transaction, [(each.message_id, each.emoji) for each in readable], request.probe)
    pages: dict[Emoji, Page[Reacted] | Refusal] = {}
    for each in wanted:
        group = opened[each.group_id]
        pages[each] = group if isinstance(group, Refusal) else cut(request, found[each.message_id, each.emoji])
    return pages
