"""Put agents to sleep that nobody has needed for a while: asleep they cost nothing."""

import time
from collections.abc import Awaitable, Callable

from sqlalchemy import func
from sqlmodel import col, exists, select

from bot.fleet.machine_rows import owned_since
from bot.store.database import Database
from bot.store.models import Agent, Alarm, Letter, LetterState, Machine, Phase, Turn, TurnState, Wanted, is_one_of

LOOK_SECONDS = 60.0
SOON_SECONDS = 1_800.0
"""Whoever is to be called within this stays awake for it: a machine is paid for by the time it takes to wake, too."""
AGAIN_SECONDS = 3_600.0
"""After a try that failed."""


class Idle:
    """Rows of `agent`, beside what happens to them."""

    def __init__(
        self,
        database: Database,
        sleep: Callable[[int], Awaitable[object]],
        *,
        minutes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`sleep` wants an agent asleep. `minutes` is the operator's limit, for owners who said nothing; 0: never."""
        self._database = database
        self._sleep = sleep
        self._minutes = minutes
        self._clock = clock
        self._tried: dict[int, float] = {}

    async def look(self) -> list[int]:
        """Put to sleep who is idle; their ids."""
        now = self._clock()
        self._tried = {agent_id: at for agent_id, at in self._tried.items() if at > now - AGAIN_SECONDS}
        idle = [agent_id for agent_id in await self._idle(now) if agent_id not in self._tried]
        for agent_id in idle:
            self._tried[agent_id] = now
            await self._sleep(agent_id)
        return idle

    async def _idle(self, now: float) -> list[int]:
        limit = func.coalesce(col(Agent.idle_minutes), self._minutes)
        since = now - 60 * limit
        asked = exists().where(col(Turn.agent_id) == col(Agent.id), col(Turn.created_at) > since)
        busy = select(col(Turn.agent_id)).where(is_one_of(col(Turn.state), TurnState.QUEUED, TurnState.RUNNING))
        called = exists().where(col(Alarm.agent_id) == col(Agent.id), col(Alarm.at) < now + SOON_SECONDS)
        letters = select(col(Letter.agent_id)).where(is_one_of(col(Letter.state), LetterState.WAITING))
        query = select(col(Agent.id)).join(Machine, col(Machine.id) == col(Agent.machine_id))
        query = query.where(
            col(Agent.phase) == Phase.RUNNING,
            col(Agent.wanted) == Wanted.ON,
            col(Agent.observed_generation) == col(Agent.generation),
            limit > 0,
            owned_since() < since,
            ~asked,
            ~called,
            col(Agent.id).not_in(busy),
            col(Agent.id).not_in(letters),
        )
        async with self._database.session() as session:
            return [agent_id or 0 for agent_id in await session.exec(query)]
