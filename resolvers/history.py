"""Jumping to a place in a group's messages: to one of them, to a date, to the first unread. Knows nothing of SQL or
GraphQL.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from db import history, messages, unread
from db.engine import Transaction
from db.records import Group, Message
from frozen import frozen

from .access import Door, Viewer
from .pages import Page
from .refusals import Refusal, not_found
from .services import Services

Anchor: TypeAlias = UUID | datetime | None
"""A message, a moment, or the first message that the viewer has not read."""


@frozen
class Around:
    """A page of `limit` messages, of which the anchor is in the middle; without `replies` only of what is none."""

    limit: int
    anchor: Anchor
    replies: bool = True


async def pages(
    services: Services, viewer: Viewer, door: Door, group_ids: Sequence[UUID], request: Around
) -> Mapping[UUID, Page[Message] | Refusal]:
    """The page around the same anchor in each of these groups, oldest first: a constant number of statements.

    NOT_FOUND for a message in a group that it is not in. The newest page where there is nothing at or after the anchor.
    """
    async with services.read() as transaction:
        opened = await door.open(transaction, group_ids)
        groups = {group_id: each for group_id, each in opened.items() if not isinstance(each, Refusal)}
        found = await _places(transaction, viewer, groups, request.anchor)
        places = {group_id: place for group_id, place in found.items() if not isinstance(place, Refusal)}
        around = await history.around(transaction, places, request.limit + 1, replies=request.replies)
    shown: dict[UUID, Page[Message] | Refusal] = {
        group_id: replace(_cut(request.limit, place, around[group_id]), group=groups[group_id])
        for group_id, place in places.items()
    }
    refused = {**opened, **found}
    return shown | {group_id: each for group_id, each in refused.items() if isinstance(each, Refusal)}


async def _places(
    transaction: Transaction, viewer: Viewer, groups: Mapping[UUID, Group], anchor: Anchor
) -> Mapping[UUID, int | Refusal]:
    """The seq that the anchor has in each of these groups, or would have."""
    if isinstance(anchor, UUID):
        message = await messages.get(transaction, anchor)
        own = {message.group_id: message.seq} if message else {}
        return {group_id: own.get(group_id) or not_found("message") for group_id in groups}
    if isinstance(anchor, datetime):
        return await history.since(transaction, groups, anchor)
    firsts = await unread.firsts(transaction, viewer.id, groups)
    return {
        group_id: (firsts[group_id] or group.head_seq + 1) if group_id in firsts else not_found("group")
        for group_id, group in groups.items()
    }


def _cut(limit: int, place: int, probed: Sequence[Message]) -> Page[Message]:
    """Half of the page before the place and half from there on; where one side is short, more of the other."""
    before = [message for message in probed if message.seq < place]
    rest = probed[len(before) :]
    taken = min(len(before), max(limit // 2, limit - len(rest)))
    kept = rest[: limit - taken]
    return Page([*before[len(before) - taken :], *kept], len(before) > taken, len(rest) > len(kept))
