"""What the fleet writes down about machines: whose they are, how far, and which of an agent's is the one that works."""

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import ColumnElement, Update, func, or_, update
from sqlmodel import col, select

from bot.store.database import Database
from bot.store.models import SERVING, Agent, Machine, MachineState, Phase, Purpose, Wanted

LEASE_SECONDS = 120
COMING = (MachineState.INTENT, MachineState.RENTED)
"""States of a machine that an agent is to move to."""


def owned_since() -> ColumnElement[float]:
    """SQL: since when a machine is its agent's (Unix time)."""
    return func.coalesce(col(Machine.claimed_at), col(Machine.created_at))


class MachineRows:
    """Rows of `machine`, and the two columns of `agent` that belong to them: `machine_id` and `epoch`."""

    _database: Database
    _clock: Callable[[], float]

    async def machine(self, agent_id: int) -> Machine | None:
        """The machine that the agent works on."""
        async with self._database.session() as session:
            query = select(Machine).join(Agent, col(Agent.machine_id) == col(Machine.id))
            return (await session.exec(query.where(col(Agent.id) == agent_id))).first()

    async def successor(self, agent_id: int) -> Machine | None:
        """The machine that it is about to move to, if there is one."""
        async with self._database.session() as session:
            query = select(Machine).where(col(Machine.agent_id) == agent_id, col(Machine.state).in_(COMING))
            return (await session.exec(query.order_by(col(Machine.created_at)))).first()

    async def intend(self, agent_id: int, provider: str, purpose: Purpose, *, credits_per_hour: float = 0) -> Machine:
        """Write down a machine before it is rented: whatever crashes, its id is known."""
        machine = Machine(agent_id=agent_id, provider=provider, purpose=purpose, credits_per_hour=credits_per_hour)
        machine.created_at = self._clock()
        async with self._database.session() as session:
            session.add(machine)
        return machine

    async def note(self, machine_id: str, state: MachineState | None = None, **facts: Any) -> None:
        """Write down how a machine stands; `facts` are other columns."""
        if state is not None:
            facts["state"] = state
        if state is MachineState.GONE:
            facts["gone_at"] = self._clock()
        async with self._database.transaction() as transaction:
            await transaction.execute(update(Machine).where(col(Machine.id) == machine_id).values(**facts))

    async def next_epoch(self, agent_id: int) -> int:
        """One that is higher than any before it, and nobody else's."""
        async with self._database.transaction() as transaction:
            change = update(Agent).where(col(Agent.id) == agent_id).values(epoch=col(Agent.epoch) + 1)
            epoch: int = (await transaction.execute(change.returning(col(Agent.epoch)))).scalar_one()
            return epoch

    async def epoch_of(self, machine: Machine) -> int:
        """The epoch in which its agent is to work there: chosen once, so that a step done again says the same."""
        if machine.epoch:
            return machine.epoch
        epoch = await self.next_epoch(machine.agent_id)
        await self.note(machine.id, epoch=epoch)
        machine.epoch = epoch
        return epoch

    async def doom(self, agent_id: int, *states: MachineState) -> list[Machine]:
        """The agent's machines in these states (none: in all but `gone`) shall end: written down before any does."""
        async with self._database.session() as session:
            is_meant = col(Machine.state).in_(states) if states else col(Machine.state) != MachineState.GONE
            machines = list(await session.exec(select(Machine).where(col(Machine.agent_id) == agent_id, is_meant)))
            for machine in machines:
                machine.state = MachineState.DOOMED
                session.add(machine)
        return machines

    async def doomed(self) -> list[Machine]:
        """Machines to be given back that no attempt is at."""
        async with self._database.session() as session:
            query = select(Machine).outerjoin(Agent, col(Agent.id) == col(Machine.agent_id))
            is_free = or_(col(Agent.id).is_(None), self._is_free())
            return list(await session.exec(query.where(col(Machine.state) == MachineState.DOOMED, is_free)))

    def _is_free(self) -> Any:
        """No attempt is at the agent."""
        now = self._clock()
        # One that lasts for longer than leases do was written when the clock was ahead.
        return or_(
            col(Agent.lease_owner).is_(None),
            col(Agent.lease_until) < now,
            col(Agent.lease_until) > now + 2 * LEASE_SECONDS,
        )

    async def machines(self, agent_id: int) -> list[Machine]:
        """All machines of the agent that are not known to be gone."""
        async with self._database.session() as session:
            query = select(Machine).where(col(Machine.agent_id) == agent_id, col(Machine.state) != MachineState.GONE)
            return list(await session.exec(query))

    async def living(self, machine_ids: Collection[str]) -> set[str]:
        """Those of these machines that are in the books and not known to be gone."""
        async with self._database.session() as session:
            query = select(Machine.id).where(col(Machine.id).in_(machine_ids), col(Machine.state) != MachineState.GONE)
            return set(await session.exec(query))

    async def is_begun(self) -> bool:
        """A machine was rented by this database, some time."""
        async with self._database.session() as session:
            return (await session.exec(select(Machine.id).limit(1))).first() is not None

    async def active(self, provider: str) -> dict[str, Agent]:
        """The machines from this provider that agents run on, and are to run on."""
        async with self._database.session() as session:
            query = select(Machine.id, Agent).join(Agent, col(Agent.machine_id) == col(Machine.id))
            query = query.where(
                col(Machine.provider) == provider,
                col(Agent.phase) == Phase.RUNNING,
                col(Agent.wanted) == Wanted.ON,
            )
            return dict((await session.exec(query)).all())

    async def settled(self, agent_ids: Collection[int]) -> list[tuple[Agent, Machine]]:
        """Those of them that run as wanted, and where, by id."""
        async with self._database.session() as session:
            query = select(Agent, Machine).join(Machine, col(Machine.id) == col(Agent.machine_id))
            query = query.where(
                col(Agent.id).in_(agent_ids),
                col(Agent.phase).in_(SERVING),
                col(Agent.wanted) == Wanted.ON,
                col(Agent.observed_generation) == col(Agent.generation),
            )
            return [(agent, machine) for agent, machine in await session.exec(query.order_by(col(Agent.id)))]

    async def healed_since(self, agent_id: int, since: float) -> int:
        """How many machines were rented for it since then (Unix time) because another had failed."""
        async with self._database.session() as session:
            query = select(func.count()).where(
                col(Machine.agent_id) == agent_id,
                col(Machine.purpose) == Purpose.HEAL,
                owned_since() > since,
            )
            return (await session.exec(query)).one()

    async def stopped_at(self, agent_id: int) -> float | None:
        """When the last of its machines was known to be gone (Unix time)."""
        async with self._database.session() as session:
            query = select(func.max(Machine.gone_at)).where(col(Machine.agent_id) == agent_id)
            return (await session.exec(query)).one()


def coming(agent_id: int) -> tuple[Any, Any]:
    """Those machines that the agent might move to."""
    return col(Machine.agent_id) == agent_id, col(Machine.state).in_(COMING)


def dooming(*conditions: Any) -> Update:
    """Those machines shall end."""
    change = update(Machine).where(*conditions, col(Machine.state) != MachineState.GONE)
    return change.values(state=MachineState.DOOMED)
