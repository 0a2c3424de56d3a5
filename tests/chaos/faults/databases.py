"""What happens to the database, to the way to it, to its locks and its disk, and what a restored backup does."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial

import asyncpg
import psutil

from schema import ids
from tests.chaos.clients import Position
from tests.chaos.evidence import Row
from tests.chaos.faults import Fault
from tests.chaos.proxy import Flow, Proxy
from tests.chaos.readers import Follower
from tests.chaos.scene import Scene, Talk, Void
from tests.harness import eventually

DOWN_SECONDS = 1.0
UNLIMITED_PAGES = 2**31 - 2


def _unanswered(scene: Scene) -> int:
    """How many requests were not done so far because of the servers; a stranger is refused all the time."""
    return sum(each.what == "unknown" or each.code == "SERVICE_UNAVAILABLE" for each in scene.history.happenings)


async def _hurts(scene: Scene, before: int) -> None:
    await scene.happened("requests felt it", lambda: _unanswered(scene) > before)


def restarted(how: str) -> Fault:
    """PostgreSQL in order (`fast`), by a crash (`immediate`), by SIGKILL (`killed`)."""

    async def fault(scene: Scene, talk: Talk) -> None:
        before = scene.rig.postgres.pid
        scene.strike(f"PostgreSQL {how}")
        if how == "killed":
            scene.rig.postgres.kill()
            scene.rig.postgres.start()
        else:
            scene.rig.postgres.restart(immediate=how == "immediate")
        await scene.happened("another PostgreSQL answers", lambda: scene.rig.postgres.pid != before)
        scene.heal()

    return fault


async def away(scene: Scene, talk: Talk) -> None:
    """PostgreSQL is down for a second."""
    unanswered = _unanswered(scene)
    scene.strike("PostgreSQL stopped")
    scene.rig.postgres.stop()
    try:
        await _hurts(scene, unanswered)
        await asyncio.sleep(DOWN_SECONDS)
    finally:
        scene.rig.postgres.start()
    scene.heal()


async def paused(scene: Scene, talk: Talk) -> None:
    scene.strike("PostgreSQL SIGSTOP")
    with scene.rig.postgres.paused():
        process = psutil.Process(scene.rig.postgres.pid)
        await scene.happened("PostgreSQL stands still", lambda: process.status() == psutil.STATUS_STOPPED)
        await asyncio.sleep(DOWN_SECONDS)
    scene.heal()


async def _sql(scene: Scene, statement: str, *arguments: object) -> object:
    connection = await asyncpg.connect(scene.rig.database_url)
    try:
        return await connection.fetchval(statement, *arguments)
    finally:
        await connection.close()


async def sessions_ended(scene: Scene, talk: Talk) -> None:
    scene.strike("sessions ended")
    ended = await _sql(
        scene, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'parley'"
    )
    await scene.happened("sessions were ended", lambda: ended)
    scene.heal()


# The way to PostgreSQL


def _link(scene: Scene) -> Proxy:
    assert scene.rig.database is not None
    return scene.rig.database


def way(how: str) -> Fault:
    """`cut`, `reset`, `blackholed`, `stalled`, `refused`, `delayed`, `throttled`."""
    return WAYS[how]


async def _ended(act: Callable[[Proxy], int], scene: Scene, talk: Talk) -> None:
    scene.strike("the way to PostgreSQL breaks")
    ended = act(_link(scene))
    await scene.happened("connections broke", lambda: ended)
    scene.heal()


async def _refused(scene: Scene, talk: Talk) -> None:
    unanswered = _unanswered(scene)
    scene.strike("the way to PostgreSQL is closed")
    _link(scene).refuse(refusing=True)
    _link(scene).cut()
    try:
        await _hurts(scene, unanswered)
        await asyncio.sleep(DOWN_SECONDS / 2)
    finally:
        _link(scene).refuse(refusing=False)
    scene.heal()


async def _blackholed(flow: Flow, scene: Scene, talk: Talk) -> None:
    chunks = _link(scene).chunks
    scene.strike(f"the way to PostgreSQL: {flow.value}")
    _link(scene).flow = flow
    try:
        await scene.happened("something was on its way", lambda: _link(scene).chunks > chunks)
        await asyncio.sleep(DOWN_SECONDS)
    finally:
        _link(scene).flow = Flow.PASS
        if flow is Flow.SWALLOW:
            _link(scene).reset()
    scene.heal()


async def _slowed(delay: float, rate: float, scene: Scene, talk: Talk) -> None:
    link = _link(scene)
    chunks = link.chunks
    scene.strike("the way to PostgreSQL is slow")
    link.delay, link.rate = delay, rate
    try:
        await scene.happened("statements came late", lambda: link.chunks > chunks + 20, 20)
    finally:
        link.delay = link.rate = 0
    scene.heal()


WAYS: dict[str, Fault] = {
    "cut": partial(_ended, Proxy.cut),
    "reset": partial(_ended, Proxy.reset),
    "refused": _refused,
    "blackholed": partial(_blackholed, Flow.SWALLOW),
    "stalled": partial(_blackholed, Flow.STALL),
    "delayed": partial(_slowed, 0.05, 0.0),
    "throttled": partial(_slowed, 0.0, 50_000.0),
}


# Locks


@asynccontextmanager
async def _held(scene: Scene, statement: str, *arguments: object) -> AsyncGenerator[None]:
    """A transaction of somebody else holds what the statement locks."""
    connection = await asyncpg.connect(scene.rig.database_url)
    try:
        async with connection.transaction():
            await connection.execute(statement, *arguments)
            yield
    finally:
        await connection.close()


async def row_locked(scene: Scene, talk: Talk) -> None:
    """The group's row is held for longer than a request waits for it."""
    unanswered = _unanswered(scene)
    scene.strike("the group's row is locked")
    async with _held(scene, "SELECT FROM groups WHERE id = $1 FOR UPDATE", ids.group(talk.group)):
        await _hurts(scene, unanswered)
    scene.heal()


