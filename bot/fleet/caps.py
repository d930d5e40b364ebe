"""What agents may cost in a calendar month (UTC): nothing is rented beyond it, and who is beyond it falls asleep."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy import case, func
from sqlmodel import col, select

from bot.errors import SpendCapReached
from bot.fleet.money import costs_since, month_start, spent, spent_on_agent
from bot.store.database import Database
from bot.store.models import SERVING, Agent, Machine, Wanted

LOOK_SECONDS = 300.0
OPERATOR = 0


class Cap(StrEnum):
    """Whose costs a cap is for."""

    AGENT = "agent"
    OWNER = "owner"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Caps:
    """Credits in a calendar month; 0: no cap."""

    agent: int = 0
    owner: int = 0
    total: int = 0

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any((self.agent, self.owner, self.total))

    def limit(self, cap: Cap) -> int:
        """Of one of them."""
        return {Cap.AGENT: self.agent, Cap.OWNER: self.owner, Cap.TOTAL: self.total}[cap]

    def reached(self, *, agent: float, owner: float, total: float) -> Cap | None:
        """The first that so many credits reach."""
        spent_of = {Cap.AGENT: agent, Cap.OWNER: owner, Cap.TOTAL: total}
        return next((cap for cap, amount in spent_of.items() if 0 < self.limit(cap) <= amount), None)


class Tell(Protocol):
    """Has a person (0: the operator) told something; the same id is told once."""

    async def __call__(self, notice_id: str, user_id: int, text: str, /, **facts: Any) -> None:
        """`text` is a key."""


class SpendCaps:
    """Reads what machines have cost since the month began."""

    def __init__(self, database: Database, caps: Caps, *, clock: Callable[[], float] = time.time) -> None:
        self.caps = caps
        self._database = database
        self._clock = clock

    async def room(self, agent_id: int) -> Cap | None:
        """The cap that keeps this agent (0: the pool) from one more machine; None: there is room."""
        if not self.caps:
            return None
        now = self._clock()
        since = month_start(now)
        credits_, owner = spent_on_agent(since, now), select(col(Agent.owner_id)).where(col(Agent.id) == agent_id)
        is_theirs = col(Agent.owner_id) == owner.scalar_subquery()
        query = select(
            func.sum(case((col(Machine.agent_id) == agent_id, credits_), else_=0.0)).label("agent"),
            func.sum(case((is_theirs, credits_), else_=0.0)).label("owner"),
            func.sum(spent(since, now)).label("total"),
        )
        query = query.select_from(Machine).outerjoin(Agent, col(Agent.id) == col(Machine.agent_id))
        async with self._database.transaction() as transaction:
            row = (await transaction.execute(query.where(*costs_since(since)))).one()
        own, theirs = (row.agent or 0.0, row.owner or 0.0) if agent_id else (0.0, 0.0)
        return self.caps.reached(agent=own, owner=theirs, total=row.total or 0.0)

    async def check(self, agent_id: int) -> None:
        """`SpendCapReached` if no machine may be rented for it now."""
        if cap := await self.room(agent_id):
            raise SpendCapReached(cap.value)

    async def may_rent(self) -> bool:
        """Whether the pool may have one more machine."""
        return await self.room(0) is None

    async def beyond(self) -> list["Beyond"]:
        """Agents that are awake and have reached a cap."""
        now = self._clock()
        since = month_start(now)
        sums = (func.sum(spent_on_agent(since, now)).label("credits"), func.sum(spent(since, now)).label("paid"))
        cost = select(col(Machine.agent_id), col(Agent.owner_id), *sums)
        cost = cost.select_from(Machine).outerjoin(Agent, col(Agent.id) == col(Machine.agent_id))
        cost = cost.where(*costs_since(since)).group_by(col(Machine.agent_id), col(Agent.owner_id))
        awake = select(col(Agent.id), col(Agent.owner_id)).where(
            col(Agent.phase).in_(SERVING),
            col(Agent.wanted) == Wanted.ON,
            col(Agent.observed_generation) == col(Agent.generation),
        )
        async with self._database.transaction() as transaction:
            costs = (await transaction.execute(cost)).all()
            agents = (await transaction.execute(awake)).all()
        return self._beyond(costs, agents)

    def _beyond(self, costs: Sequence[Any], agents: Iterable[Any]) -> list["Beyond"]:
        of_agent: Counter[int] = Counter()
        of_owner: Counter[int | None] = Counter()
        for row in costs:
            of_agent[row.agent_id] += row.credits
            of_owner[row.owner_id] += row.credits
        total = sum(row.paid for row in costs)
        found = []
        for row in agents:
            cap = self.caps.reached(agent=of_agent[row.id], owner=of_owner[row.owner_id], total=total)
            if cap:
                found.append(Beyond(row.id, row.owner_id, cap))
        return found

    def month(self) -> str:
        """The month that counts now: 2026-11."""
        return datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m")


@dataclass(frozen=True, slots=True)
class Beyond:
    """An agent that has reached a cap."""

    agent_id: int
    owner_id: int
    cap: Cap


class CapWatch:
    """Puts to sleep who has reached a cap. Asleep nothing is lost, and nothing is paid for."""

    def __init__(self, caps: SpendCaps, sleep: Callable[[int], Awaitable[object]], tell: Tell) -> None:
        """`sleep` wants an agent asleep."""
        self._caps = caps
        self._sleep = sleep
        self._tell = tell

    async def look(self) -> list[int]:
        """The ids of those that fall asleep."""
        if not self._caps.caps:
            return []
        found = await self._caps.beyond()
        for each in found:
            # Told first: after a crash in between it is told no second time, and sleeps at the next look.
            await self._say(each)
            await self._sleep(each.agent_id)
        return [each.agent_id for each in found]

    async def _say(self, beyond: Beyond) -> None:
        # A cap that was raised, and is reached again, is told again.
        about = f"cap-{beyond.cap}-{self._caps.caps.limit(beyond.cap)}-{self._caps.month()}"
        facts = {"agent_id": beyond.agent_id, "cap": beyond.cap.value}
        await self._tell(f"{about}-{beyond.agent_id}", beyond.owner_id, "notice-cap", **facts)
        if beyond.cap is Cap.TOTAL:
            await self._tell(f"{about}-operator", OPERATOR, "notice-operator-cap", cap=beyond.cap.value)
