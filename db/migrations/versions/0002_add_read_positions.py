"""How far users have read groups, and the index that counts what they have not."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "read_positions",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("group_id", sa.Uuid(), nullable=False),
        sa.Column("read_seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_read_positions_group_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_read_positions_user_id")),
        sa.PrimaryKeyConstraint("user_id", "group_id", name=op.f("pk_read_positions")),
        sqlite_with_rowid=False,
    )
    not_deleted = sa.text("deleted_at IS NULL")
    op.create_index(
        "ix_messages_unread",
        "messages",
        ["group_id", "seq", "sender_id"],
        sqlite_where=not_deleted,
        postgresql_where=not_deleted,
    )
