"""Parley without one of its repairs, for each: what the named scenarios must notice. Patched into a node by its
launcher; nothing of it is in the product.
"""
# pyright: reportPrivateUsage=false

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from db import groups, memberships
from db.engine import Transaction
from db.events import GroupLog
from db.records import Membership, Standing
from delivery.events import Batch
from delivery.stream import BATCH, Stream
from resolvers.access import Operation, judge


@dataclass(frozen=True)
class Repair:
    """A repair by its name, what takes its place, and the scenario that must go red without it."""

    name: str
    parts: tuple[tuple[str, Any], ...]
    scenario: str


async def _read_only_what_the_hint_names(self: Stream) -> None:
    while self._known > self.applied and self._seats:
        batch = await self.reader.after(self.log, self._known - 1, BATCH)
        await self._apply_access(batch)
        self._hand_out(batch)


_read_only_what_the_hint_names.__qualname__ = Stream._read_on.__qualname__


async def _never(*_: object) -> None:
    """What a process without a head check does."""


async def _never_returns(*_: object) -> None:
    await asyncio.Event().wait()


async def _judged_before_the_lock(
    transaction: Transaction, viewer_id: UUID, group_id: UUID, operation: Operation
) -> tuple[GroupLog, Membership]:
    group = (await groups.get_many(transaction, [group_id])).get(group_id)
    membership = (await memberships.get_many(transaction, [(group_id, viewer_id)])).get((group_id, viewer_id))
    judge(Standing(group, membership) if group else None, operation)
    locked = await groups.lock(transaction, group_id)
    assert membership is not None
    assert locked is not None
    return GroupLog(transaction, locked), membership


def _any_row(*_: object) -> None:
    """What a cursor without random bits is checked against."""


async def _note_and_apply_nothing(self: Stream, batch: Batch) -> None:
    self.access_seq = max(self.access_seq, batch.access_seq)


async def _settled_at_once(*_: object) -> None:
    """What shows a result whatever the permissions have become."""


REPAIRS = (
    Repair(
        "gap fill",
        (("delivery.stream.Stream._read_on", _read_only_what_the_hint_names),),
        "hints dropped, doubled and shuffled",
    ),
    Repair(
        "head check",
        (("delivery.stream.Streams._check_heads_once", _never),),
        "all hints dropped",
    ),
    Repair(
        "resubscribe",
        (("delivery.link.Link._redial", _never_returns),),
        "broker restarted",
    ),
    Repair(
        "judging after the lock",
        (("resolvers.messages.locked", _judged_before_the_lock),),
        "a member sends while the removal holds the lock",
    ),
    Repair(
        "cursor bits",
        (("resolvers.messages._check_row", _any_row),),
        "an older backup is restored",
    ),
    Repair(
        "access_seq",
        (
            ("delivery.stream.Stream._apply_access", _note_and_apply_nothing),
            ("delivery.stream.Stream.settle", _settled_at_once),
        ),
        "a member is removed while its node is paused",
    ),
)


def named(name: str) -> Repair:
    """Raises KeyError for a repair that is none."""
    return {repair.name: repair for repair in REPAIRS}[name]
