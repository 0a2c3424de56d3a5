"""`export-log`: a group's whole log as JSON lines, with the ids, cursors and moments of the API."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
import typer

from commands.common import refusals, services, settings
from db import events
from db.records import Message, User
from resolvers.cursors import Position
from resolvers.mentions import in_order
from resolvers.reader import Shown, shown
from resolvers.refusals import not_found
from resolvers.services import Services
from schema import ids
from settings import Settings

PAGE = 500

GroupId = Annotated[
    str, typer.Argument(help="The id that the API shows, or the UUID in the database.", show_default=False)
]


def export_log(group_id: GroupId) -> None:
    """Print a group's whole log as JSON lines.

    Oldest first, with each message as it is now. Memory is bounded whatever the length. It may run beside a server, and
    ends at what was the end when it began.
    """
    with refusals():
        asyncio.run(_export(settings(), group_id))


async def _export(given: Settings, group_id: str) -> None:
    async with services(given) as made:
        async for line in lines(made, _group(group_id)):
            typer.echo(line)


def _group(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        return ids.group(text)


async def lines(made: Services, group_id: UUID, page_size: int = PAGE) -> AsyncGenerator[str, None]:
    """The log up to the end it had at the first page, one JSON object a line. Raises NOT_FOUND."""
    seq, end = 0, None
    while end is None or seq < end:
        async with made.read() as transaction:
            page = await events.after(transaction, group_id, seq, page_size)
            if page is None:
                raise not_found("group")
            facts = await shown(transaction, page)
        end = page.group.head_seq if end is None else end
        for fact in facts:
            if fact.event.seq <= end:
                yield orjson.dumps(_line(fact)).decode()
        seq = facts[-1].event.seq if facts else end


def _line(fact: Shown) -> dict[str, Any]:
    event = fact.event
    return {
        "seq": event.seq,
        "kind": event.kind.value,
        "occurredAt": _moment(event.occurred_at),
        "actor": _person(fact.people, event.actor_id),
        "subject": _person(fact.people, event.subject_id),
        "message": _message(fact.people, fact.message) if fact.message else None,
        "data": event.data,
        "cursor": Position(event.group_id, event.seq, event.nonce).encode(),
    }


def _message(people: Mapping[UUID, User], message: Message) -> dict[str, Any]:
    return {
        "id": ids.encode(ids.MESSAGE, message.id),
        "seq": message.seq,
        "sender": _person(people, message.sender_id),
        "content": message.content,
        "mentions": [
            {"start": start, "length": length, "userId": ids.encode(ids.USER, user_id) if user_id else None}
            for (start, length), user_id in in_order(message)
        ],
        "clientMessageId": message.client_message_id,
        "threadRootId": ids.encode(ids.MESSAGE, message.thread_root_id) if message.thread_root_id else None,
        "editedAt": _moment(message.edited_at) if message.edited_at else None,
        "deletedAt": _moment(message.deleted_at) if message.deleted_at else None,
        "deletedBy": _person(people, message.deleted_by),
    }


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _person(people: Mapping[UUID, User], user_id: UUID | None) -> dict[str, str] | None:
    if user_id is None:
        return None
    return {"id": ids.encode(ids.USER, user_id), "username": people[user_id].username}
