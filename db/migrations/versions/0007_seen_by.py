"""Whether users let others see how far they have read."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    shared = sa.Column("shares_read_positions", sa.Boolean(), server_default=sa.true(), nullable=False)
    op.add_column("users", shared)
