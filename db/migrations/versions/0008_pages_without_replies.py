"""An index of the messages that are no replies."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    is_no_reply = sa.text("thread_root_id IS NULL")
    op.create_index(
        "ix_messages_no_reply",
        "messages",
        ["group_id", "seq"],
        sqlite_where=is_no_reply,
        postgresql_where=is_no_reply,
    )
