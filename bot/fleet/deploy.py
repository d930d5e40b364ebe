"""The steps that make a machine run an agent, up to where it would take turns. Each may be repeated."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from agent import protocol
from bot.accounts.agents import Agents
from bot.errors import AgentBusy, AgentError, AgentRefused, HealingStopped, MachineError, NotProved
from bot.fleet.books import Books
from bot.fleet.specs import Specs
from bot.log import line
from bot.machines.client import AgentClient, Door
from bot.machines.engine import Engine
from bot.machines.provider import Place, Provider
from bot.store.models import Agent, Machine, MachineState, Purpose

log = logging.getLogger(__name__)

PROOFS = 2
PROOF_PAUSE_SECONDS = 0.2
HEALINGS, HEALINGS_SECONDS = 3, 86_400.0
"""So many machines may follow failed ones of an agent within so long: then it is no longer the machines' fault."""
NOT_THE_MACHINES = (protocol.ErrorKind.NO_ALLOWANCE, protocol.ErrorKind.BAD_KEY, protocol.ErrorKind.BUSY)
"""Refusals of the model's server that another machine would hear as well: they prove that it is reached."""

NO_PROBE = "not_found"
"""Of an agent of before, which has no such route: an update may be undone to one."""


class Reserve(Protocol):
    """Machines that are ready before anybody needs them."""

    async def claim(self, agent_id: int, purpose: Purpose) -> Machine | None:
        """One of them, now this agent's alone; None if there is none."""


async def no_cap(_agent_id: int) -> None:
    """Nothing limits what machines may cost."""


async def no_price() -> float:
    """Machines cost nothing."""
    return 0.0


class Deployer:
    """An agent's successor: the machine that it is to work on next."""

    def __init__(
        self,
        books: Books,
        agents: Agents,
        specs: Specs,
        *,
        provider: Provider,
        engine: Engine,
        client: AgentClient,
        reserve: Reserve | None = None,
        check_cap: Callable[[int], Awaitable[None]] = no_cap,
        credits_per_hour: Callable[[], Awaitable[float]] = no_price,
    ) -> None:
        """`check_cap` raises a `MachineError` if the agent may cost nothing more now."""
        self._books = books
        self._agents = agents
        self._specs = specs
        self._provider = provider
        self._engine = engine
        self._client = client
        self._reserve = reserve
        self._check_cap = check_cap
        self._credits_per_hour = credits_per_hour

    async def rent(self, agent_id: int, purpose: Purpose) -> None:
        """Have a successor: the one that was begun, or one that is ready, or a new one."""
        machine = await self._books.successor(agent_id)
        if machine is None:
            await self._check_cap(agent_id)
            if purpose is Purpose.HEAL:
                await self._check_healings(agent_id)
            machine = await self._new(agent_id, purpose)
        if machine.state is MachineState.INTENT:
            # The row with the id is committed before the provider hears of it.
            await self._provider.rent(machine.id)
            await self._books.note(machine.id, MachineState.RENTED)
            log.info(line("machine rented", agent=agent_id, machine=machine.id, purpose=purpose))

    async def reach(self, agent_id: int) -> None:
        """Wait until it has an address."""
        await self._provider.reach((await self.successor(agent_id)).id)

    async def prepare(self, agent_id: int) -> None:
        """Put on it what agents need."""
        await self._engine.prepare(await self._place(await self.successor(agent_id)))

    async def start(self, agent_id: int) -> None:
        """Run the wanted release on the successor; it stands by."""
        agent = await self._books.agent(agent_id)
        await self._run(await self.successor(agent_id), agent.release)

    async def start_again(self, agent_id: int) -> None:
        """Run on the machine where it works what runs there: kept if it does, started anew if not."""
        machine, agent = await self.machine(agent_id), await self._books.agent(agent_id)
        await self._run(machine, machine.release or agent.release)

    async def prove(self, agent_id: int, machine: Machine, *, thinks: bool) -> None:
        """It says twice who it is, and (if it `thinks`) gets an answer from its model; else `NotProved`."""
        agent = await self._books.agent(agent_id)
        door = self.door(agent, machine)
        for proof in range(PROOFS):
            if proof:
                await asyncio.sleep(PROOF_PAUSE_SECONDS)
            await self._check_health(agent, machine, door)
        if thinks:
            await self._check_model(door)

    async def health(self, agent: Agent, machine: Machine) -> protocol.Health:
        """What the agent on that machine says of itself; `AgentError`."""
        return await self._client.health(self.door(agent, machine))

    def door(self, agent: Agent, machine: Machine) -> Door:
        """To the agent on that machine."""
        return Door.of(machine, self._agents.secret(agent))

    async def successor(self, agent_id: int) -> Machine:
        """The machine that it is to move to."""
        return _present(await self._books.successor(agent_id))

    async def machine(self, agent_id: int) -> Machine:
        """The machine that it works on."""
        return _present(await self._books.machine(agent_id))

    async def is_listed(self, machine: Machine) -> bool:
        """The provider has it, as far as it can tell now."""
        try:
            return machine.id in await self._provider.listed()
        except MachineError as error:
            log.warning(line("list of machines not read", why=error))
            return True

    async def give_back(self, machine: Machine) -> None:
        """End a doomed machine; it leaves the books only when the provider no longer lists it."""
        await self._provider.give_back(machine.id)
        if machine.id in await self._provider.listed():
            raise MachineError(f"{machine.id} was given back and is still listed")
        await self._books.note(machine.id, MachineState.GONE)
        log.info(line("machine given back", agent=machine.agent_id, machine=machine.id))

    async def _new(self, agent_id: int, purpose: Purpose) -> Machine:
        ready = await self._reserve.claim(agent_id, purpose) if self._reserve else None
        if ready:
            return ready
        price = await self._credits_per_hour()
        return await self._books.intend(agent_id, self._provider.name, purpose, credits_per_hour=price)

    async def _check_healings(self, agent_id: int) -> None:
        if await self._books.healed_since(agent_id, self._books.now() - HEALINGS_SECONDS) >= HEALINGS:
            raise HealingStopped(f"{HEALINGS} machines of agent {agent_id} failed within a day: not replaced once more")

    async def _place(self, machine: Machine) -> Place:
        return await self._provider.reach(machine.id)

    async def _run(self, machine: Machine, release: str) -> None:
        spec = await self._specs.of(machine.agent_id, release)
        url = await self._engine.run(await self._place(machine), spec)
        await self._books.note(machine.id, url=url, release=release)

    async def _check_health(self, agent: Agent, machine: Machine, door: Door) -> None:
        try:
            health = await self._client.health(door)
        except AgentError as error:
            raise NotProved(f"no health report: {error}") from error
        # It may have been renamed since it was started; then the agent has yet to hear of it.
        is_renamed = health.config_version not in (None, await self._books.config_version(agent.id or 0))
        is_other = health.agent_name != agent.name and not is_renamed
        if is_other or health.release != machine.release or health.model is None:
            raise NotProved(f"another agent or release answers: {health.release}")

    async def _check_model(self, door: Door) -> None:
        try:
            await self._client.probe(door)
        except (AgentRefused, AgentBusy) as refusal:
            if refusal.kind not in {*NOT_THE_MACHINES, NO_PROBE}:
                raise NotProved(f"it does not reach its model: {refusal}") from refusal
        except AgentError as error:
            raise NotProved(f"it does not answer: {error}") from error


def _present(machine: Machine | None) -> Machine:
    if machine is None:
        raise MachineError("its machine has left the books")
    return machine
