"""Whom messages mention."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("mentions", sa.Text(), nullable=True))
    op.create_table(
        "mentions",
        sa.Column("whom_id", sa.Uuid(), nullable=False),
        sa.Column("group_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sender_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("present", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id", "seq"], ["messages.group_id", "messages.seq"], name=op.f("fk_mentions_group_id")
        ),
        sa.ForeignKeyConstraint(["sender_id"], ["users.id"], name=op.f("fk_mentions_sender_id")),
        sa.PrimaryKeyConstraint("whom_id", "group_id", "seq", name=op.f("pk_mentions")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_mentions_present",
        "mentions",
        ["whom_id", "group_id", "created_at", "seq", "sender_id"],
        sqlite_where=sa.text("present = 1"),
        postgresql_where=sa.text("present"),
    )
