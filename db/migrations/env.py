"""How Alembic runs here: on the connection and in the transaction of `db/migrate.py`. Leaves logging alone."""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlmodel.sql.sqltypes import AutoString

from db.tables import UtcDateTime, metadata


def _rendered(kind: str, subject: object, _: AutogenContext) -> str | Literal[False]:
    """A revision speaks plain SQLAlchemy, so that it keeps its meaning when `db/tables.py` moves on."""
    if kind != "type":
        return False
    if isinstance(subject, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if isinstance(subject, AutoString):
        return f"sa.String(length={subject.length})" if subject.length else "sa.String()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    render_item=_rendered,
    compare_type=True,
    compare_server_default=True,
)
context.run_migrations()
