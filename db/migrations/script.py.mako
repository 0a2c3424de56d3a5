"""${message}."""

import sqlalchemy as sa
from alembic import op
% for line in sorted(imports or []):
${line}
% endfor

revision = "${up_revision}"
down_revision = "${down_revision}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
