"""Make an agent what its row wants, by steps that may be repeated."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any

from bot.accounts.chats import Chats
from bot.errors import AgentError, MachineError
from bot.fleet.books import Books
from bot.fleet.deploy import Deployer
from bot.fleet.durable import Attempt, Step
from bot.fleet.lease import Superseded, while_held
from bot.fleet.machine_rows import COMING
from bot.fleet.moves import Moves
from bot.fleet.notifier import Notifier
from bot.log import line
from bot.store.models import Agent, Machine, MachineState, Phase, Purpose, Wanted

log = logging.getLogger(__name__)

AT_ONCE = 10
"""Agents deployed at the same time by one bot, and as many deleted: slow machines keep none from being given back."""
LEASE_POLL_SECONDS = 0.2

Work = Callable[[int], Coroutine[Any, Any, None]]


class Plan(StrEnum):
    """What brings an agent from what is to what is wanted."""

    DEPLOY = "deploy"
    """It has no machine: the first time, or to wake it."""
    REFRESH = "refresh"
    """On the machine that it has."""
    REPLACE = "replace"
    """A machine with another release follows the one that works."""
    RESTORE = "restore"
    """A machine with another state follows the one that works."""
    RECOVER = "recover"
    """A machine follows one that failed."""
    SLEEP = "sleep"
    DISMANTLE = "dismantle"


GENTLE = {Plan.REPLACE, Plan.RESTORE, Plan.SLEEP}
"""Plans for an agent that works: if they fail, it goes on as before."""


class Converger:
    """One attempt after the other, each under the agent's lease."""

    def __init__(
        self,
        books: Books,
        deployer: Deployer,
        moves: Moves,
        *,
        chats: Chats,
        notifier: Notifier,
        step: Step,
    ) -> None:
        self._books = books
        self._deployer = deployer
        self._moves = moves
        self._chats = chats
        self._notifier = notifier
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

    async def give_back(self, machine: Machine) -> None:
        """End a doomed machine; it leaves the books only when the provider no longer lists it."""
        await self._deployer.give_back(machine)

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
        # A step too: what is decided once stays decided, when a crash has this run again among other rows.
        plan = Plan(await self._step("plan", lambda: self._plan(attempt)))
        works = {
            Plan.DEPLOY: self._deploy,
            Plan.REFRESH: self._refresh,
            Plan.REPLACE: self._replace,
            Plan.RESTORE: self._restore,
            Plan.RECOVER: self._recover,
            Plan.SLEEP: self._fall_asleep,
            Plan.DISMANTLE: self._dismantle,
        }
        try:
            await works[plan](attempt)
        except Superseded:
            raise
        except Exception as error:  # noqa: BLE001  a job's top: whatever it was, the row must say so
            await self._fail(attempt, plan, error)

    async def _plan(self, attempt: Attempt) -> str:
        agent = await self._books.agent(attempt.agent_id)
        if agent.wanted is not Wanted.ON:
            return Plan.SLEEP if agent.wanted is Wanted.ASLEEP else Plan.DISMANTLE
        machine = await self._books.machine(attempt.agent_id)
        if machine is None:
            return Plan.DEPLOY
        if agent.restore_id:
            return Plan.RESTORE
        if machine.release not in {"", agent.release}:
            return Plan.REPLACE
        is_first = attempt.number == 1
        return Plan.REFRESH if is_first and await self._deployer.is_listed(machine) else Plan.RECOVER

    # --- plans

    async def _deploy(self, attempt: Attempt) -> None:
        agent = await self._books.agent(attempt.agent_id)
        await self._make_successor(attempt, Purpose.WAKE if agent.ready_at else Purpose.DEPLOY)
        if agent.restore_id:
            await self._phase(attempt, Phase.RESTORING, self._moves.put_aside, name="put aside")
        if agent.ready_at:
            await self._phase(attempt, Phase.RESTORING, self._moves.revive)
        await self._phase(attempt, Phase.PROVING, self._moves.prove_and_activate)
        if agent.restore_id:
            await self._phase(attempt, Phase.PROVING, self._moves.settle_in, name="settle in")
        await self._switch(attempt)

    async def _refresh(self, attempt: Attempt) -> None:
        await self._phase(attempt, Phase.STARTING, self._deployer.start_again)
        await self._phase(attempt, Phase.PROVING, self._moves.prove_in_place)
        await self._fulfil(attempt, Phase.RUNNING)

    async def _replace(self, attempt: Attempt) -> None:
        await self._make_successor(attempt, Purpose.UPDATE, shown=Phase.UPDATING)
        await self._phase(attempt, Phase.UPDATING, self._moves.bring_ahead, name="bring ahead")
        await self._phase(attempt, Phase.UPDATING, self._moves.prove, name="prove")
        await self._phase(attempt, Phase.UPDATING, self._moves.hand_over, name="hand over")
        await self._switch(attempt)

    async def _restore(self, attempt: Attempt) -> None:
        await self._make_successor(attempt, Purpose.UPDATE, shown=Phase.UPDATING)
        await self._phase(attempt, Phase.UPDATING, self._moves.prove, name="prove")
        await self._phase(attempt, Phase.UPDATING, self._moves.put_aside, name="put aside")
        await self._phase(attempt, Phase.UPDATING, self._moves.revive, name="restore")
        await self._phase(attempt, Phase.UPDATING, self._moves.prove_and_activate, name="activate")
        await self._phase(attempt, Phase.UPDATING, self._moves.settle_in, name="settle in")
        await self._switch(attempt)

    async def _recover(self, attempt: Attempt) -> None:
        await self._make_successor(attempt, Purpose.HEAL)
        await self._phase(attempt, Phase.RESTORING, self._moves.rescue)
        await self._phase(attempt, Phase.PROVING, self._moves.prove_and_activate)
        await self._switch(attempt)

    async def _fall_asleep(self, attempt: Attempt) -> None:
        await self._phase(attempt, Phase.DOZING, self._moves.put_away)
        if not await self._books.fall_asleep(attempt):
            raise Superseded
        log.info(line("agent asleep", agent=attempt.agent_id))

    async def _dismantle(self, attempt: Attempt) -> None:
        await self._chats.leave_all(attempt.agent_id)
        await self._phase(attempt, Phase.DELETING, self._moves.keep_last, name="last snapshot")
        await self._phase(attempt, Phase.DELETING, self._give_all_back)
        await self._fulfil(attempt, Phase.GONE)

    async def _make_successor(self, attempt: Attempt, purpose: Purpose, *, shown: Phase | None = None) -> None:
        """A machine on which the wanted release stands by. `shown`: what the agent is meanwhile."""
        steps: dict[Phase, Work] = {
            Phase.RENTING: lambda agent_id: self._deployer.rent(agent_id, purpose),
            Phase.REACHING: self._deployer.reach,
            Phase.PREPARING: self._deployer.prepare,
            Phase.STARTING: self._deployer.start,
        }
        for phase, work in steps.items():
            await self._phase(attempt, shown or phase, work, name=phase)

    # --- how a plan goes on, and ends

    async def _phase(self, attempt: Attempt, phase: Phase, work: Work, *, name: str = "") -> None:
        if not await self._books.enter(attempt, phase):
            raise Superseded
        await self._notifier.show(attempt.agent_id)
        begun = time.monotonic()
        await self._step(name or phase.value, lambda: self._under_lease(attempt, work(attempt.agent_id)))
        seconds = round(time.monotonic() - begun, 2)
        log.info(line("step done", agent=attempt.agent_id, step=name or phase, seconds=seconds))

    async def _under_lease(self, attempt: Attempt, work: Coroutine[Any, Any, None]) -> None:
        await while_held(lambda: self._books.renew(attempt), work)

    async def _switch(self, attempt: Attempt) -> None:
        machine = await self._books.successor(attempt.agent_id)
        if machine is None or not await self._books.switch(attempt, machine):
            raise Superseded
        log.info(line("agent running", agent=attempt.agent_id, machine=machine.id, purpose=machine.purpose))
        await self._moves.told(attempt, machine)

    async def _fulfil(self, attempt: Attempt, phase: Phase) -> None:
        if await self._books.fulfil(attempt, phase):
            log.info(line(f"agent {phase}", agent=attempt.agent_id, generation=attempt.generation))

    async def _give_all_back(self, agent_id: int, *states: MachineState) -> None:
        # One that cannot be given back now keeps none of the others.
        doomed = await self._books.doom(agent_id, *states)
        ends = await asyncio.gather(*map(self.give_back, doomed), return_exceptions=True)
        for error in ends:
            if error:
                raise error

    async def _fail(self, attempt: Attempt, plan: Plan, error: Exception) -> None:
        code = secrets.token_hex(2).upper()
        agent = await self._books.agent(attempt.agent_id)
        key = error.code if isinstance(error, MachineError) else MachineError.code
        log.error(line("attempt failed", attempt=attempt.id, plan=plan, phase=agent.phase, code=code), exc_info=error)
        if plan is not Plan.DISMANTLE:
            await self._abandon(attempt, plan)
        instead = await self._instead(agent, plan)
        is_over = await self._books.fail(
            attempt, error=key, code=code, forever=plan is Plan.DISMANTLE, at_once=plan is Plan.SLEEP, instead=instead
        )
        if is_over:
            await self._moves.told_failure(attempt, plan.value, agent, why=str(error))

    async def _abandon(self, attempt: Attempt, plan: Plan) -> None:
        """Its successor holds nothing that is nowhere else: none is paid for in vain. The one before goes on."""
        try:
            give_back = lambda: self._under_lease(attempt, self._give_all_back(attempt.agent_id, *COMING))  # noqa: E731
            await self._step("give back", give_back)
        except Exception as error:  # noqa: BLE001  a job's top: the machine stays doomed, and the sweep tries for ever
            log.warning(line("machine not given back yet", attempt=attempt.id, why=error))
        if plan in GENTLE:
            try:
                await self._step("go on", lambda: self._under_lease(attempt, self._moves.go_on(attempt.agent_id)))
            except (AgentError, MachineError) as error:
                # A probe finds it sealed, or not at all, and it is healed.
                log.warning(line("agent not unsealed", attempt=attempt.id, why=error))

    async def _instead(self, agent: Agent, plan: Plan) -> dict[str, Any]:
        """What an agent is whose wish does not come true for good, if it has not failed: what it was before."""
        machine = await self._books.machine(agent.id or 0)
        if plan is Plan.DEPLOY and agent.ready_at:
            # All that it is stays where it is; whoever writes to it tries again.
            return {"phase": Phase.ASLEEP, "wanted": Wanted.ASLEEP, "restore_id": None}
        if machine is None or plan not in GENTLE:
            return {}
        before = {"phase": Phase.RUNNING, "wanted": Wanted.ON, "restore_id": None}
        return before | ({"release": machine.release} if plan is Plan.REPLACE else {})
