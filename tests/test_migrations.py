"""Migrations on both databases: what they build, who runs them, and what a start says about a schema."""

import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from subprocess import PIPE

import pytest
from sqlalchemy import Column, Connection, Table, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel.sql.sqltypes import AutoString

from db import migrate, revise
from db.engine import utc_now
from db.migrate import NotYet, SchemaError
from db.tables import UtcDateTime, metadata
from db.transactions import LoopTransaction
from tests.engines import Postgres
from tests.harness import Stack
from tests.revisions import execute, one_revision_later

THIS = migrate.HEAD
ROOT = Path(__file__).resolve().parent.parent
START = """
import asyncio, sys
from db.migrate import ensure
print("ready", flush=True)
sys.stdin.readline()
asyncio.run(ensure(sys.argv[1], upgrade=False))
"""
ADA = """
INSERT INTO users (id, username, first_name, last_name, created_at, head_seq)
VALUES ('00000000000000000000000000000001', 'ada', 'Ada', 'Lovelace', '2026-01-01 00:00:00', 0)
"""
HER_TOKEN = """
INSERT INTO tokens (digest, id, user_id, created_at, expires_at)
SELECT 'digest', id, id, created_at, created_at FROM users
"""
POSTGRES_SHAPE = """
SELECT 'column', table_name, column_name,
  concat_ws(' ', data_type, character_maximum_length, is_nullable, column_default)
FROM information_schema.columns WHERE table_schema = current_schema() AND table_name <> 'alembic_version'
UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = current_schema()::regnamespace AND conrelid::regclass::text <> 'alembic_version'
UNION ALL SELECT 'index', tablename, indexname, indexdef
FROM pg_indexes WHERE schemaname = current_schema() AND tablename <> 'alembic_version'
ORDER BY 1, 2, 3, 4
"""
SQLITE_SHAPE = (
    "SELECT type, tbl_name, name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version' ORDER BY 1, 2, 3"
)


def async_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+asyncpg://").replace("sqlite://", "sqlite+aiosqlite://")


def append(file: Path, lines: str) -> None:
    file.write_text(file.read_text() + lines)


