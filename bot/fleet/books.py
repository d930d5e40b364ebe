"""What the fleet writes down: phases, leases, attempts, machines. Each change is one short transaction."""

import time
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import func, or_, update
from sqlmodel import col, select

from bot.fleet.durable import Attempt
from bot.store.database import Database
from bot.store.models import Agent, Configuration, Machine, MachineState, Phase, Wanted

LEASE_SECONDS = 120
MAX_ATTEMPTS = 3
BACKOFF_SECONDS = 5.0


class Books:
    """Rows of `agent` (the observed side) and of `machine`."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def agent(self, agent_id: int) -> Agent:
        """The agent; it must exist."""
        async with self._database.session() as session:
            return await session.get_one(Agent, agent_id)

    async def due(self) -> list[Agent]:
        """Agents that are not as wanted, and may be worked on now."""
        async with self._database.session() as session:
            query = select(Agent).where(
                col(Agent.observed_generation) != col(Agent.generation),
                col(Agent.next_at) <= self._clock(),
            )
            return list(await session.exec(query))

    async def running(self) -> list[int]:
        """Agents that run and are to go on."""
        async with self._database.session() as session:
            query = select(col(Agent.id)).where(col(Agent.phase) == Phase.RUNNING, col(Agent.wanted) == Wanted.ON)
            return [agent_id or 0 for agent_id in await session.exec(query)]

    async def soonest(self) -> float | None:
        """Unix time at which the next agent falls due."""
        async with self._database.session() as session:
            query = select(func.min(Agent.next_at)).where(col(Agent.observed_generation) != col(Agent.generation))
            return (await session.exec(query)).one()

    async def lease(self, attempt: Attempt) -> bool:
        """Take or renew the right to work on the agent; False while another attempt holds it.

        Also False when the attempt is not the wanted one any more: a newer wish goes first.
        """
        now = self._clock()
        return await self._change(
            attempt,
            or_(col(Agent.lease_owner).is_(None), col(Agent.lease_owner) == attempt.id, col(Agent.lease_until) < now),
            lease_owner=attempt.id,
            lease_until=now + LEASE_SECONDS,
        )

    async def renew(self, attempt: Attempt) -> bool:
        """Keep the right to work on; False when it is lost, or the attempt is not the wanted one any more."""
        is_owner = col(Agent.lease_owner) == attempt.id
        return await self._change(attempt, is_owner, lease_until=self._clock() + LEASE_SECONDS)

    async def is_open(self, attempt: Attempt) -> bool:
        """The wish has not come true, and no newer one or newer attempt stands in the row."""
        agent = await self.agent(attempt.agent_id)
        is_current = (agent.generation, agent.attempt) == (attempt.generation, attempt.number)
        return is_current and agent.observed_generation != attempt.generation

    async def release_lease(self, attempt: Attempt) -> None:
        """Let the next attempt begin at once."""
        async with self._database.transaction() as transaction:
            change = update(Agent).where(col(Agent.id) == attempt.agent_id, col(Agent.lease_owner) == attempt.id)
            await transaction.execute(change.values(lease_owner=None, lease_until=0.0))

    async def enter(self, attempt: Attempt, phase: Phase) -> bool:
        """Write down that a phase begins; False if the attempt is not the wanted one any more."""
        return await self._change(attempt, phase=phase, lease_until=self._clock() + LEASE_SECONDS)

    async def fulfil(self, attempt: Attempt, phase: Phase) -> bool:
        """Write down that the wish has come true."""
        facts: dict[str, Any] = {"phase": phase, "observed_generation": attempt.generation}
        if phase is Phase.RUNNING:
            facts["ready_at"] = func.coalesce(col(Agent.ready_at), self._clock())
        return await self._change(attempt, **facts, error=None, error_code=None, next_at=0.0)

    async def fail(self, attempt: Attempt, *, error: str, code: str, forever: bool) -> None:
        """Write down why an attempt failed: the next comes later (after 5, 10, 20 … s), or none does."""
        if forever or attempt.number < MAX_ATTEMPTS:
            delay = BACKOFF_SECONDS * 2 ** min(attempt.number - 1, 6)
            later: dict[str, Any] = {"attempt": attempt.number + 1, "next_at": self._clock() + delay}
        else:
            later = {"phase": Phase.FAILED, "observed_generation": attempt.generation}
        await self._change(attempt, error=error, error_code=code, **later)

    async def skip(self, attempt: Attempt) -> None:
        """Its workflow ended without a word in the row: the next attempt may begin."""
        await self._change(attempt, attempt=attempt.number + 1)

    async def lost(self, agent_id: int, generation: int) -> None:
        """A running agent does not answer: wish it again, once however many noticed."""
        async with self._database.transaction() as transaction:
            change = update(Agent).where(
                col(Agent.id) == agent_id,
                col(Agent.generation) == generation,
                col(Agent.observed_generation) == generation,
                col(Agent.wanted) == Wanted.ON,
            )
            fresh = {"generation": generation + 1, "attempt": 1, "next_at": 0.0, "phase": Phase.WAITING}
            await transaction.execute(change.values(**fresh))

    async def machine(self, agent_id: int) -> Machine | None:
        """The machine that is the agent's, or is about to be."""
        async with self._database.session() as session:
            living = (MachineState.INTENT, MachineState.RENTED, MachineState.ACTIVE)
            query = select(Machine).where(col(Machine.agent_id) == agent_id, col(Machine.state).in_(living))
            return (await session.exec(query)).first()

    async def machines(self, agent_id: int) -> list[Machine]:
        """All machines of the agent that are not known to be gone."""
        async with self._database.session() as session:
            query = select(Machine).where(col(Machine.agent_id) == agent_id, col(Machine.state) != MachineState.GONE)
            return list(await session.exec(query))

    async def doom_all(self, agent_id: int) -> list[Machine]:
        """All machines of the agent that are not known to be gone shall end: written down before any of them does."""
        async with self._database.session() as session:
            query = select(Machine).where(col(Machine.agent_id) == agent_id, col(Machine.state) != MachineState.GONE)
            machines = list(await session.exec(query))
            for machine in machines:
                machine.state = MachineState.DOOMED
                session.add(machine)
        return machines

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
            query = select(Machine.id, Agent).join(Agent, col(Agent.id) == col(Machine.agent_id))
            query = query.where(
                col(Machine.provider) == provider,
                col(Machine.state) == MachineState.ACTIVE,
                col(Agent.phase) == Phase.RUNNING,
                col(Agent.wanted) == Wanted.ON,
            )
            return dict((await session.exec(query)).all())

    async def stopped_at(self, agent_id: int) -> float | None:
        """When the last of its machines was known to be gone (Unix time)."""
        async with self._database.session() as session:
            query = select(func.max(Machine.gone_at)).where(col(Machine.agent_id) == agent_id)
            return (await session.exec(query)).one()

    async def intend(self, agent_id: int, provider: str) -> Machine:
        """Write down a machine before it is rented: whatever crashes, its id is known."""
        machine = Machine(agent_id=agent_id, provider=provider)
        async with self._database.session() as session:
            session.add(machine)
        return machine

    async def note(self, machine_id: str, state: MachineState, *, url: str | None = None) -> None:
        """Write down how a machine stands."""
        values: dict[str, Any] = {"state": state}
        if url is not None:
            values["url"] = url
        if state is MachineState.GONE:
            values["gone_at"] = self._clock()
        async with self._database.transaction() as transaction:
            await transaction.execute(update(Machine).where(col(Machine.id) == machine_id).values(**values))

    async def config_version(self, agent_id: int) -> int:
        """How often its configuration was changed."""
        async with self._database.session() as session:
            configuration = await session.get(Configuration, agent_id)
        return configuration.version if configuration else 0

    async def unconfigured(self) -> list[int]:
        """Running agents that have not confirmed their newest configuration."""
        async with self._database.session() as session:
            query = select(Configuration.agent_id).join(Agent, col(Agent.id) == col(Configuration.agent_id))
            differs = col(Configuration.version) != col(Configuration.observed_version)
            return list(await session.exec(query.where(differs, col(Agent.phase) == Phase.RUNNING)))

    async def configured(self, agent_id: int, version: int) -> None:
        """The agent has confirmed this version."""
        await self._configuration(agent_id, observed_version=version)

    async def outdo(self, agent_id: int, seen: int) -> None:
        """Make the wanted version higher than what the agent has seen."""
        await self._configuration(agent_id, version=seen + 1)

    async def _configuration(self, agent_id: int, **values: int) -> None:
        async with self._database.transaction() as transaction:
            change = update(Configuration).where(col(Configuration.agent_id) == agent_id)
            await transaction.execute(change.values(**values))

    async def doomed(self) -> list[Machine]:
        """Machines to be given back that no attempt is at: their agents are as wanted, or have failed."""
        async with self._database.session() as session:
            is_settled = col(Agent.observed_generation) == col(Agent.generation)
            query = select(Machine).join(Agent, col(Agent.id) == col(Machine.agent_id))
            query = query.where(col(Machine.state) == MachineState.DOOMED, is_settled)
            return list(await session.exec(query))

    async def _change(self, tried: Attempt, /, *conditions: Any, **values: Any) -> bool:
        async with self._database.transaction() as transaction:
            change = update(Agent).where(
                col(Agent.id) == tried.agent_id,
                col(Agent.generation) == tried.generation,
                col(Agent.attempt) == tried.number,
                # After a crash a workflow may be run again whose wish came true in its last moment.
                col(Agent.observed_generation) != tried.generation,
                *conditions,
            )
            return bool((await transaction.execute(change.values(**values))).rowcount)
