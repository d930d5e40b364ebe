"""Make an agent's machine what its row wants, by steps that may be repeated."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from bot.accounts.agents import Agents
from bot.accounts.chats import Chats
from bot.accounts.libertai import LibertAI
from bot.accounts.tools import ToolPolicy
from bot.accounts.users import Users
from bot.errors import AgentError, MachineError, NotProved
from bot.fleet.books import Books
from bot.fleet.durable import Attempt, Step
from bot.fleet.lease import Superseded, while_held
from bot.fleet.notifier import Notifier
from bot.log import line
from bot.machines.client import AgentClient, Door
from bot.machines.engine import Engine, Spec
from bot.machines.provider import Place, Provider
from bot.store.models import Agent, Machine, MachineState, Phase, Wanted

log = logging.getLogger(__name__)

AT_ONCE = 10
"""Agents deployed at the same time by one bot, and as many deleted: slow machines keep none from being given back."""
LEASE_POLL_SECONDS = 0.2
PROOFS = 2
PROOF_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Inference:
    """What agents think with, unless their owner lends a key, and how often unasked."""

    base_url: str
    api_key: SecretStr
    context_tokens: int = 11_000
    max_tokens: int = 4_096
    heartbeat_minutes: int = 0


class Converger:
    """One attempt after the other, each under the agent's lease."""

    def __init__(
        self,
        *,
        books: Books,
        agents: Agents,
        users: Users,
        chats: Chats,
        provider: Provider,
        engine: Engine,
        client: AgentClient,
        libertai: LibertAI,
        tools: ToolPolicy,
        notifier: Notifier,
        inference: Inference,
        step: Step,
    ) -> None:
        self._books = books
        self._agents = agents
        self._users = users
        self._chats = chats
        self._provider = provider
        self._engine = engine
        self._client = client
        self._libertai = libertai
        self._tools = tools
        self._notifier = notifier
        self._inference = inference
        self._step = step
        self._slots = {wish: asyncio.Semaphore(AT_ONCE) for wish in Wanted}

    async def run(self, attempt: Attempt) -> None:
        """Bring one agent from what is to what is wanted, or write down why not."""
        try:
            async with self._turn(attempt):
                await self._converge(attempt)
        except Superseded:
            log.info(line("attempt superseded", attempt=attempt.id))
        finally:
            await self._books.release_lease(attempt)
            await self._notifier.show(attempt.agent_id)

    @asynccontextmanager
    async def _turn(self, attempt: Attempt) -> AsyncIterator[None]:
        """One of the slots and the lease; neither is kept while it waits for the other."""
        slots = self._slots[(await self._books.agent(attempt.agent_id)).wanted]
        while True:
            async with slots:
                if await self._books.lease(attempt):
                    yield
                    return
            if not await self._books.is_open(attempt):
                raise Superseded
            await asyncio.sleep(LEASE_POLL_SECONDS)

    async def _converge(self, attempt: Attempt) -> None:
        agent = await self._books.agent(attempt.agent_id)
        work = self._provision if agent.wanted is Wanted.ON else self._dismantle
        try:
            await work(attempt)
        except Superseded:
            raise
        except Exception as error:  # noqa: BLE001  a job's top: whatever it was, the row must say so
            await self._fail(attempt, error)

    async def _provision(self, attempt: Attempt) -> None:
        await self._phase(attempt, Phase.RENTING, self._rent)
        await self._phase(attempt, Phase.REACHING, self._reach)
        await self._phase(attempt, Phase.PREPARING, self._prepare)
        await self._phase(attempt, Phase.STARTING, self._start)
        await self._phase(attempt, Phase.PROVING, self._prove)
        if await self._books.fulfil(attempt, Phase.RUNNING):
            log.info(line("agent running", agent=attempt.agent_id, generation=attempt.generation))

    async def _dismantle(self, attempt: Attempt) -> None:
        await self._chats.leave_all(attempt.agent_id)
        await self._phase(attempt, Phase.DELETING, self._give_all_back)
        if await self._books.fulfil(attempt, Phase.GONE):
            log.info(line("agent gone", agent=attempt.agent_id))

    async def _phase(self, attempt: Attempt, phase: Phase, work: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        if not await self._books.enter(attempt, phase):
            raise Superseded
        await self._notifier.show(attempt.agent_id)
        begun = time.monotonic()
        await self._step(phase.value, lambda: self._under_lease(attempt, work(attempt.agent_id)))
        seconds = round(time.monotonic() - begun, 2)
        log.info(line("step done", agent=attempt.agent_id, step=phase.value, seconds=seconds))

    async def _under_lease(self, attempt: Attempt, work: Coroutine[Any, Any, None]) -> None:
        await while_held(lambda: self._books.renew(attempt), work)

    async def _rent(self, agent_id: int) -> None:
        # The row with the id is committed before the provider hears of it.
        machine = await self._books.machine(agent_id) or await self._books.intend(agent_id, self._provider.name)
        await self._provider.rent(machine.id)
        if machine.state is MachineState.INTENT:
            await self._books.note(machine.id, MachineState.RENTED)
            log.info(line("machine rented", agent=agent_id, machine=machine.id))

    async def _reach(self, agent_id: int) -> None:
        await self._place(agent_id)

    async def _prepare(self, agent_id: int) -> None:
        await self._engine.prepare(await self._place(agent_id))

    async def _start(self, agent_id: int) -> None:
        machine = await self._machine(agent_id)
        url = await self._engine.run(await self._place(agent_id), await self._spec(agent_id))
        await self._books.note(machine.id, MachineState.ACTIVE, url=url)

    async def _prove(self, agent_id: int) -> None:
        agent, machine = await self._books.agent(agent_id), await self._machine(agent_id)
        door = Door.of(machine, self._agents.secret(agent))
        for proof in range(PROOFS):
            if proof:
                await asyncio.sleep(PROOF_PAUSE_SECONDS)
            await self._check_health(agent, door)

    async def _check_health(self, agent: Agent, door: Door) -> None:
        try:
            health = await self._client.health(door)
        except AgentError as error:
            raise NotProved(f"no health report: {error}") from error
        # It may have been renamed since it was started; then the agent has yet to hear of it.
        is_renamed = health.config_version not in (None, await self._books.config_version(agent.id or 0))
        is_other = health.agent_name != agent.name and not is_renamed
        if is_other or health.release != agent.release or health.model is None:
            raise NotProved(f"another agent or release answers: {health.release}")

    async def _give_all_back(self, agent_id: int) -> None:
        # One that cannot be given back now keeps none of the others.
        doomed = await self._books.doom_all(agent_id)
        ends = await asyncio.gather(*map(self.give_back, doomed), return_exceptions=True)
        for error in ends:
            if error:
                raise error

    async def give_back(self, machine: Machine) -> None:
        """End a doomed machine; it leaves the books only when the provider no longer lists it."""
        await self._provider.give_back(machine.id)
        if machine.id in await self._provider.listed():
            raise MachineError(f"{machine.id} was given back and is still listed")
        await self._books.note(machine.id, MachineState.GONE)
        log.info(line("machine given back", agent=machine.agent_id, machine=machine.id))

    async def _fail(self, attempt: Attempt, error: Exception) -> None:
        code = secrets.token_hex(2).upper()
        agent = await self._books.agent(attempt.agent_id)
        key = error.code if isinstance(error, MachineError) else MachineError.code
        log.error(line("attempt failed", attempt=attempt.id, phase=agent.phase, code=code), exc_info=error)
        if agent.wanted is Wanted.ON and agent.ready_at is None:
            # Nobody has talked to it yet: nothing is lost with its machine, and none is paid for in vain.
            await self._try_to_give_back(attempt)
        await self._books.fail(attempt, error=key, code=code, forever=agent.wanted is Wanted.DELETED)

    async def _try_to_give_back(self, attempt: Attempt) -> None:
        try:
            work = self._give_all_back
            await self._step("give back", lambda: self._under_lease(attempt, work(attempt.agent_id)))
        except Exception as error:  # noqa: BLE001  a job's top: the machine stays doomed, and the sweep tries for ever
            log.warning(line("machine not given back yet", attempt=attempt.id, why=error))

    async def _machine(self, agent_id: int) -> Machine:
        machine = await self._books.machine(agent_id)
        if machine is None:
            raise MachineError("its machine has left the books")
        return machine

    async def _place(self, agent_id: int) -> Place:
        return await self._provider.reach((await self._machine(agent_id)).id)

    async def _spec(self, agent_id: int) -> Spec:
        # Before the row: what is changed in between is brought to it by a call, whose version is then higher.
        version = await self._books.config_version(agent_id)
        agent = await self._books.agent(agent_id)
        own_key = await self._users.key(agent.owner_id)
        model = await self._libertai.resolve(agent.model)
        return Spec(
            release=agent.release,
            name=agent.name,
            job=agent.job,
            model=model,
            secret=self._agents.secret(agent),
            llm_base_url=self._inference.base_url,
            llm_api_key=own_key or self._inference.api_key,
            context_tokens=self._inference.context_tokens,
            max_tokens=self._inference.max_tokens,
            heartbeat_minutes=self._inference.heartbeat_minutes,
            tools=await self._tools.decide(model),
            # An image that a model cannot read breaks its conversation: only where somebody says that it can.
            vision=await self._libertai.can_see(model) or False,
            config_version=version,
        )