def start_together(url: str, count: int) -> list[tuple[int, str, str]]:
    """What became of processes that call `ensure` when all of them are ready: code, output, errors."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", START, url], stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, cwd=ROOT
        )
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=60) for process in processes]
    return [(process.returncode, *end) for process, end in zip(processes, ends, strict=True)]


def sqlite_url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"


@pytest.fixture
def database(stack: Stack) -> Iterator[str]:
    """The URL of an empty database, one of each kind."""
    with stack.fresh() as settings:
        yield async_url(settings["database_url"])


async def versions(url: str) -> list[tuple[object, ...]]:
    return await execute(url, "SELECT version_num FROM alembic_version")


async def is_current(url: str) -> bool:
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return await migrate.is_current(LoopTransaction(utc_now, connection))
    finally:
        await engine.dispose()


async def differences(url: str) -> list[object]:
    """What Alembic would still change."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415
    from alembic.migration import MigrationContext  # noqa: PLC0415

    def compare(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(compare)
    finally:
        await engine.dispose()


async def shape(url: str) -> list[tuple[object, ...]]:
    """Every column, constraint and index in the database's own words, whatever order a table's lines stand in. SQLite
    quotes the name of a table that was rebuilt, and writes an added column on the line of the one before.
    """
    rows = await execute(url, SQLITE_SHAPE if url.startswith("sqlite") else POSTGRES_SHAPE)
    return [
        tuple(sorted(line.strip(" \t,").replace('"', "") for line in lines(str(value))) for value in row)
        for row in rows
    ]


def lines(value: str) -> list[str]:
    return re.sub(r", (?=\w+ [A-Z])", "\n", value).splitlines()


async def test_alembic_finds_no_difference_between_the_migrations_and_the_tables(database: str) -> None:
    await migrate.migrate(database)
    assert await differences(database) == []


async def test_the_migrations_build_exactly_the_tables_checks_and_options_included(database: str) -> None:
    engine = create_async_engine(database)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    wanted = await shape(database)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
    await engine.dispose()

    await migrate.migrate(database)
    assert await shape(database) == wanted


def test_the_revisions_are_one_line_numbered_from_0001() -> None:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory(str(migrate.SCRIPTS))
    line = [script.revision for script in scripts.walk_revisions()][::-1]
    assert tuple(line) == migrate.KNOWN
    assert line == [f"{number:04}" for number in range(1, len(line) + 1)]
    assert scripts.get_heads() == [migrate.HEAD]


async def test_an_empty_database_is_migrated_by_whatever_starts_first(database: str) -> None:
    assert not await is_current(database)
    await migrate.ensure(database, upgrade=False)
    assert await versions(database) == [(migrate.HEAD,)]
    assert await is_current(database)


async def test_a_current_schema_is_left_alone(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate.migrate(database)
    monkeypatch.setattr(migrate, "SCRIPTS", Path("nowhere"))
    await migrate.ensure(database, upgrade=True)
    await migrate.migrate(database)


async def test_processes_that_start_together_migrate_an_empty_database_once(database: str) -> None:
    assert start_together(database, 3) == [(0, "", "")] * 3
    assert await versions(database) == [(migrate.HEAD,)]


async def test_a_start_refuses_an_older_schema_and_names_the_command(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate.migrate(database)
    one_revision_later(tmp_path, monkeypatch)
    with pytest.raises(
        SchemaError, match=r"^The schema .* older than this code: run `python3 dev\.py migrate` first\.$"
    ):
        await migrate.ensure(database, upgrade=False)
    assert await versions(database) == [(THIS,)]
    assert not await is_current(database)


@pytest.mark.parametrize("command", ["serve", "migrate"])
async def test_an_older_schema_is_brought_up_and_keeps_its_rows(
    database: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate.migrate(database)
    await execute(database, ADA, HER_TOKEN)
    one_revision_later(tmp_path, monkeypatch)
    if command == "serve":
        await migrate.ensure(database, upgrade=True)
    else:
        await migrate.migrate(database)
    assert await versions(database) == [(migrate.HEAD,)]
    assert await execute(database, "SELECT username, motto FROM users") == [("ada", "none")]
    assert await execute(database, "SELECT count(*) FROM tokens") == [(1,)]


async def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate.migrate(database)
    before = await shape(database)
    later = one_revision_later(tmp_path, monkeypatch)
    append(later, '    op.execute("SELECT nonsense FROM nowhere")\n')
    with pytest.raises(SchemaError, match="nowhere"):
        await migrate.migrate(database)
    assert await versions(database) == [(THIS,)]
    assert await shape(database) == before


@pytest.mark.parametrize("start", ["ensure", "upgrade", "migrate"])
async def test_a_newer_schema_always_refuses(database: str, start: str) -> None:
    await migrate.migrate(database)
    await execute(database, "UPDATE alembic_version SET version_num = '9000'")
    with pytest.raises(
        SchemaError, match=rf"^The schema .* \(9000\) is newer than this code \({THIS}\): start the newer Parley\.$"
    ):
        await (
            migrate.migrate(database) if start == "migrate" else migrate.ensure(database, upgrade=start == "upgrade")
        )
    assert await versions(database) == [("9000",)]


async def test_a_server_that_runs_stays_ready_while_newer_ones_take_over(database: str) -> None:
    await migrate.migrate(database)
    await execute(database, "UPDATE alembic_version SET version_num = '9000'")
    assert await is_current(database)


async def test_tables_that_parley_did_not_make_are_left_alone(database: str) -> None:
    await execute(database, "CREATE TABLE users (id integer)")
    with pytest.raises(SchemaError, match=r"has a table 'users' that Parley did not make"):
        await migrate.ensure(database, upgrade=True)
    assert await execute(database, "SELECT * FROM users") == []


async def test_a_database_older_than_parley_knows_is_refused(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "MINIMUM", {"sqlite": (99,), "postgresql": (99,)})
    with pytest.raises(
        SchemaError, match=r"^The database is (sqlite|postgresql) [\d.]+, and Parley needs 99 or later\.$"
    ):
        await migrate.ensure(database, upgrade=True)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql+asyncpg://ada:hun%2Fter2@127.0.0.1:1/chat", "PostgreSQL at 127.0.0.1:1, database chat: "),
        (
            "postgresql+asyncpg://127.0.0.1:1/chat?user=ada&password=hun/ter2",
            "PostgreSQL at 127.0.0.1:1, database chat",
        ),
        ("postgresql+asyncpg://ada:hun%2Fter2@127.0.0.1:x/chat", "DATABASE_URL is no URL of one"),
        (
            "postgresql+asyncpg://ada:hun%2Fter2@127.0.0.1:1/chat?nonsense=1",
            "PostgreSQL at 127.0.0.1:1, database chat: ",
        ),
        ("sqlite+aiosqlite://", "must name a SQLite file"),
        ("sqlite+aiosqlite:////nowhere/at/all/parley.db", "/nowhere/at/all/parley.db"),
        ("sqlite+aiosqlite:////", "Cannot use the SQLite file /: unable to open database file"),
    ],
)
async def test_a_database_that_cannot_be_reached_is_one_clear_line(url: str, sentence: str) -> None:
    for start in (migrate.migrate(url), migrate.ensure(url, upgrade=True)):
        with pytest.raises(SchemaError) as refusal:
            await start
        line = str(refusal.value)
        assert sentence in line
        assert "\n" not in line
        assert "ter2" not in line


async def test_a_wrong_password_is_one_clear_line_without_it(postgres: Postgres) -> None:
    url = async_url(re.sub(r":\w+@", ":hunter2@", postgres.url()))
    with pytest.raises(SchemaError, match="password authentication failed") as refusal:
        await migrate.ensure(url, upgrade=True)
    assert refusal.type is SchemaError  # no waiting mends it
    assert "hunter2" not in str(refusal.value)


async def test_a_database_that_does_not_exist_is_one_clear_line(postgres: Postgres) -> None:
    url = async_url(postgres.url("nowhere"))
    with pytest.raises(SchemaError, match=r'database nowhere: database "nowhere" does not exist\.'):
        await migrate.ensure(url, upgrade=True)


async def test_a_database_that_never_answers_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "CONNECT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+asyncpg://127.0.0.1:{silent.getsockname()[1]}/chat"
        with pytest.raises(NotYet, match=r"^Cannot use PostgreSQL at .*, database chat: no answer in time\.$"):
            await migrate.ensure(url, upgrade=True)


async def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "parley.db"
    file.write_text("This is a letter, and it is long enough to be read as the header of a database.")
    with pytest.raises(SchemaError, match=r"^Cannot use the SQLite file /.*/parley\.db: file is not a database\.$"):
        await migrate.ensure(sqlite_url(file), upgrade=True)


async def test_a_file_that_somebody_writes_to_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "CONNECT_SECONDS", 0.1)
    file = tmp_path / "parley.db"
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SchemaError, match="database is locked"):
        await migrate.migrate(sqlite_url(file))
    other.close()


