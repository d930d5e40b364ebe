"""Who did what, when: rows that are only added."""

import time
from collections.abc import Callable
from typing import Any

from sqlmodel import col, select

from bot.store.database import Database
from bot.store.records import Audit


class Auditor:
    """Writes the `audit` table and reads it."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def note(self, who: str, what: str, agent_id: int | None = None, **details: Any) -> None:
        """Add a row, in a transaction of its own. `details` become JSON: numbers, words, lists of them; no secrets."""
        async with self._database.session() as session:
            session.add(self.entry(who, what, agent_id, **details))

    def entry(self, who: str, what: str, agent_id: int | None = None, **details: Any) -> Audit:
        """The row, to be added in the transaction that does what it tells of: neither is then without the other."""
        return Audit(at=self._clock(), who=who, what=what, agent_id=agent_id, details=details)

    async def newest(self, count: int = 20, *, agent_id: int | None = None) -> list[Audit]:
        """The last rows, newest first; of one agent, if one is named."""
        query = select(Audit).order_by(col(Audit.id).desc()).limit(count)
        if agent_id is not None:
            query = query.where(col(Audit.agent_id) == agent_id)
        async with self._database.session() as session:
            return list(await session.exec(query))