async def tables_locked(scene: Scene, talk: Talk) -> None:
    """Every statement waits: the pool runs dry, and requests are refused in time."""
    unanswered = _unanswered(scene)
    scene.strike("tables are locked")
    async with _held(scene, "LOCK TABLE groups, users IN ACCESS EXCLUSIVE MODE"):
        await _hurts(scene, unanswered)
    scene.heal()


def locked_by_another(seconds: float, how: str) -> Fault:
    """Another process writes into the SQLite file (`IMMEDIATE`: readers go on) for so long."""

    async def fault(scene: Scene, talk: Talk) -> None:
        scene.strike(f"BEGIN {how} elsewhere")
        with closing(sqlite3.connect(scene.rig.sqlite_file, isolation_level=None, timeout=10)) as connection:
            connection.execute(f"BEGIN {how}")
            scene.evidence.append("another process has the lock")
            await asyncio.sleep(seconds)
            connection.execute("ROLLBACK")
        scene.heal()

    return fault


async def disk_full(scene: Scene, talk: Talk) -> None:
    """SQLite takes no further page."""
    (node,) = scene.rig.nodes
    await _without_room(scene, talk, lambda: node.tell(pages=1), lambda: node.tell(pages=UNLIMITED_PAGES))


async def no_file_may_grow(scene: Scene, talk: Talk) -> None:
    """PostgreSQL may not let the table of messages grow, as by a quota; the rest as above."""
    postgres = scene.rig.postgres
    size, told = await _grown(scene), postgres.says().count(NO_ROOM)

    async def limit(most: int | None) -> None:
        postgres.limit_files(most)

    await _without_room(scene, talk, lambda: limit(size), lambda: limit(None))
    await scene.happened("PostgreSQL could not extend a file", lambda: postgres.says().count(NO_ROOM) > told)


async def _grown(scene: Scene) -> int:
    """Make the table larger than a file of PostgreSQL's own log (1 MiB here), which must go on; its bytes.

    What it has room for is small: the rows stay, in a group of their own, or a vacuum would make room of them; and a
    change of the table makes each session forget the page that it was filling, of which ten take 300 messages.
    """
    elsewhere = await scene.new_talk(0)
    connection = await asyncpg.connect(scene.rig.database_url)
    try:
        await connection.execute(GROW, ids.group(elsewhere.group))
        await connection.execute("ALTER TABLE messages SET (autovacuum_enabled = false)")
        return await connection.fetchval("SELECT pg_relation_size('messages')")
    finally:
        await connection.close()


async def _without_room(
    scene: Scene, talk: Talk, begin: Callable[[], Awaitable[object]], end: Callable[[], Awaitable[object]]
) -> None:
    """Sends are refused, reads and streams go on, and sending does when there is room again."""
    unanswered = _unanswered(scene)
    scene.strike("disk full")
    await begin()
    try:
        await _hurts(scene, unanswered)
        async with scene.desk() as desk:
            answer = await desk.ask("query ($id: ID!) { group(id: $id) { id } }", {"id": talk.group}, talk.owner.token)
        if answer.kind != "ok":
            raise Void(f"a read was refused while the disk was full: {answer}")
        await asyncio.sleep(DOWN_SECONDS / 2)
    finally:
        await end()
    scene.heal()


NO_ROOM = "could not extend file"
# Smaller than any message, so that what is left of a page takes none.
GROW = """INSERT INTO messages (id, group_id, seq, version, sender_id, content, created_at, updated_at)
SELECT gen_random_uuid(), id, 1000000 + n, 1, created_by, '', now(), now()
FROM groups, generate_series(1, 14000) n WHERE id = $1"""


# A backup


async def restored(scene: Scene, talk: Talk) -> None:
    """Everything stops, and an older backup takes the database's place; cursors of what is gone are refused."""
    rows = await _while_stopped(scene, talk, scene.rig.back_up)
    await talk.flow(8)
    await talk.quiet()
    stale = talk.followers[0].position
    if stale.seq <= rows[-1].seq:
        raise Void("nothing came after the backup")
    scene.strike("an older backup is restored")
    await _while_stopped(scene, talk, scene.rig.restore)
    scene.history.add("restored", group=talk.group, seq=rows[-1].seq)
    scene.evidence.append(f"the log went back from {stale.seq} to {rows[-1].seq}")
    for each in talk.followers:
        await eventually(lambda each=each: each.ended or each.is_open, 20)
    await _overtake(scene, talk, stale)
    scene.heal()


async def _overtake(scene: Scene, talk: Talk, stale: Position) -> None:
    """Write until the numbers of the old timeline are taken again, then come with a cursor of it."""
    person = talk.members[0]
    sender = talk.send(person)
    await eventually(lambda: sender.newest > stale.seq, 20)
    late = talk.client(Follower, "late", person, position=stale)
    talk.begin(late)
    await eventually(lambda: late.ended or late.received, 10)
    talk.follow(person)


async def _while_stopped(scene: Scene, talk: Talk, act: Callable[[], None]) -> list[Row]:
    """The group's log at that time."""
    for node in scene.rig.nodes:
        node.terminate()
    for node in scene.rig.nodes:
        await node.ended()
    act()
    rows = await scene.rig.export(talk.group)
    await asyncio.gather(*(node.start() for node in scene.rig.nodes))
    return rows
