"""Letters: what the agent wants to say unasked, kept until the control plane has acknowledged it."""

import json
import time
from collections.abc import Callable, Sequence

from agent.protocol import Attachment, Letter
from agent.store import Store

PAGE = 100
"""Letters of one answer."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, chat_id TEXT NOT NULL, text TEXT NOT NULL, files TEXT NOT NULL,
    created REAL NOT NULL);
"""
# The time in milliseconds, or one more than the last: the control plane passes over numbers that it has seen, and an
# older snapshot that is brought back must not give out the numbers of letters which it does not know of.
_NEXT = "max(?1, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0) + 1)"


class Outbox:
    """Letters in the order in which they were written."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        store.prepare(_SCHEMA)

    def add(self, chat_id: str, text: str, files: Sequence[Attachment] = ()) -> None:
        """Write a letter; safe with the store's next commit, together with what it is about."""
        now = self._clock()
        self._store.execute(
            f"INSERT INTO outbox (id, chat_id, text, files, created) VALUES ({_NEXT}, ?2, ?3, ?4, ?5)",  # noqa: S608 - a constant
            (int(now * 1000), chat_id, text, json.dumps([file.model_dump() for file in files]), now),
        )

    def page(self, after: int = 0) -> tuple[Letter, ...]:
        """The oldest letters with numbers above `after`, at most `PAGE`."""
        rows = self._store.execute(
            "SELECT id, chat_id, text, created, files FROM outbox WHERE id > ? ORDER BY id LIMIT ?", (after, PAGE)
        )
        return tuple(
            Letter(id=row[0], chat_id=row[1], text=row[2], created=row[3], files=json.loads(row[4])) for row in rows
        )

    def has_after(self, number: int) -> bool:
        """Whether letters with higher numbers wait."""
        return self._store.execute("SELECT 1 FROM outbox WHERE id > ? LIMIT 1", (number,)).fetchone() is not None

    def drop(self, up_to: int) -> None:
        """Forget what was acknowledged; again or going backwards it changes nothing."""
        self._store.execute("DELETE FROM outbox WHERE id <= ?", (up_to,))
        self._store.commit()
