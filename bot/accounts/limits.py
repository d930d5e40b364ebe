"""The free messages of a day: reserved before a turn runs, given back when it fails. Counted in the database."""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, select

from bot.store.database import Database
from bot.store.models import DailyUsage


@dataclass(frozen=True, slots=True)
class Allowance:
    """Free messages of a person today. `refill_seconds` until midnight UTC, when they start anew."""

    used: int
    limit: int
    refill_seconds: int


class Limits:
    """Rows of `dailyusage`."""

    def __init__(self, database: Database, *, daily_messages: int, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._limit = daily_messages
        self._clock = clock

    async def reserve(self, transaction: AsyncConnection, user_id: int) -> str | None:
        """Take one message of today, in the caller's transaction; the day it counts to, or None if none is left."""
        day = self._today()
        await transaction.execute(
            self._database.insert_new(DailyUsage, DailyUsage(user_id=user_id, day=day).model_dump())
        )
        change = update(DailyUsage).where(
            col(DailyUsage.user_id) == user_id, col(DailyUsage.day) == day, col(DailyUsage.messages) < self._limit
        )
        taken = await transaction.execute(change.values(messages=col(DailyUsage.messages) + 1))
        return day if taken.rowcount else None

    async def give_back(self, transaction: AsyncConnection, user_id: int, day: str) -> None:
        """Undo one reservation of that day."""
        change = update(DailyUsage).where(
            col(DailyUsage.user_id) == user_id, col(DailyUsage.day) == day, col(DailyUsage.messages) > 0
        )
        await transaction.execute(change.values(messages=col(DailyUsage.messages) - 1))

    async def today(self, user_id: int) -> Allowance:
        """What they have used of today's messages."""
        async with self._database.session() as session:
            query = select(DailyUsage.messages).where(
                col(DailyUsage.user_id) == user_id, col(DailyUsage.day) == self._today()
            )
            used = (await session.exec(query)).first() or 0
        return Allowance(used=used, limit=self._limit, refill_seconds=int(86_400 - self._clock() % 86_400))

    def refill(self) -> dict[str, int]:
        """What a person without free messages is told: the limit, and the time until midnight UTC."""
        seconds = int(86_400 - self._clock() % 86_400)
        return {"limit": self._limit, "hours": seconds // 3600, "minutes": seconds % 3600 // 60}

    def _today(self) -> str:
        return dt.datetime.fromtimestamp(self._clock(), dt.UTC).date().isoformat()
