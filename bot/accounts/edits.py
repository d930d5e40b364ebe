"""Changes that owners are making to their agents: what their next plain message is, and the wishes that come of it."""

import time
from collections.abc import Callable

from sqlalchemy import update
from sqlmodel import col

from bot.store.database import Database
from bot.store.models import Agent, Configuration, Edit

EXPIRES_AFTER = 600
"""Seconds that a question waits for its answer."""


class Edits:
    """Rows of `edit`, and of `agent` and `configuration` as owners change them."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def get(self, user_id: int) -> Edit | None:
        """What they are changing, or changed last."""
        async with self._database.session() as session:
            edit = await session.get(Edit, user_id)
        if edit and edit.is_open and self._clock() - edit.asked_at > EXPIRES_AFTER:
            edit.is_open = False
        return edit

    async def begin(self, edit: Edit, update_id: int) -> None:
        """Ask for something new, unless a later update was seen to."""
        known = await self.get(edit.user_id)
        if known is None or known.last_update_id <= update_id:
            edit.asked_at, edit.last_update_id = self._clock(), update_id
            async with self._database.transaction() as transaction:
                await transaction.execute(self._database.insert_or_replace(edit))

    async def close(self, user_id: int) -> None:
        """Their next message is no answer any more."""
        async with self._database.transaction() as transaction:
            change = update(Edit).where(col(Edit.user_id) == user_id, col(Edit.is_open).is_(True))
            await transaction.execute(change.values(is_open=False))

    async def apply(self, edit: Edit, value: str, update_id: int, *, at: float = 0, is_open: bool = False) -> bool:
        """Change the agent and close the question, in one transaction; False if this update did so before.

        `at` is when a job was sent (Unix time): the rest of a split paste follows at once. With `is_open` the question
        still waits for its answer.
        """
        async with self._database.transaction() as transaction:
            done = update(Edit).where(col(Edit.user_id) == edit.user_id, col(Edit.last_update_id) < update_id)
            closed = done.values(is_open=is_open, last_update_id=update_id, answered_at=at)
            if not (await transaction.execute(closed)).rowcount:
                return False
            change = update(Agent).where(col(Agent.id) == edit.agent_id)
            await transaction.execute(change.values(**{edit.field.value: value}))
            await transaction.execute(
                self._database.insert_new(Configuration, Configuration(agent_id=edit.agent_id).model_dump())
            )
            newer = update(Configuration).where(col(Configuration.agent_id) == edit.agent_id)
            await transaction.execute(newer.values(version=col(Configuration.version) + 1))
        return True
