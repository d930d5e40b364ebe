"""What people are to be told, written down by whoever finds it out; the front end tells it."""

import asyncio
import time
from collections.abc import Callable, Iterable

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, select

from bot.store.database import Database
from bot.store.records import Notice

OPERATOR = 0
"""Whoever that is: each id in ADMIN_IDS."""
AT_ONCE = 200
"""Notices that are read at a time."""


class Notices:
    """Rows of `notice`: posted once by their id, kept until they are told, and remembered as told."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self.news = asyncio.Event()
        """Something was posted."""
        self._database = database
        self._clock = clock

    async def post(self, notice_id: str, user_id: int, text: str, /, **facts: str | float) -> None:
        """Have a person (or the `OPERATOR`) told, once however often the same id is posted.

        `text` is a key of the front end's texts, which say what facts each of them needs. Everywhere `agent_id` may
        stand for the agent's `name`, and `at` is a Unix time.
        """
        async with self._database.transaction() as transaction:
            await self._add(transaction, [Notice(id=notice_id, user_id=user_id, text=text, facts=facts)])
        self.news.set()

    async def waiting(self) -> list[Notice]:
        """The oldest that were not told yet."""
        query = select(Notice).where(col(Notice.told_at).is_(None)).order_by(col(Notice.created_at), col(Notice.id))
        async with self._database.session() as session:
            return list(await session.exec(query.limit(AT_ONCE)))

    async def told(self, notice_id: str, /) -> None:
        """It need not be told any more."""
        async with self._database.transaction() as transaction:
            await self._tick_off(transaction, notice_id)

    async def share(self, notice: Notice, user_ids: Iterable[int]) -> None:
        """Tell each of them instead: a notice of their own for each, in one transaction."""
        one_each = [
            Notice(
                id=f"{notice.id} {user_id}",
                user_id=user_id,
                text=notice.text,
                facts=notice.facts,
                created_at=notice.created_at,
            )
            for user_id in dict.fromkeys(user_ids)
        ]
        async with self._database.transaction() as transaction:
            if one_each:
                await self._add(transaction, one_each)
            await self._tick_off(transaction, notice.id)

    async def _add(self, transaction: AsyncConnection, notices: list[Notice]) -> None:
        rows = [notice.model_dump() for notice in notices]
        await transaction.execute(self._database.insert_new(Notice, rows))

    async def _tick_off(self, transaction: AsyncConnection, notice_id: str) -> None:
        open_one = update(Notice).where(col(Notice.id) == notice_id, col(Notice.told_at).is_(None))
        await transaction.execute(open_one.values(told_at=self._clock()))