async def test_waiting_for_another_migration_ends(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "LOCK_SECONDS", 0.1)
    if database.startswith("sqlite"):
        lock = migrate.FileLock(Path(f"{migrate.sqlite_file(database)}-migrating"))
        assert lock.acquire()
        with pytest.raises(NotYet, match="Another process is migrating"):
            await migrate.migrate(database)
        lock.release()
        return
    engine = create_async_engine(database)
    async with engine.connect() as other:
        await other.execute(text(f"SELECT pg_advisory_xact_lock({migrate.ADVISORY_LOCK})"))
        with pytest.raises(NotYet, match="Another process is migrating"):
            await migrate.migrate(database)
    await engine.dispose()


async def test_a_connection_that_fails_is_not_a_schema_that_is_old(database: str) -> None:
    engine = create_async_engine(database)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        raw = await connection.get_raw_connection()
        await raw.driver_connection.close()  # pyright: ignore[reportOptionalMemberAccess]
        with pytest.raises(Exception, match=r"closed|no active"):
            await migrate.is_current(LoopTransaction(utc_now, connection))
        await connection.invalidate()
    await engine.dispose()


def test_the_next_revision_is_drafted_from_the_tables(tmp_path: Path) -> None:
    texts = Column[str]("name", AutoString(50)), Column[str]("text", AutoString())
    sketch = Table("sketches", metadata, Column[datetime]("at", UtcDateTime, primary_key=True), *texts)
    try:
        revise.draft("Add sketches.", tmp_path)
    finally:
        metadata.remove(sketch)
    following = f"{int(THIS) + 1:04}"
    drafted = (tmp_path / f"{following}_add_sketches.py").read_text()
    assert drafted.startswith('"""Add sketches."""\n')
    assert f'revision = "{following}"\ndown_revision = "{THIS}"\n' in drafted
    assert "op.create_table('sketches',\n    sa.Column('at', sa.DateTime(timezone=True), nullable=False)" in drafted
    assert "sa.Column('name', sa.String(length=50), " in drafted
    assert "sa.Column('text', sa.String(), " in drafted


def test_migrations_cost_a_start_no_import_of_alembic() -> None:
    code = "import sys, db.migrate; sys.exit('alembic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
