"""What a database file holds, counted: so that two machines can say that they have the same."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Inventory:
    """Rows by table, and the newest turn."""

    counts: dict[str, int]
    last_turn: str | None


def take(path: Path, *, check: bool = False) -> Inventory:
    """Count; `sqlite3.DatabaseError` if it is damaged, which `check` looks for everywhere."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        if check and (found := database.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(json.dumps(found))
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        counts = {name: _count(database, name) for (name,) in sorted(names)}
        newest = database.execute("SELECT id FROM turn ORDER BY created DESC, rowid DESC LIMIT 1").fetchone()
    finally:
        database.close()
    return Inventory(counts, newest[0] if newest else None)


def _count(database: sqlite3.Connection, table: str) -> int:
    quoted = table.replace('"', '""')
    return int(database.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()[0])  # noqa: S608  a table's name
