"""Replies to messages, and who follows the threads that they make."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("thread_root_id", sa.Uuid(), nullable=True))
    is_reply = sa.text("thread_root_id IS NOT NULL")
    op.create_index(
        "ix_messages_thread",
        "messages",
        ["thread_root_id", "seq", "sender_id", "deleted_at"],
        sqlite_where=is_reply,
        postgresql_where=is_reply,
    )
    op.create_table(
        "threads",
        sa.Column("root_id", sa.Uuid(), nullable=False),
        sa.Column("reply_count", sa.BigInteger(), nullable=False),
        sa.Column("last_reply_id", sa.Uuid(), nullable=True),
        sa.Column("active_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["last_reply_id"], ["messages.id"], name=op.f("fk_threads_last_reply_id")),
        sa.ForeignKeyConstraint(["root_id"], ["messages.id"], name=op.f("fk_threads_root_id")),
        sa.PrimaryKeyConstraint("root_id", name=op.f("pk_threads")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "thread_follows",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("root_id", sa.Uuid(), nullable=False),
        sa.Column("group_id", sa.Uuid(), nullable=False),
        sa.Column("read_seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_thread_follows_group_id")),
        sa.ForeignKeyConstraint(["root_id"], ["messages.id"], name=op.f("fk_thread_follows_root_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_thread_follows_user_id")),
        sa.PrimaryKeyConstraint("user_id", "root_id", name=op.f("pk_thread_follows")),
        sqlite_with_rowid=False,
    )
