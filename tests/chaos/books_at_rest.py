"""What has to be true once nothing goes wrong any more: read from the rows, the network and the machines."""

from collections import Counter

from sqlmodel import col, select

from agent.protocol import Mode
from bot.store.database import Database
from bot.store.models import Agent, Machine, MachineState, Phase, Rental, RentalState, Turn, TurnState, Wanted
from tests.chaos.light_agent import LightAgent
from tests.chaos.machines import LightMachines
from tests.fakes.aleph_world import World

POOLED = (MachineState.INTENT, MachineState.RENTED, MachineState.READY, MachineState.QUARANTINED)


class Rest:
    """Each of these is a list of what is not so."""

    def __init__(self, database: Database, world: World, machines: LightMachines) -> None:
        self._database = database
        self._world = world
        self._machines = machines

    async def unexplained(self) -> list[str]:
        """Agents that are neither as wanted nor say why not."""
        found = [f"{agent.name} is {agent.phase}" for agent in await self.unsettled()]
        return found + [f"{agent.name}: {why}" for agent in await self._living() if (why := await self._wrong(agent))]

    async def unused(self) -> list[str]:
        """Instances that cost money, and that no agent works on and no pool has."""
        in_use = await self._in_use()
        return [entry.hash for entry in self._world.running() if entry.hash not in in_use]

    async def unanswered(self) -> list[str]:
        """Messages of people who still wait."""
        async with self._database.session() as session:
            open_ones = select(col(Turn.id)).where(col(Turn.state).in_((TurnState.QUEUED, TurnState.RUNNING)))
            return list(await session.exec(open_ones))

    async def twins(self) -> list[str]:
        """Agents with more than one machine, and instances that are paid twice for one machine."""
        async with self._database.session() as session:
            machines = list(await session.exec(select(Machine).where(col(Machine.state) != MachineState.GONE)))
            rentals = list(await session.exec(select(Rental).where(col(Rental.state) == RentalState.PAID)))
        owners = Counter(f"agent {machine.agent_id}" for machine in machines if machine.agent_id)
        paid = Counter(rental.machine_id for rental in rentals)
        running = {name: len(agents) for name, agents in self._machines.agents().items()}
        return [what for counts in (owners, paid, running) for what, count in counts.items() if count > 1]

    async def unsettled(self) -> list[Agent]:
        async with self._database.session() as session:
            query = select(Agent).where(col(Agent.observed_generation) != col(Agent.generation))
            return list(await session.exec(query))

    async def not_running(self) -> list[str]:
        """Living agents that do not run."""
        found = [f"{agent.name} is {agent.phase}" for agent in await self._living() if agent.phase is not Phase.RUNNING]
        return found + await self.unexplained()

    async def running(self) -> list[tuple[Agent, LightAgent]]:
        """What runs, with what it remembers."""
        found = []
        for agent in await self._living():
            light = await self._light(agent)
            assert light, f"{agent.name} does not run"
            found.append((agent, light))
        return found

    async def _living(self) -> list[Agent]:
        async with self._database.session() as session:
            return list(await session.exec(select(Agent).where(col(Agent.wanted) != Wanted.DELETED)))

    async def _wrong(self, agent: Agent) -> str:
        if agent.phase is Phase.FAILED:
            return "" if agent.error and agent.error_code else "it has failed, and nobody knows why"
        if agent.phase is Phase.ASLEEP:
            return "it is asleep and has a machine" if agent.machine_id else ""
        if agent.phase is not Phase.RUNNING:
            return f"it is {agent.phase}"
        light = await self._light(agent)
        if light is None:
            return "nothing runs where it works"
        health = light.health(known=True)
        return "" if health.mode is Mode.ACTIVE else f"it is {health.mode} where it works"

    async def _light(self, agent: Agent) -> LightAgent | None:
        async with self._database.session() as session:
            query = select(col(Rental.reference)).where(
                col(Rental.machine_id) == agent.machine_id, col(Rental.state) == RentalState.PAID
            )
            reference = (await session.exec(query)).first()
        light = self._machines.on(reference) if reference else None
        return light if light and light.environment["AGENT_NAME"] == agent.name else None

    async def _in_use(self) -> set[str]:
        async with self._database.session() as session:
            works = select(Rental.reference).join(Agent, col(Agent.machine_id) == col(Rental.machine_id))
            # A failed agent's machine has its conversation.
            works = works.where(col(Agent.wanted) == Wanted.ON, col(Rental.state) == RentalState.PAID)
            pooled = select(Rental.reference).join(Machine, col(Machine.id) == col(Rental.machine_id))
            pooled = pooled.where(col(Machine.agent_id) == 0, col(Machine.state).in_(POOLED))
            return {*await session.exec(works), *await session.exec(pooled)}
