"""Deleted agents whose last snapshot is still kept: found, and wanted again."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, update
from sqlmodel import col, select

from bot.accounts.agents import Agents, Card, fresh
from bot.errors import Refused
from bot.store.database import Database
from bot.store.models import Agent, Phase, Wanted
from bot.store.records import Snapshot, SnapshotState


@dataclass(frozen=True, slots=True)
class Deleted:
    """One that can be brought back, until then (Unix time)."""

    agent: Agent
    until: float


class DeletedAgents:
    """Rows of `agent` that nobody wants any more, and of `snapshot` that are kept for them."""

    def __init__(self, database: Database, agents: Agents, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._agents = agents
        self._clock = clock

    async def of(self, owner_id: int) -> list[Deleted]:
        """Theirs, the last deleted first; one that is still being deleted is left out."""
        until = func.max(Snapshot.keep_until)
        query = (
            select(Agent, until)
            .join(Snapshot, col(Snapshot.agent_id) == col(Agent.id))
            .where(col(Agent.owner_id) == owner_id, *self._is_kept())
            .group_by(col(Agent.id))
            .order_by(until.desc())
        )
        async with self._database.session() as session:
            return [Deleted(agent, at or 0) for agent, at in await session.exec(query)]

    async def bring_back(self, agent_id: int, owner_id: int, card: Card) -> bool:
        """Want it again; False if it is not theirs, or not deleted, or nothing is kept of it. The card shows the rest.

        `Refused` (`agent-limit`) if they may not have one more.
        """
        async with self._database.session() as session:
            await self._database.lock(await session.connection(), "agents of", owner_id)
            found = select(Agent).join(Snapshot, col(Snapshot.agent_id) == col(Agent.id))
            mine = found.where(col(Agent.id) == agent_id, col(Agent.owner_id) == owner_id, *self._is_kept())
            if (await session.exec(mine.limit(1))).first() is None:
                return False
            living = select(func.count()).where(col(Agent.owner_id) == owner_id, col(Agent.wanted) != Wanted.DELETED)
            if (await session.exec(living)).one() >= self._agents.limit:
                raise Refused("agent-limit", limit=self._agents.limit)
            values = fresh(card) | {"wanted": Wanted.ON, "phase": Phase.WAITING}
            await session.exec(update(Agent).where(col(Agent.id) == agent_id).values(**values))
            # From here on its snapshots are those of any other agent.
            await session.exec(update(Snapshot).where(col(Snapshot.agent_id) == agent_id).values(keep_until=None))
        return True

    def _is_kept(self) -> tuple[ColumnElement[bool], ...]:
        return (
            col(Agent.wanted) == Wanted.DELETED,
            col(Agent.phase) == Phase.GONE,
            col(Agent.observed_generation) == col(Agent.generation),
            col(Snapshot.state) == SnapshotState.WHOLE,
            col(Snapshot.keep_until) > self._clock(),
        )
