"""The database's schema and the API's: `migrate` and `export-schema`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from commands.common import refusals, settings
from db import migrate as migrations
from schema.schema import sdl


def migrate() -> None:
    """Bring the database to this version's schema.

    It works on what DATABASE_URL names. Safe to run at any time and from many places at once: it is done once, whole or
    not at all.
    """
    with refusals():
        asyncio.run(migrations.migrate(settings().database_url))
    typer.echo(f"The schema of the database is {migrations.HEAD}, which is this version's.")


def export_schema(
    output: Annotated[Path | None, typer.Option(help="The file to write; without it the SDL is printed.")] = None,
) -> None:
    """Print the GraphQL schema as SDL, sorted."""
    with refusals():
        if output is None:
            typer.echo(sdl(), nl=False)
        else:
            output.write_text(sdl(), encoding="utf-8")
