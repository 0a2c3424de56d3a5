"""Drafts the next revision after a change of `db/tables.py`: `python -m db.revise "Add reactions"`.

No part of a running server.
"""

import sys
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine

from db.migrate import HEAD, SCRIPTS, configuration

REVISIONS = SCRIPTS / "versions"


def draft(sentence: str, folder: Path = REVISIONS) -> None:
    """Write to `folder` what the tables have beyond the newest revision, for a person to read and finish.

    Alembic sees no change of a CHECK or of a table's options: those are written by hand.
    """
    places = "\n".join(dict.fromkeys((str(REVISIONS), str(folder)))).replace("%", "%%")
    with create_engine("sqlite://").connect() as connection:
        config = configuration(connection)
        config.set_main_option("version_locations", places)
        command.upgrade(config, "head")
        number = f"{int(HEAD) + 1:04}"
        command.revision(config, sentence.rstrip("."), autogenerate=True, rev_id=number, version_path=folder)


if __name__ == "__main__":
    draft(sys.argv[1])
