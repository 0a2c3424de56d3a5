"""The database's schema and the API's: `migrate` and `export-schema`."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from graphql import GraphQLSchema, build_schema, is_abstract_type

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
    output: Annotated[Path | None, typer.Option(help="The file to write; without it the text is printed.")] = None,
    possible_types: Annotated[
        bool,
        typer.Option("--possible-types", help="The types of each interface instead, as Apollo's cache wants them."),
    ] = False,
) -> None:
    """Print the GraphQL schema as SDL, sorted.

    With --possible-types print as JSON which types each interface stands for: what Apollo's InMemoryCache asks for.
    """
    text = types_as_json(build_schema(sdl())) if possible_types else sdl()
    with refusals():
        if output is None:
            typer.echo(text, nl=False)
        else:
            output.write_text(text, encoding="utf-8")


def types_as_json(schema: GraphQLSchema) -> str:
    """The names of the types that each interface and union stands for, sorted: `graphql/possible-types.json`."""
    abstract = filter(is_abstract_type, schema.type_map.values())
    types = {each.name: sorted(possible.name for possible in schema.get_possible_types(each)) for each in abstract}
    return json.dumps(types, indent=2, sort_keys=True) + "\n"
