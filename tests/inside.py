"""What a deep test sees of the server in its event loop: the process behind it, and all that is logged. No fixture."""
# pyright: reportPrivateUsage=false

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from app import Process
from db import groups, memberships
from db.engine import Database, Transaction
from db.events import GroupLog
from db.records import GroupEventKind, MemberRole, Membership
from delivery.feed import EndReason
from delivery.stream import Stream
from resolvers.groups import join
from schema import ids
from tests.harness import Endpoint, Json, Person, Server, World

GROUP_CREATED, MEMBER_ADDED = GroupEventKind.GROUP_CREATED, GroupEventKind.MEMBER_ADDED
ADMIN, MEMBER = MemberRole.ADMIN, MemberRole.MEMBER

TROUBLE = ("Traceback", "unexpected_error", '"level":"error"', "ERROR")


def process_of(server: Endpoint) -> Process:
    """What the server holds while it lives."""
    assert isinstance(server, Server), "this server is not in this process"
    return server.app.state.process


@asynccontextmanager
async def database_of(server: Endpoint, *, pool_size: int = 2, **settings: Any) -> AsyncGenerator[Database]:
    """Connections of a test's own to the database of a server."""
    assert isinstance(server, Server)
    database = Database(server.settings.database_url, pool_size=pool_size, **settings)
    try:
        yield database
    finally:
        await database.stop()


def _streams(server: Endpoint) -> dict[UUID, Stream]:
    return {log.id: stream for log, stream in process_of(server).streams._streams.items()}


def followed(server: Endpoint) -> set[UUID]:
    """The owners of the logs that somebody follows at this server: groups and users."""
    return set(_streams(server))


def followers(server: Endpoint, owner: UUID) -> int:
    """How many follow the log of this group or user at this server."""
    stream = _streams(server).get(owner)
    return len(stream._seats) if stream else 0


async def many_groups(world: World, admin: Person, member: Person, count: int) -> list[str]:
    """So many groups of these two, written in one transaction past the API, which takes 20 s for 500 of them."""
    assert isinstance(world.server, Server)
    people = [ids.user(admin.id), ids.user(member.id)]
    made: list[UUID] = []

    async def work(transaction: Transaction) -> None:
        made.clear()
        for _ in range(count):
            group = await groups.create(
                transaction, group_id=uuid7(), name="Chess", description="", created_by=people[0]
            )
            log = GroupLog(transaction, group)
            members: list[Membership] = []
            for kind, person, role in zip((GROUP_CREATED, MEMBER_ADDED), people, (ADMIN, MEMBER), strict=True):
                log.append(kind, people[0], subject_id=person, data={"role": role.value})
                members.append(join(log, person, role=role, added_by=people[0]))
            await memberships.put(transaction, members)
            await log.write()
            made.append(group.id)

    async with database_of(world.server) as database:
        await database.write(work)
    return [ids.encode(ids.GROUP, group_id) for group_id in made]


def is_live(server: Endpoint, owner: UUID, user_id: UUID) -> bool:
    """Whether what comes to this log goes to this user's subscription without a read of its own."""
    stream = _streams(server).get(owner)
    return stream is not None and any(seat.crowd and seat.user_id == user_id for seat in stream._seats)


def break_log(server: Endpoint, owner: UUID) -> None:
    """Tell everybody who follows the log that it cannot be read any more."""
    for seat in tuple(_streams(server)[owner]._seats):
        seat.end(EndReason.FAULT)


def open_sockets(server: Endpoint) -> int:
    """How many sockets the server counts as open."""
    return process_of(server).sockets._open


def cohorts(server: Endpoint) -> list[int]:
    """How many are in each cohort of the server."""
    return [len(cohort) for same in process_of(server).sockets.cohorts._cohorts.values() for cohort in same]


class LogBook:
    """What was logged since the test began: our own lines, and what libraries say."""

    def __init__(self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        self._capsys = capsys
        self._caplog = caplog
        self._written: list[str] = []

    @property
    def text(self) -> str:
        self._read()
        return "".join(self._written)

    def lines(self, event: str) -> list[Json]:
        """Our lines of one event, oldest first."""
        written = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in written if line["event"] == event]

    def check(self) -> None:
        """Fail on anything new that an operator would have to look into."""
        new = self._read()
        for word in TROUBLE:
            assert word not in new, new[-4_000:]

    def _read(self) -> str:
        """What is new, and kept from now on."""
        captured = self._capsys.readouterr()
        new = captured.out + captured.err + self._caplog.text
        self._caplog.clear()
        self._written.append(new)
        return new
