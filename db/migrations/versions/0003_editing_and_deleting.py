"""Who deleted a message, when it was edited, and what it said before."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("messages") as messages:
        messages.add_column(sa.Column("deleted_by", sa.Uuid(), nullable=True))
        messages.add_column(sa.Column("edited_seq", sa.BigInteger(), nullable=True))
        messages.add_column(sa.Column("edited_at", sa.DateTime(timezone=True), nullable=True))
        messages.create_foreign_key(op.f("fk_messages_deleted_by"), "users", ["deleted_by"], ["id"])
    op.create_table(
        "message_revisions",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["message_id"], ["messages.id"], name=op.f("fk_message_revisions_message_id")),
        sa.PrimaryKeyConstraint("message_id", "version", name=op.f("pk_message_revisions")),
    )
