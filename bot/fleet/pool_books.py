"""The pool's rows of `machine`: those of agent 0. Each change is one short transaction, and says from which state.

An agent may claim a machine at any moment: whatever else is written about a machine of the pool is written only if the
row still is the pool's, and `False` says that it is not.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import case, func, update
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from bot.store.database import Database
from bot.store.models import Agent, Machine, MachineState, Purpose

NOBODY = 0


class PoolBooks:
    """Of the machines of one provider: another one can neither reach nor end them."""

    def __init__(self, database: Database, provider: str, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._provider = provider
        self._clock = clock

    async def machines(self) -> list[Machine]:
        """All that are not known to be gone, the oldest first."""
        async with self._database.session() as session:
            query = select(Machine).where(*self._is_ours(), col(Machine.state) != MachineState.GONE)
            return list(await session.exec(query.order_by(col(Machine.created_at), col(Machine.id))))

    async def counts(self) -> Mapping[MachineState, int]:
        """How many there are in each state."""
        return Counter(machine.state for machine in await self.machines())

    async def elsewhere(self) -> int:
        """How many of another provider's are still in the books."""
        async with self._database.session() as session:
            is_other = col(Machine.provider) != self._provider
            query = select(func.count()).where(
                col(Machine.agent_id) == NOBODY, is_other, col(Machine.state) != MachineState.GONE
            )
            return (await session.exec(query)).one()

    async def claim(self, agent_id: int, purpose: Purpose) -> Machine | None:
        """Make a ready machine the agent's, for good; None if there is none. One statement: nobody gets the same.

        One that is warm for the release that the agent shall run comes first, then the oldest.
        """
        values = {"agent_id": agent_id, "purpose": purpose, "state": MachineState.RENTED, "claimed_at": self._clock()}
        claimed = update(Machine).where(
            col(Machine.id) == self._best_for(agent_id), *self._is_ours(), col(Machine.state) == MachineState.READY
        )
        async with self._database.session() as session:
            changed = claimed.values(**values).returning(col(Machine.id))
            machine_id = (await (await session.connection()).execute(changed)).scalar_one_or_none()
            return await session.get_one(Machine, machine_id) if machine_id else None

    def _best_for(self, agent_id: int) -> Any:
        one = aliased(Machine)
        wanted = select(Agent.release).where(col(Agent.id) == agent_id).scalar_subquery()
        is_ready = (one.agent_id == NOBODY, one.provider == self._provider, one.state == MachineState.READY)
        query = select(one.id).where(*is_ready)
        query = query.order_by(case((col(one.release) == wanted, 0), else_=1), col(one.created_at), col(one.id))
        # On Postgres those who claim at the same moment pass each other by; SQLite has one writer at a time.
        return query.limit(1).with_for_update(of=one, skip_locked=True).scalar_subquery()

    async def intend(self, *, credits_per_hour: float = 0) -> Machine:
        """Write down a machine before it is rented: whatever crashes, its id is known."""
        machine = Machine(agent_id=NOBODY, provider=self._provider, purpose=Purpose.POOL, created_at=self._clock())
        machine.credits_per_hour = credits_per_hour
        async with self._database.session() as session:
            session.add(machine)
        return machine

    async def rented(self, machine_id: str) -> bool:
        """The provider has given it."""
        return await self._move(machine_id, MachineState.INTENT, MachineState.RENTED)

    async def ready(self, machine_id: str, release: str) -> bool:
        """It is warm for that release, and may be claimed from now on."""
        return await self._move(machine_id, MachineState.RENTED, MachineState.READY, release=release)

    async def rewarmed(self, machine_id: str, release: str) -> bool:
        """It is warm for another release."""
        return await self._move(machine_id, MachineState.READY, MachineState.READY, release=release)

    async def quarantine(self, machine_id: str, before: MachineState) -> bool:
        """It failed: nobody gets it any more, and it is kept for a while."""
        return await self._move(machine_id, before, MachineState.QUARANTINED, failed_at=self._clock())

    async def doom(self, machine_id: str, before: MachineState) -> bool:
        """It shall end: written down before anything is done to it."""
        return await self._move(machine_id, before, MachineState.DOOMED)

    async def gone(self, machine_id: str) -> bool:
        """The provider does not list it any more."""
        return await self._move(machine_id, MachineState.DOOMED, MachineState.GONE, gone_at=self._clock())

    async def _move(self, machine_id: str, before: MachineState, after: MachineState, **values: Any) -> bool:
        change = update(Machine).where(col(Machine.id) == machine_id, *self._is_ours(), col(Machine.state) == before)
        async with self._database.transaction() as transaction:
            return bool((await transaction.execute(change.values(state=after, **values))).rowcount)

    def _is_ours(self) -> tuple[Any, Any]:
        return col(Machine.agent_id) == NOBODY, col(Machine.provider) == self._provider
