"""Users from the command line: `create-user`, `issue-token`, `disable-user`."""

import asyncio
import secrets
import sys
from typing import Annotated

import typer

from commands.common import refusals, refuse, services, settings
from resolvers import text, users
from resolvers.refusals import ErrorCode, Refusal
from resolvers.users import LoggedIn
from settings import Settings

LONGEST_DAYS = 36_500
Username = Annotated[str, typer.Argument(help="3 to 32 of a-z, 0-9, _, . and -.", show_default=False)]


def create_user(
    username: Username,
    first_name: Annotated[str, typer.Option(help="Shown to other users.", show_default=False)],
    last_name: Annotated[str, typer.Option(help="Shown to other users.", show_default=False)],
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin.")] = False,
) -> None:
    """Create a user who can log in.

    The password is asked for on a terminal. Without one it is read with --password-stdin, or made here and printed.
    """
    typed = _password(password_stdin)
    password = typed or secrets.token_urlsafe(16)
    with refusals():
        asyncio.run(_create(settings(), username, password, first_name, last_name))
    typer.echo(f"Created {username.lower()}.")
    if not typed:
        typer.echo(f"Password: {password}")


def issue_token(
    username: Username,
    days: Annotated[
        int | None, typer.Option(min=1, max=LONGEST_DAYS, help="Days until it expires; default: TOKEN_DAYS.")
    ] = None,
) -> None:
    """Print a new token of a user, and nothing else."""
    with refusals():
        typer.echo(asyncio.run(_issue(settings(), username, days)).token)


def disable_user(username: Username) -> None:
    """End every token of a user and refuse new ones.

    Open sockets are closed as soon as the servers notice, after seconds. Memberships and messages stay.
    """
    with refusals():
        done = asyncio.run(_disable(settings(), username))
    typer.echo(f"{username.lower()} is disabled." if done else f"{username.lower()} was disabled already.")


def _password(from_stdin: bool) -> str:
    """Empty when one is to be made."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n") or refuse("There is no password on stdin.")
    if not sys.stdin.isatty():
        return ""
    return typer.prompt(
        "Password (empty: one is made)", default="", hide_input=True, confirmation_prompt=True, show_default=False
    )


async def _create(given: Settings, username: str, password: str, first_name: str, last_name: str) -> None:
    async with services(given) as made:
        await users.create(made, users.Registration(username, password, first_name, last_name))


async def _issue(given: Settings, username: str, days: int | None) -> LoggedIn:
    async with services(given) as made:
        user = await users.by_username(made, username)
        if user is None:
            refuse(f"There is no user {username!r}, or the user is disabled.")
        return await users.issue_token(made, user, days or given.token_days)


async def _disable(given: Settings, username: str) -> bool:
    async with services(given) as made:
        try:
            return await users.disable(made, text.username(username))
        except Refusal as refusal:
            if refusal.code not in {ErrorCode.BAD_USER_INPUT, ErrorCode.NOT_FOUND}:
                raise
            refuse(f"There is no user {username!r}.")
