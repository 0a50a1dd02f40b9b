"""Migrations: numbered SQL files, each applied once, in order, and each in one transaction."""

from __future__ import annotations

import re
import time
from pathlib import Path

from flyte.errors import InitializationError
from tarmac.store.database import Database, Session

MIGRATIONS = Path(__file__).with_name("migrations")


def migrate(session: Session, database: Database, folder: Path = MIGRATIONS) -> None:
    """Apply the migrations in `folder` that are missing. Raises InitializationError if the database is newer."""
    queries = database.queries
    session.rows(queries["migrations"])
    done = {row[0] for row in session.rows(queries["migrated"])}
    files = {int(path.name[:4]): path for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))}
    if done and max(done) > max(files):
        raise InitializationError(
            "NewerDatabase",
            "user",
            f"{database.name} was made by a newer version of the platform (its migration {max(done)}, this version "
            f"knows {max(files)}); install that version again, or choose another TARMAC_HOME or TARMAC_DATABASE_URL",
        )
    for number in sorted(set(files) - done):
        _apply(session, database, number, files[number])


def _apply(session: Session, database: Database, number: int, path: Path) -> None:
    session.begin()
    try:
        for statement in statements(database.queries.words(path.read_text())):
            session.rows(statement)
        values = {"number": number, "name": path.stem, "applied": time.time()}
        session.many(database.queries["add_migration"], [values])
        session.commit()
    except database.errors as error:
        session.rollback()
        if database.cause(error) is not None:
            raise
        raise InitializationError(
            "MigrationFailed", "user", f"{path.name} does not fit {database.name}, which is left as it was: {error}"
        ) from error


def statements(text: str) -> list[str]:
    """The statements of a file; each ends with a semicolon at the end of its line."""
    without_comments = re.sub(r"^\s*--.*\n", "", text, flags=re.MULTILINE)
    return [statement.strip() for statement in re.split(r";\s*(?:\n|$)", without_comments) if statement.strip()]
