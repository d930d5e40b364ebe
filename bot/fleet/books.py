"""What the fleet writes down: wishes, phases, leases, attempts. Each change is one short transaction."""

import math
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Update, func, or_, update
from sqlmodel import col, select

from bot.fleet.durable import Attempt
from bot.fleet.machine_rows import LEASE_SECONDS, MachineRows, coming, dooming
from bot.fleet.shelf import answered
from bot.store.database import Database
from bot.store.models import (
    SERVING,
    Agent,
    Configuration,
    Machine,
    MachineState,
    Phase,
    Wanted,
)
from bot.store.records import Snapshot

MAX_ATTEMPTS = 3
BACKOFF_SECONDS = 5.0
MOST_DOUBLINGS = 6
UNHEARD = -1
"""No version of a configuration."""


class Books(MachineRows):
    """Rows of `agent`: wishes, and the observed side; with the rows of its machines."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def now(self) -> float:
        """Unix time."""
        return self._clock()

    async def agent(self, agent_id: int) -> Agent:
        """The agent; it must exist."""
        async with self._database.session() as session:
            return await session.get_one(Agent, agent_id)

    async def due(self) -> list[Agent]:
        """Agents that are not as wanted, and may be worked on now."""
        now = self._clock()
        async with self._database.session() as session:
            query = select(Agent).where(
                col(Agent.observed_generation) != col(Agent.generation),
                # What is put off for longer than anything is was put off when the clock was ahead.
                or_(col(Agent.next_at) <= now, col(Agent.next_at) > now + BACKOFF_SECONDS * 2**MOST_DOUBLINGS),
            )
            return list(await session.exec(query))

    async def running(self) -> list[int]:
        """Agents that run and are to go on."""
        async with self._database.session() as session:
            query = select(col(Agent.id)).where(col(Agent.phase).in_(SERVING), col(Agent.wanted) == Wanted.ON)
            return [agent_id or 0 for agent_id in await session.exec(query)]

    async def wish(
        self, agent_id: int, *, release: str | None = None, wanted: Wanted | None = None, restore: str | None = None
    ) -> bool:
        """Want it to run another release, to be on or asleep, to go back to a snapshot (its id).

        False if that is wanted already, or the agent is deleted.
        """
        async with self._database.transaction() as transaction:
            values: dict[str, Any] = {"generation": col(Agent.generation) + 1, "attempt": 1, "next_at": 0.0}
            differs = []
            if release is not None:
                values["release"] = release
                differs.append(col(Agent.release) != release)
            if wanted is not None:
                values["wanted"] = wanted
                differs.append(col(Agent.wanted) != wanted)
            if restore is not None:
                values["restore_id"] = restore
                differs.append(col(Agent.restore_id).is_distinct_from(restore))
            change = update(Agent).where(col(Agent.id) == agent_id, col(Agent.wanted) != Wanted.DELETED, or_(*differs))
            return bool((await transaction.execute(change.values(**values))).rowcount)

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
            or_(col(Agent.lease_owner) == attempt.id, self._is_free()),
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
        """Write down that the wish has come true. A successor that was begun for an earlier one shall end.

        Left there, it would be taken for that of a later wish, with what the agent was before this one.
        """
        async with self._database.transaction() as transaction:
            if not (await transaction.execute(self._changing(attempt, **self._fulfilled(attempt, phase)))).rowcount:
                return False
            await transaction.execute(dooming(*coming(attempt.agent_id)))
        return True

    async def switch(self, attempt: Attempt, machine: Machine) -> bool:
        """From now on it works on this machine, and its wish has come true; where it worked before, that shall end.

        One transaction: whoever looks sees the one or the other. False, and nothing changed, if a newer wish is there.
        """
        async with self._database.transaction() as transaction:
            was = await transaction.scalar(select(col(Agent.machine_id)).where(col(Agent.id) == attempt.agent_id))
            facts = self._fulfilled(attempt, Phase.RUNNING) | {"machine_id": machine.id, "restore_id": None}
            if not (await transaction.execute(self._changing(attempt, **facts))).rowcount:
                return False
            now = update(Machine).where(col(Machine.id) == machine.id).values(state=MachineState.ACTIVE)
            await transaction.execute(now)
            await transaction.execute(dooming(*coming(attempt.agent_id)))
            if was and was != machine.id:
                await transaction.execute(dooming(col(Machine.id) == was))
            # What was changed of it since this machine was started, it hears from the sweep.
            unheard = update(Configuration).where(col(Configuration.agent_id) == attempt.agent_id)
            await transaction.execute(unheard.values(observed_version=UNHEARD))
        return True

    async def fall_asleep(self, attempt: Attempt) -> bool:
        """It is kept as a snapshot now, and its machine shall end. False, and nothing changed, if it is wanted."""
        async with self._database.transaction() as transaction:
            was = await transaction.scalar(select(col(Agent.machine_id)).where(col(Agent.id) == attempt.agent_id))
            facts = self._fulfilled(attempt, Phase.ASLEEP) | {"machine_id": None}
            if not (await transaction.execute(self._changing(attempt, **facts))).rowcount:
                return False
            await transaction.execute(dooming(*coming(attempt.agent_id)))
            if was:
                await transaction.execute(dooming(col(Machine.id) == was))
        return True

    def _fulfilled(self, attempt: Attempt, phase: Phase) -> dict[str, Any]:
        facts: dict[str, Any] = {"phase": phase, "observed_generation": attempt.generation}
        if phase is Phase.RUNNING:
            facts["ready_at"] = func.coalesce(col(Agent.ready_at), self._clock())
        return facts | {"error": None, "error_code": None, "next_at": 0.0}

    async def fail(
        self,
        attempt: Attempt,
        *,
        error: str,
        code: str,
        forever: bool,
        at_once: bool = False,
        instead: dict[str, Any] | None = None,
    ) -> bool:
        """Write down why an attempt failed: the next comes later (after 5, 10, 20 … s), or none does.

        Then the agent has failed, or is what `instead` says. True if it was the last attempt, which it is `at_once`,
        or after some, or never (`forever`).
        """
        is_last = at_once or (not forever and attempt.number >= MAX_ATTEMPTS)
        if is_last:
            later = {"phase": Phase.FAILED, "observed_generation": attempt.generation} | (instead or {})
        else:
            delay = BACKOFF_SECONDS * 2 ** min(attempt.number - 1, MOST_DOUBLINGS)
            later = {"attempt": attempt.number + 1, "next_at": self._clock() + delay}
        return await self._change(attempt, error=error, error_code=code, **later) and is_last

    async def minutes_lost(self, agent_id: int, snapshot: Snapshot | None) -> int:
        """Of how many minutes an agent that goes on from this snapshot may have forgotten something; 0: of none.

        Whether anything, is counted: the clock may have been set meanwhile, and chats overtake each other.
        """
        async with self._database.session() as session:
            if await session.scalar(answered(agent_id)) == (snapshot.answered if snapshot else 0):
                return 0
        since = snapshot.created_at if snapshot else (await self.agent(agent_id)).created_at
        return max(1, math.ceil((self._clock() - since) / 60))

    async def skip(self, attempt: Attempt) -> None:
        """Its workflow ended without a word in the row: the next attempt may begin."""
        await self._change(attempt, attempt=attempt.number + 1)

    async def lost(self, agent_id: int, generation: int) -> None:
        """It does not answer, or has failed: wish it again, once however many noticed."""
        async with self._database.transaction() as transaction:
            change = update(Agent).where(
                col(Agent.id) == agent_id,
                col(Agent.generation) == generation,
                col(Agent.observed_generation) == generation,
                col(Agent.wanted) == Wanted.ON,
            )
            fresh = {"generation": generation + 1, "attempt": 1, "next_at": 0.0, "phase": Phase.WAITING}
            await transaction.execute(change.values(**fresh))

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
            return list(await session.exec(query.where(differs, col(Agent.phase).in_(SERVING))))

    async def configured(self, agent_id: int, version: int) -> None:
        """The agent has confirmed this version."""
        await self._configuration(agent_id, observed_version=version)

    async def outdo(self, agent_id: int, seen: int) -> None:
        """Make the wanted version higher than what the agent has seen."""
        async with self._database.transaction() as transaction:
            await transaction.execute(self._database.insert_new(Configuration, {"agent_id": agent_id}))
            change = update(Configuration).where(
                col(Configuration.agent_id) == agent_id, col(Configuration.version) <= seen
            )
            await transaction.execute(change.values(version=seen + 1, observed_version=UNHEARD))

    async def _configuration(self, agent_id: int, **values: int) -> None:
        async with self._database.transaction() as transaction:
            change = update(Configuration).where(col(Configuration.agent_id) == agent_id)
            await transaction.execute(change.values(**values))

    async def _change(self, tried: Attempt, /, *conditions: Any, **values: Any) -> bool:
        async with self._database.transaction() as transaction:
            return bool((await transaction.execute(self._changing(tried, *conditions, **values))).rowcount)

    def _changing(self, tried: Attempt, /, *conditions: Any, **values: Any) -> Update:
        change = update(Agent).where(
            col(Agent.id) == tried.agent_id,
            col(Agent.generation) == tried.generation,
            col(Agent.attempt) == tried.number,
            # After a crash a workflow may be run again whose wish came true in its last moment.
            col(Agent.observed_generation) != tried.generation,
            *conditions,
        )
        return change.values(**values)
