"""For tests about older and newer schemas: code that is one revision ahead of this one, and SQL run past it."""

import shutil
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from db import migrate

NEXT = '''"""The next one."""
import sqlalchemy as sa
from alembic import op
revision = "{next}"
down_revision = "{head}"
def upgrade() -> None:
    with op.batch_alter_table("users", recreate="auto") as users:
        users.add_column(sa.Column("motto", sa.String(), nullable=False, server_default="none"))
        users.alter_column("nickname", type_=sa.String(length=200))
'''


def one_revision_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """From here on this process knows one revision more: users get a motto. Returns its file, to be made worse."""
    scripts = folder / "migrations"
    shutil.copytree(migrate.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    following = f"{int(migrate.HEAD) + 1:04}"
    file = scripts / "versions" / f"{following}_next.py"
    file.write_text(NEXT.format(next=following, head=migrate.HEAD))
    monkeypatch.setattr(migrate, "SCRIPTS", scripts)
    monkeypatch.setattr(migrate, "KNOWN", (*migrate.KNOWN, following))
    monkeypatch.setattr(migrate, "HEAD", following)
    return file


async def execute(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run and commit the statements; the rows of the last."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            results = [await connection.execute(text(statement)) for statement in statements]
            return [tuple(row) for row in results[-1]] if results[-1].returns_rows else []
    finally:
        await engine.dispose()
