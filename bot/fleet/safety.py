"""Bring what agents have to safety: a snapshot of those in which something changed, each in its own minute."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlmodel import col, select

from bot.accounts.agents import Agents
from bot.fleet.books import Books
from bot.fleet.shelf import PAGE
from bot.fleet.snapshots import Snapshots
from bot.log import line
from bot.machines.client import AgentClient, Door
from bot.store.database import Database
from bot.store.models import Agent, Letter, Machine, Phase, Turn, TurnState, Wanted, is_one_of
from bot.store.records import Reason, Snapshot, SnapshotState

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
"""Between two looks; also how much later than it began a turn is taken to have changed something."""
AT_ONCE = 2
"""Snapshots at the same time: each one takes a core and the line of the bot's host."""
AGAIN_SECONDS = 300.0
"""After one that failed."""
SWEEP_SECONDS = 3_600.0
_SWEEP = 0
"""No agent has that number."""
SPREAD = 0.6180339887498949
"""Golden ratio: multiples of it lie evenly between whole numbers, however many there are."""


@dataclass(frozen=True, slots=True)
class Activity:
    """Since when an agent has a snapshot (Unix time), and when something last happened in it. 0: never."""

    kept: float
    changed: float


class Safety:
    """Level-triggered by the rows; agents hear of it only when there is something to take.

    What an agent has changes in turns and when it does what is due, which shows in its letters.
    """

    def __init__(
        self,
        database: Database,
        snapshots: Snapshots,
        books: Books,
        agents: Agents,
        client: AgentClient,
        *,
        minutes: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`minutes` between snapshots of an agent that changes; 0: none but those that `take` is asked for."""
        self._database = database
        self._snapshots = snapshots
        self._books = books
        self._agents = agents
        self._client = client
        self._interval = minutes * 60
        self._clock = clock
        self._looked = clock()
        self._swept = 0.0
        self._busy: dict[int, float] = {}
        self._again: dict[int, float] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def take(self, agent: Agent, machine: Machine, reason: Reason) -> Snapshot:
        """Take a snapshot of an agent on one of its machines now. `AgentError` or `SnapshotError` if there is none."""
        door = Door.of(machine, self._agents.secret(agent))
        return await self._snapshots.save(agent.id or 0, reason, self._client.snapshot(door))

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Take what is due, and drop what nobody needs, until the end of the block."""
        watching = asyncio.create_task(self.watch(), name="safety")
        try:
            yield
        finally:
            running = [watching, *self._tasks.values()]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def watch(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Exception:
                log.exception("snapshots not looked after")

    async def look(self) -> None:
        """Begin to take what fell due since the last look; once an hour drop what nobody needs."""
        now, before = self._clock(), self._looked
        # Noticed now, since nothing tells later when a turn ended.
        self._busy |= dict.fromkeys(await self._in_turns(), now)
        if self._interval:
            due = [agent_id for agent_id in await self._settled() if self._is_due(agent_id, before, now)]
            for agent_id in await self._changed(due):
                self._begin(agent_id, self._try(agent_id))
        if now - self._swept >= SWEEP_SECONDS:
            self._swept = now
            self._begin(_SWEEP, self._snapshots.sweep())
        self._looked = now

    async def finish(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._tasks.values())

    def _begin(self, name: int, work: Coroutine[Any, Any, None]) -> None:
        """Beside the looks, which have to come every minute; what is under way already is not begun again."""
        if name in self._tasks:
            work.close()
            return
        task = asyncio.create_task(self._guarded(name, work), name=f"safety {name}")
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name))

    async def _guarded(self, name: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  a task's top: tried again
            what = "snapshots not swept" if name == _SWEEP else "snapshot not taken"
            log.warning(line(what, agent=name, why=error))
            self._again[name] = self._clock() + AGAIN_SECONDS
        else:
            self._again.pop(name, None)

    def _is_due(self, agent_id: int, before: float, now: float) -> bool:
        # Each at its own moment of the interval, which a restart does not move: they never come all at once.
        moment = (agent_id * SPREAD % 1.0) * self._interval
        has_come = (now - moment) // self._interval > (before - moment) // self._interval
        return has_come or self._again.get(agent_id, now) < now

    async def _try(self, agent_id: int) -> None:
        async with self._slots:
            agent, machine = await self._books.agent(agent_id), await self._books.machine(agent_id)
            # It may have begun to move while it waited here; then whoever moves it takes one.
            if machine is not None and _is_settled(agent):
                await self.take(agent, machine, Reason.SCHEDULE)

    async def _settled(self) -> list[int]:
        async with self._database.session() as session:
            query = select(col(Agent.id)).where(
                col(Agent.phase) == Phase.RUNNING,
                col(Agent.wanted) == Wanted.ON,
                col(Agent.observed_generation) == col(Agent.generation),
            )
            return [agent_id or 0 for agent_id in await session.exec(query)]

    async def _in_turns(self) -> set[int]:
        async with self._database.session() as session:
            is_open = is_one_of(col(Turn.state), TurnState.QUEUED, TurnState.RUNNING)
            return set(await session.exec(select(col(Turn.agent_id)).where(is_open)))

    async def _changed(self, agent_ids: list[int]) -> list[int]:
        """Those of them in which something happened since their newest snapshot."""
        changed: list[int] = []
        for start in range(0, len(agent_ids), PAGE):
            activities = await self._activities(agent_ids[start : start + PAGE])
            changed += [agent_id for agent_id, each in activities.items() if each.changed > each.kept]
        return changed

    async def _activities(self, agent_ids: Collection[int]) -> dict[int, Activity]:
        kept = await self._latest(
            col(Snapshot.agent_id), col(Snapshot.created_at), agent_ids, col(Snapshot.state) == SnapshotState.WHOLE
        )
        turns = await self._latest(col(Turn.agent_id), col(Turn.created_at), agent_ids)
        letters = await self._latest(col(Letter.agent_id), col(Letter.received_at), agent_ids)
        return {
            agent_id: Activity(
                kept.get(agent_id, 0.0),
                max(
                    turns[agent_id] + LOOK_SECONDS if agent_id in turns else 0.0,
                    letters.get(agent_id, 0.0),
                    self._busy.get(agent_id, 0.0),
                ),
            )
            for agent_id in agent_ids
        }

    async def _latest(self, owner: Any, at: Any, agent_ids: Collection[int], *conditions: Any) -> dict[int, float]:
        async with self._database.session() as session:
            query = select(owner, func.max(at)).where(owner.in_(agent_ids), *conditions).group_by(owner)
            return dict((await session.exec(query)).all())


def _is_settled(agent: Agent) -> bool:
    is_moving = agent.observed_generation != agent.generation
    return agent.phase is Phase.RUNNING and agent.wanted is Wanted.ON and not is_moving
