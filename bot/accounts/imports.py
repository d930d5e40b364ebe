"""Files that people want to be the state of their agents: rows of `import`."""

import time
from collections.abc import Callable

from sqlalchemy import delete, update
from sqlmodel import col

from bot.store.database import Database
from bot.store.records import Import

EXPIRES_AFTER = 600
"""Seconds that a file is waited for."""


class Imports:
    """What each person is importing: one file at a time."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def get(self, user_id: int) -> Import | None:
        """The file that is there; None if there is none."""
        async with self._database.session() as session:
            row = await session.get(Import, user_id)
        return row if row and row.file_id else None

    async def want(self, user_id: int) -> None:
        """Their next file is the one, for ten minutes."""
        await self._keep(Import(user_id=user_id, asked_at=self._clock()))

    async def is_wanted(self, user_id: int) -> bool:
        """Whether a file that comes now is the one."""
        async with self._database.session() as session:
            row = await session.get(Import, user_id)
        return row is not None and self._clock() - row.asked_at < EXPIRES_AFTER

    async def keep(self, user_id: int, file_id: str, *, created: float, messages: int) -> None:
        """This is the file."""
        await self._keep(Import(user_id=user_id, file_id=file_id, created=created, messages=messages))

    async def close(self, user_id: int) -> None:
        """Their next file is just a file."""
        async with self._database.transaction() as transaction:
            waits = update(Import).where(col(Import.user_id) == user_id, col(Import.asked_at) > 0)
            await transaction.execute(waits.values(asked_at=0.0))

    async def drop(self, user_id: int) -> None:
        """It was used, or is no longer wanted."""
        async with self._database.transaction() as transaction:
            await transaction.execute(delete(Import).where(col(Import.user_id) == user_id))

    async def _keep(self, row: Import) -> None:
        async with self._database.transaction() as transaction:
            await transaction.execute(self._database.insert_or_replace(row))
