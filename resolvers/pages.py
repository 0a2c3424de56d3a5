"""What a client may ask of a page, and what a page says of itself. Knows nothing of SQL or GraphQL."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from db.engine import Transaction
from db.pages import Keys
from db.records import Group, Message
from frozen import frozen

from .access import Door
from .cursors import ActivityKey
from .refusals import Refusal, bad_input

T = TypeVar("T")

LARGEST_PAGE = 100
DEFAULT_PAGE = 50


@frozen
class PageRequest:
    """`limit` rows strictly between the keys `after` and `before`: the last of them if `newest`, else the first."""

    limit: int
    after: int | None
    before: int | None
    newest: bool

    @property
    def probe(self) -> Keys:
        """One row more than asked for says whether there is another page."""
        return Keys(self.after, self.before, self.limit + 1, self.newest)


def requested(
    first: int | None, last: int | None, after: int | None, before: int | None, *, newest_by_default: bool
) -> PageRequest:
    """Raises BAD_USER_INPUT for `first` with `last`, and for a size below 1 or above 100."""
    if first is not None and last is not None:
        raise bad_input("Give first or last, not both.")
    for name, size in (("first", first), ("last", last)):
        if size is not None and not 1 <= size <= LARGEST_PAGE:
            raise bad_input(f"{name} must be 1 to {LARGEST_PAGE}.", field=name)
    newest = last is not None or (first is None and newest_by_default)
    return PageRequest(first or last or DEFAULT_PAGE, after, before, newest)


@frozen
class Page(Generic[T]):
    """Rows in order, oldest first, and whether there are rows before and after them."""

    rows: Sequence[T]
    has_previous: bool
    has_next: bool
    group: Group | None = None  # whose rows they are, from the same snapshot


def cut(request: PageRequest, probed: Sequence[T]) -> Page[T]:
    """The page from the rows of `request.probe`.

    On the side that the request came from, a given key says that rows lie there.
    """
    more = len(probed) > request.limit
    if request.newest:
        return Page(probed[-request.limit :], more, request.before is not None)
    return Page(probed[: request.limit], request.after is not None, more)


def readable_of(opened: Mapping[UUID, Group | Refusal]) -> Sequence[UUID]:
    """The groups that a door has opened."""
    return [group_id for group_id, each in opened.items() if not isinstance(each, Refusal)]


Read = Callable[[Transaction, Sequence[UUID], Keys], Awaitable[Mapping[UUID, list[T]]]]


async def behind_door(
    transaction: Transaction, door: Door, group_ids: Sequence[UUID], request: PageRequest, read: Read[T]
) -> Mapping[UUID, Page[T] | Refusal]:
    """The same page of several groups, or for a group the refusal of the door: a constant number of statements."""
    opened = await door.open(transaction, group_ids)
    found = await read(transaction, readable_of(opened), request.probe)
    return {
        group_id: each if isinstance(each, Refusal) else replace(cut(request, found[group_id]), group=each)
        for group_id, each in opened.items()
    }


Active = TypeVar("Active", bound=Group | Message)
Active_co = TypeVar("Active_co", bound=Group | Message, covariant=True)


class ReadByActivity(Protocol[Active_co]):
    """Up to `limit` records with when each was last active, newest first: as of a moment, after (active, id)."""

    def __call__(
        self, *, as_of: datetime | None, after: tuple[datetime, UUID] | None, limit: int
    ) -> Awaitable[Sequence[tuple[Active_co, datetime]]]: ...


async def by_activity(
    read: ReadByActivity[Active], mark: bytes, first: int | None, after: ActivityKey | None
) -> tuple[Page[Active], Sequence[str]]:
    """A page of a list by activity, in the order that it had when its first page was read; with the cursor of each."""
    limit = requested(first, None, None, None, newest_by_default=False).limit
    as_of = after.as_of if after else None
    found = await read(as_of=as_of, after=(after.active_at, after.id) if after else None, limit=limit + 1)
    rows = found[:limit]
    moment = as_of or (rows[0][1] if rows else None)
    cursors = [ActivityKey(moment or active_at, active_at, each.id).encode(mark) for each, active_at in rows]
    return Page([each for each, _ in rows], after is not None, len(found) > limit), cursors
