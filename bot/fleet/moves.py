"""The steps that move an agent's state: ahead, over, away and back. Each may be repeated."""

import asyncio
import logging

from agent import protocol
from bot.errors import BaalError
from bot.fleet.books import Books
from bot.fleet.deploy import Deployer
from bot.fleet.durable import Attempt
from bot.fleet.notifier import OPERATOR, Teller
from bot.fleet.transfer import Transfer
from bot.log import line
from bot.machines.client import Door
from bot.store.models import Agent, Machine, Purpose
from bot.store.records import Reason, Snapshot

log = logging.getLogger(__name__)

KEPT_SECONDS = 7 * 86_400.0
"""Of what an agent was before it was deleted, or went back to something else."""
WHY_CHARS = 500
LAST_WORDS_SECONDS = 120.0
"""So long a machine that is to be deleted may take to say what it holds; then the snapshot before has to do."""


class Moves:
    """Of one agent at a time, between the machine where it works and its successor."""

    def __init__(self, books: Books, deployer: Deployer, transfer: Transfer, teller: Teller) -> None:
        self._books = books
        self._deployer = deployer
        self._transfer = transfer
        self._teller = teller

    # --- to a successor

    async def revive(self, agent_id: int) -> None:
        """Bring the snapshot that is wanted to the successor, or else the newest."""
        agent = await self._books.agent(agent_id)
        await self._transfer.revive(agent_id, await self._new(agent_id), agent.restore_id)

    async def rescue(self, agent_id: int) -> None:
        """Bring to the successor what the failed machine still tells, or else the newest snapshot."""
        machine = await self._deployer.successor(agent_id)
        epoch = await self._books.epoch_of(machine)
        snapshot = await self._transfer.rescue(agent_id, await self._old(agent_id), await self._new(agent_id), epoch)
        await self._tell_loss(agent_id, machine, snapshot)

    async def bring_ahead(self, agent_id: int) -> None:
        """Most of it, while the machine before works on."""
        await self._transfer.bring_ahead(agent_id, await self._old(agent_id), await self._new(agent_id))

    async def prove(self, agent_id: int) -> None:
        """The successor is who it should be, and reaches its model."""
        await self._deployer.prove(agent_id, await self._deployer.successor(agent_id), thinks=True)

    async def hand_over(self, agent_id: int) -> None:
        """The machine before stops, the successor goes on."""
        epoch = await self._books.epoch_of(await self._deployer.successor(agent_id))
        await self._transfer.hand_over(agent_id, await self._old(agent_id), await self._new(agent_id), epoch)

    async def prove_and_activate(self, agent_id: int) -> None:
        """The successor is who it should be, and takes turns; nobody sends it any before the switch."""
        machine = await self._deployer.successor(agent_id)
        await self._deployer.prove(agent_id, machine, thinks=False)
        await self._transfer.activate(await self._new(agent_id), await self._books.epoch_of(machine))

    async def settle_in(self, agent_id: int) -> None:
        """The successor holds another state than the agent had: kept at once, and under the name that it has here."""
        machine, agent = await self._deployer.successor(agent_id), await self._books.agent(agent_id)
        seen = (await self._deployer.health(agent, machine)).config_version or 0
        await self._books.outdo(agent_id, seen)
        await self._transfer.save(agent_id, await self._new(agent_id), Reason.UPDATE)

    # --- where it is

    async def prove_in_place(self, agent_id: int) -> None:
        """The machine where it works does; one that came back empty gets the newest snapshot."""
        machine, agent = await self._deployer.machine(agent_id), await self._books.agent(agent_id)
        await self._deployer.prove(agent_id, machine, thinks=False)
        health = await self._deployer.health(agent, machine)
        if health.mode in {protocol.Mode.ACTIVE, None} and (health.epoch or 0) >= machine.epoch:
            return
        door = self._deployer.door(agent, machine)
        if health.mode is protocol.Mode.STANDBY and machine.epoch > (health.epoch or 0):
            log.error(line("machine came back empty", agent=agent_id, machine=machine.id))
            await self._tell_loss(agent_id, machine, await self._transfer.revive(agent_id, door))
        await self._activate_anew(agent_id, machine, door)

    async def go_on(self, agent_id: int) -> None:
        """Undo a sealing: the machine where it works takes turns again."""
        machine, agent = await self._books.machine(agent_id), await self._books.agent(agent_id)
        if machine is None:
            return
        if (await self._deployer.health(agent, machine)).mode is protocol.Mode.SEALED:
            await self._activate_anew(agent_id, machine, self._deployer.door(agent, machine))

    async def put_aside(self, agent_id: int) -> None:
        """Keep for some days what it was before it goes back to something else; it does nothing from here on."""
        until = self._books.now() + KEPT_SECONDS
        if await self._books.machine(agent_id) is None:
            await self._transfer.keep_newest(agent_id, until)
        else:
            await self._put_away(agent_id, Reason.UPDATE, until)

    async def put_away(self, agent_id: int) -> None:
        """Keep all of it in a snapshot that was read again; what it does from here on would be lost, so nothing."""
        await self._put_away(agent_id, Reason.SLEEP, None)

    async def _put_away(self, agent_id: int, reason: Reason, keep_until: float | None) -> None:
        agent, machine = await self._books.agent(agent_id), await self._books.machine(agent_id)
        if machine is None:
            return
        epoch = await self._books.next_epoch(agent_id)
        await self._transfer.put_away(agent_id, self._deployer.door(agent, machine), epoch, reason, keep_until)

    async def keep_last(self, agent_id: int) -> None:
        """Keep what a deleted agent was for some days, as far as its machine still tells."""
        agent, machine = await self._books.agent(agent_id), await self._books.machine(agent_id)
        until = self._books.now() + KEPT_SECONDS
        if machine is not None and machine.url:
            epoch = await self._books.next_epoch(agent_id)
            try:
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    door = self._deployer.door(agent, machine)
                    await self._transfer.put_away(agent_id, door, epoch, Reason.DELETE, until)
            except (BaalError, TimeoutError) as error:
                # It is to be gone, whatever became of its machine or of the store.
                log.warning(line("no last snapshot", agent=agent_id, why=error))
        await self._transfer.keep_until(agent_id, until)

    # --- what is told

    async def told(self, attempt: Attempt, machine: Machine) -> None:
        """The operator hears of a machine that failed and was replaced."""
        if machine.purpose is Purpose.HEAL:
            agent = await self._books.agent(attempt.agent_id)
            facts: dict[str, str | float] = {"name": agent.name, "agent": attempt.agent_id, "machine": machine.id}
            await self._teller.post(f"operator-healed-{machine.id}", OPERATOR, "notice-operator-healed", **facts)

    async def told_failure(self, attempt: Attempt, plan: str, agent: Agent, *, why: str) -> None:
        """Who can do something about it hears once what did not come true."""
        notice_id = f"{plan}-failed-{attempt.agent_id}-{attempt.generation}"
        facts: dict[str, str | float] = {"name": agent.name, "agent": attempt.agent_id, "why": why[:WHY_CHARS]}
        facts["release"] = agent.release
        if plan == "replace":
            await self._teller.post(notice_id, OPERATOR, "notice-operator-update-failed", **facts)
        elif plan in {"recover", "refresh"}:
            await self._teller.post(notice_id, OPERATOR, "notice-operator-heal-failed", **facts)
            await self._teller.post(f"{notice_id}-owner", agent.owner_id, "notice-heal-failed", name=agent.name)

    async def _tell_loss(self, agent_id: int, machine: Machine, snapshot: Snapshot | None) -> None:
        agent, key = await self._books.agent(agent_id), f"healed-{machine.id}-{machine.epoch}"
        minutes = await self._books.minutes_lost(agent_id, snapshot)
        if minutes:
            await self._teller.post(key, agent.owner_id, "notice-healed-lost", name=agent.name, minutes=minutes)
        else:
            await self._teller.post(key, agent.owner_id, "notice-healed", name=agent.name)

    async def _activate_anew(self, agent_id: int, machine: Machine, door: Door) -> None:
        epoch = await self._books.next_epoch(agent_id)
        await self._transfer.activate(door, epoch)
        await self._books.note(machine.id, epoch=epoch)

    async def _old(self, agent_id: int) -> Door:
        return self._deployer.door(await self._books.agent(agent_id), await self._deployer.machine(agent_id))

    async def _new(self, agent_id: int) -> Door:
        return self._deployer.door(await self._books.agent(agent_id), await self._deployer.successor(agent_id))
