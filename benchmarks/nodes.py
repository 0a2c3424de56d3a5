"""One node beside two, and one database beside the other: how late a delivery is, and how many sends are taken."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from benchmarks import load
from benchmarks.filling import fill
from benchmarks.load import Room, Talk
from benchmarks.machine import Family
from benchmarks.parts import Part, Plot
from benchmarks.rig import MICRO, MILLI, Rig, Row, Served, lateness, measured
from tests.engines import Postgres

USERS = 50
GROUPS = 64
PRESENT, RATE = 100, 20.0
WARM_UP = 0.6  # of the time that is measured: PostgreSQL's processes tell once a second how often they synced
SYNCS = "SELECT COALESCE(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal'"


@dataclass
class Cluster:
    """Nodes on one database."""

    name: str
    nodes: Sequence[Served]
    postgres: Postgres | None = None
    engines: Sequence[Family] = ()

    @property
    def families(self) -> list[Family]:
        return [node.family for node in self.nodes]

    def syncs(self) -> int:
        """How often PostgreSQL has waited for the disk."""
        return int(float(self.postgres.run_sql(SYNCS))) if self.postgres else 0


@dataclass
class Wanted:
    """A cluster to set up."""

    name: str
    nodes: int = 1
    on_postgres: bool = False


SQLITE, ONE, TWO = (
    Wanted("SQLite, one node"),
    Wanted("PostgreSQL and Redis, one node", 1, on_postgres=True),
    Wanted("PostgreSQL and Redis, two nodes", 2, on_postgres=True),
)
PLAIN = "plain Strawberry on SQLite"


@asynccontextmanager
async def clusters(rig: Rig, *wanted: Wanted) -> AsyncGenerator[list[Cluster]]:
    """All of them at once. Those on PostgreSQL share one, which waits for the disk, and one Redis."""
    with rig.running_engines() as (postgres, redis):
        engines = [Family(postgres.pid), Family(redis.pid)]
        async with AsyncExitStack() as stack:
            made: list[Cluster] = []
            for each in wanted:
                url = postgres.create_database() if each.on_postgres else rig.sqlite()
                broker = redis.url() if each.on_postgres else "memory://"
                world = await fill(url, reach=[GROUPS] * USERS, messages=[1] * GROUPS)
                nodes = [
                    await stack.enter_async_context(rig.node(url, world, BROADCAST_URL=broker))
                    for _ in range(each.nodes)
                ]
                cluster = Cluster(each.name, nodes)
                made.append(replace(cluster, postgres=postgres, engines=engines) if each.on_postgres else cluster)
            yield made


async def across(rig: Rig) -> AsyncGenerator[Row]:
    """Messages at a fixed rate to subscribers of the last node, sent to the first."""
    async with clusters(rig, *rig.sizes([TWO], [SQLITE, ONE, TWO])) as measuring:
        for cluster in measuring:
            sender, hearer, room = cluster.nodes[0], cluster.nodes[-1], Room(0, PRESENT)
            async with load.listening(hearer, [room]) as listeners, load.calling(sender.port, 1) as (caller,):
                await load.warmed(sender, caller, [room], listeners)
                with measured(*cluster.families) as cost:
                    await load.at_a_rate(sender, caller, room, RATE, load.for_seconds(rig.seconds * 2))
            message_ms = cost.server / len(room.sent) * MILLI
            yield {"cluster": cluster.name, **lateness([room]), "message_ms": message_ms}


async def sends(rig: Rig) -> AsyncGenerator[Row]:
    wanted, sizes = rig.sizes([ONE], [SQLITE, ONE, TWO]), rig.sizes([2], [1, 16, 64])
    async with clusters(rig, *wanted) as measuring, rig.plain() as plain:
        for senders in sizes:
            for cluster in (*measuring, Cluster(PLAIN, [plain])):
                yield {"cluster": cluster.name, "senders": senders, **await sent(rig, cluster, senders)}


async def sent(rig: Rig, cluster: Cluster, senders: int) -> Row:
    """Nobody listens; each sender has groups of its own, and a node."""
    rooms = [Room(number) for number in range(GROUPS)]
    async with AsyncExitStack() as stack:
        talks: list[Talk] = []
        for number in range(senders):
            served = cluster.nodes[number % len(cluster.nodes)]
            (caller,) = await stack.enter_async_context(load.calling(served.port, 1))
            talks.append((served, caller, rooms[number::senders]))
        await load.converse(talks, rig.seconds * WARM_UP)
        for room in rooms:
            room.forget()
        syncs = cluster.syncs()
        with measured(*cluster.families) as nodes, measured(*cluster.engines) as engines:
            await load.converse(talks, rig.seconds)
        syncs = cluster.syncs() - syncs
    count = sum(len(room.sent) for room in rooms)
    return {
        "sends_per_s": count / nodes.seconds,
        "node_us": nodes.server / count * MICRO,
        "engine_us": engines.server / count * MICRO if cluster.engines else None,
        "per_sync": count / syncs if syncs else None,
    }


ACROSS = Part(
    "nodes",
    {
        "cluster": "set-up",
        "p50_ms": "p50, ms",
        "p99_ms": "p99, ms",
        "message_ms": "CPU of the nodes, ms per message",
    },
    across,
)
SENDS = Part(
    "sends",
    {
        "cluster": "set-up",
        "senders": "senders",
        "sends_per_s": "sends/s",
        "node_us": "CPU of the nodes, µs per send",
        "engine_us": "CPU of the engines, µs per send",
        "per_sync": "sends for each sync of the disk",
    },
    sends,
    [Plot("sends", "Sends a second", "senders", ["sends_per_s"], by="cluster")],
)
