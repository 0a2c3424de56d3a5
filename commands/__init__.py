"""What an operator types: `python3 dev.py COMMAND`, which runs `python app.py COMMAND`. May use every room but app."""

import typer

from commands import exports, schema, server, users


def main() -> None:
    """Run the command of this process's arguments. Exit codes: 0 done, 1 refused, 2 not understood."""
    parser()()


def parser() -> typer.Typer:
    """Every command by its name."""
    commands = typer.Typer(
        name="parley",
        help="Parley, a group-chat server whose only face is GraphQL.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for command in (
        server.serve,
        schema.migrate,
        users.create_user,
        users.issue_token,
        users.disable_user,
        schema.export_schema,
        exports.export_log,
    ):
        commands.command()(command)
    return commands
