"""What every command stands on: settings, the services of one process, and refusals as one line. Knows no command."""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import NoReturn

import typer
from pydantic import ValidationError

from db.engine import Database, Unavailable, utc_now
from db.lock import LockError
from db.migrate import SchemaError, ensure
from delivery.bus import Bus, BusUnavailable
from delivery.stream import Streams
from logs import configure_logs
from resolvers.passwords import Hasher
from resolvers.reader import LogReader
from resolvers.refusals import Refusal
from resolvers.services import Services
from settings import Settings

EXPECTED = (BusUnavailable, LockError, OSError, Refusal, SchemaError, Unavailable)


def refuse(sentence: str, exit_code: int = 1) -> NoReturn:
    """End the command with one line on stderr."""
    typer.echo(f"parley: {sentence}", err=True)
    raise typer.Exit(exit_code)


@contextmanager
def refusals() -> Generator[None, None, None]:
    """What the world does to a command becomes one line; a defect of ours keeps its traceback."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of our output has gone, as in `export-log GROUP | head`: typer ends quietly
    except EXPECTED as error:
        refuse(str(error))


def settings() -> Settings:
    """The settings of the environment. Refuses a wrong one by its name, without its value: that can be a secret."""
    try:
        given = Settings()
    except ValidationError as error:
        wrong = [f"{str(each['loc'][0]).upper()} {_lowered(each['msg'])}" for each in error.errors()]
        refuse("; ".join(wrong) + ".")
    configure_logs(given)  # to stderr: stdout is for what a command prints
    return given


def _lowered(message: str) -> str:
    """pydantic's sentence as the rest of one that begins with a name."""
    return message.removeprefix("Value error, ").removeprefix("Input ").rstrip(".")


@asynccontextmanager
async def services(given: Settings, clock: Callable[[], datetime] = utc_now) -> AsyncGenerator[Services, None]:
    """The services of a command, which may run beside a server: it publishes nothing, the servers' head check finds it.

    Raises SchemaError as a start does: an empty database is migrated, an older one refused.
    """
    await ensure(given.database_url, upgrade=False)
    database = Database(given.database_url, pool_size=1, wait_seconds=given.database_wait_seconds, clock=clock)
    hasher = Hasher(given)
    try:
        streams = Streams(Bus("memory://"), LogReader(database), given.head_check_seconds)
        yield Services(given, database, streams, hasher)
    finally:
        hasher.stop()
        await database.stop()
