"""Wizards in the middle: a row per person, so that a restart, a second device or a late press finds the same one."""

import time
from collections.abc import Callable

from sqlmodel import col, delete, update

from bot.store.database import Database
from bot.store.models import Draft

EXPIRES_AFTER = 24 * 3600
"""Seconds."""


class Drafts:
    """Rows of `draft`."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def get(self, user_id: int) -> Draft | None:
        """Their draft, unless it has expired."""
        async with self._database.session() as session:
            draft = await session.get(Draft, user_id)
        return draft if draft and self._clock() - draft.updated_at < EXPIRES_AFTER else None

    async def save(self, draft: Draft, *, update_id: int | None = None) -> None:
        """Keep it; `update_id` marks what changed it, so that the same update does not change it twice."""
        draft.updated_at = self._clock()
        if update_id is not None:
            draft.last_update_id = update_id
        async with self._database.transaction() as transaction:
            await transaction.execute(self._database.insert_or_replace(draft))

    async def pause(self, user_id: int) -> None:
        """Plain messages no longer go to it, until one of its buttons is pressed or /create is sent."""
        async with self._database.session() as session:
            await session.exec(update(Draft).where(col(Draft.user_id) == user_id).values(is_active=False))

    async def drop(self, user_id: int) -> None:
        """Forget it."""
        async with self._database.session() as session:
            await session.exec(delete(Draft).where(col(Draft.user_id) == user_id))
