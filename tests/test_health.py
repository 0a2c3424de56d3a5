"""What a load balancer asks: whether the process lives, and whether it can do its work."""

from collections.abc import AsyncGenerator

import pytest
from sqlalchemy import text

from db.engine import Transaction
from settings import Settings
from tests.conftest import OwnServer
from tests.engines import EngineFailure
from tests.harness import Json, Server, Stack, World, eventually, refused, serving
from tests.inside import LogBook, process_of

READY = {"database": True, "schema": True, "broker": True}


async def ready(server: Server) -> tuple[int, Json]:
    response = await server.http.get("/readyz")
    return response.status_code, response.json()


async def becomes(server: Server, **states: bool) -> None:
    """Wait until /readyz says this, with the status that goes with it."""
    wanted = READY | states

    async def says_so() -> bool:
        status, found = await ready(server)
        assert status == (200 if all(found.values()) else 503)
        return found == wanted

    await eventually(says_so, 20)


async def is_live(server: Server) -> bool:
    response = await server.http.get("/healthz")
    return response.status_code == 200 and response.json() == {"live": True}


async def test_a_server_that_works_is_live_and_ready(server: Server) -> None:
    assert await is_live(server)
    assert await ready(server) == (200, READY)
    for path in ("/healthz", "/readyz"):
        head = await server.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert (await server.http.post(path)).status_code == 405


async def test_the_first_page_leads_to_the_api(server: Server) -> None:
    response = await server.http.get("/", headers={"accept": "text/html"})
    assert response.status_code == 307
    assert response.headers["location"] == "/graphql"
    page = await server.http.get("/", headers={"accept": "text/html"}, follow_redirects=True)
    assert page.headers["content-type"].startswith("text/html")


async def test_an_address_that_leads_nowhere_is_404(server: Server) -> None:
    assert (await server.http.get("/nowhere")).status_code == 404


async def test_without_its_schema_a_server_is_live_and_not_ready(own_server: OwnServer) -> None:
    server = await own_server()

    async def run(statement: str) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.execute(text(statement))

        await process_of(server).database.write(work)

    await run("ALTER TABLE alembic_version RENAME TO mislaid")
    assert await ready(server) == (503, READY | {"schema": False})
    await run("ALTER TABLE mislaid RENAME TO alembic_version")
    await run("UPDATE alembic_version SET version_num = '0000'")
    assert await ready(server) == (503, READY | {"schema": False})
    # While nodes are replaced one by one, the newer has migrated already: the older ones go on.
    await run("UPDATE alembic_version SET version_num = '9999'")
    assert await ready(server) == (200, READY)
    assert await is_live(server)


@pytest.fixture
async def node(own_engines: Stack) -> AsyncGenerator[Server]:
    """A server of this test on engines of this test."""
    with own_engines.fresh() as settings:
        settings |= {"database_wait_seconds": 1}
        async with serving(Settings(**settings)) as server:
            try:
                yield server
            finally:
                running(own_engines)


def running(stack: Stack) -> None:
    """Start what a failed test left stopped: its database is dropped next."""
    assert stack.postgres is not None
    try:
        stack.postgres.start()
    except EngineFailure:
        return


async def test_without_its_database_a_server_is_live_and_ready_again_once_it_is_back(
    own_engines: Stack, node: Server, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert own_engines.postgres is not None
    book = LogBook(capsys, caplog)
    await becomes(node)
    async with World(node) as world:
        ada = await world.user()
        own_engines.postgres.stop()
        await becomes(node, database=False, schema=False)
        assert await is_live(node)
        with refused("SERVICE_UNAVAILABLE") as failure:
            await ada.run("Viewer")
        assert failure.value.extensions["committed"] is False
        own_engines.postgres.start()
        await becomes(node)
        assert (await ada.run("Viewer"))["id"] == ada.id
    book.check()


async def test_without_its_broker_a_server_is_live_and_serves_but_is_not_ready(
    own_engines: Stack, node: Server
) -> None:
    assert own_engines.redis is not None
    await becomes(node)
    own_engines.redis.stop()
    await becomes(node, broker=False)
    assert await is_live(node)
    async with World(node) as world:
        ada = await world.user()
        group = await world.group(ada)
        stream = await ada.messages(group)
        await world.send(ada, group, "without a broker")
        assert (await stream.event())["message"]["content"] == "without a broker"
    own_engines.redis.start()
    await becomes(node)
