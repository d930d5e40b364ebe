"""When each agent wants to be called: what it said last, kept, so that also a restarted bot calls in time."""

import asyncio

from sqlalchemy import delete
from sqlmodel import col, select

from bot.store.database import Database
from bot.store.models import Alarm


class Alarms:
    """Rows of `alarm`, with a copy in memory: one bot writes them.

    What turns tell may be old when it arrives, so it only ever makes an alarm earlier: too early costs a call. An
    agent's answer to that call is what makes it later, unless the agent told something while the call was made.
    """

    def __init__(self, database: Database) -> None:
        self.news = asyncio.Event()
        """An alarm has become earlier."""
        self._database = database
        self._at: dict[int, float] = {}
        self._told: dict[int, float] = {}
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        """Read the rows."""
        async with self._database.session() as session:
            self._at = {alarm.agent_id: alarm.at for alarm in await session.exec(select(Alarm))}

    def all(self) -> dict[int, float]:
        """Unix time by agent."""
        return dict(self._at)

    async def tell(self, agent_id: int, at: float) -> None:
        """The agent has said that it wants to be called then (0: at once)."""
        self._told[agent_id] = min(at, self._told.get(agent_id, at))
        if at < self._at.get(agent_id, float("inf")):
            await self._keep(agent_id, at)
            self.news.set()

    def begin(self, agent_id: int) -> None:
        """It is called now: what it says from here on counts beside its answer."""
        self._told.pop(agent_id, None)

    async def settle(self, agent_id: int, at: float | None) -> None:
        """It has answered the call."""
        times = [time for time in (at, self._told.get(agent_id)) if time is not None]
        if times:
            await self._keep(agent_id, min(times))
        else:
            await self.drop(agent_id)

    async def drop(self, agent_id: int) -> None:
        """It is not to be called."""
        if self._at.pop(agent_id, None) is not None:
            await self._write(agent_id)

    async def _keep(self, agent_id: int, at: float) -> None:
        if self._at.get(agent_id) == at:
            return
        self._at[agent_id] = at
        await self._write(agent_id)

    async def _write(self, agent_id: int) -> None:
        # One after the other and each what holds then: two turns that end together may not leave the older in the row.
        async with self._writing, self._database.transaction() as transaction:
            at = self._at.get(agent_id)
            if at is None:
                await transaction.execute(delete(Alarm).where(col(Alarm.agent_id) == agent_id))
            else:
                await transaction.execute(self._database.insert_or_replace(Alarm(agent_id=agent_id, at=at)))
