"""The agents' clock: call each when it wants to be called, and take in what it has to say."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent import protocol
from bot.chat.alarms import Alarms
from bot.chat.letters import Letters
from bot.chat.route import Route
from bot.errors import AgentError, AgentOffline
from bot.log import line

log = logging.getLogger(__name__)

AT_ONCE = 64
"""Agents that are called at the same time; one that works keeps its call open for some seconds."""
LOOK_SECONDS = 60.0
"""The longest sleep, since clocks jump. No agent is called for it."""
FIRST_PAUSE_SECONDS = 1.0
EMPTY_PAUSE_SECONDS = 10.0
"""The longest pause after a call that brought nothing: the agent's clock is behind ours, or it is still working."""
BROKEN_PAUSE_SECONDS = 1800.0
"""The longest pause after a call that failed."""


@dataclass(slots=True)
class _Pause:
    """How long an agent is left alone whatever its alarm says; not by the wall's clock, which jumps."""

    seconds: float = 0.0
    until: float = 0.0

    def grow(self, longest: float) -> None:
        self.seconds = min(max(FIRST_PAUSE_SECONDS, 2 * self.seconds), longest)
        self.until = time.monotonic() + self.seconds

    def left(self) -> float:
        return self.until - time.monotonic()


class Outboxes:
    """A loop that sleeps until the earliest alarm. What it does not finish is done by the next start.

    A letter is stored before it is acknowledged, and stored once by its number: nothing is lost or taken in twice.
    """

    def __init__(
        self,
        route: Route,
        alarms: Alarms,
        letters: Letters,
        deliver: Callable[[int], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`deliver` hears of chats for which letters are stored; it returns at once."""
        self._route = route
        self._alarms = alarms
        self._letters = letters
        self._deliver = deliver
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._pauses: dict[int, _Pause] = {}
        self._visits: dict[int, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Deliver what was left, and watch the clock."""
        await self._alarms.load()
        unknown = set(await self._route.running()) - self._alarms.all().keys()
        await self._letters.prune()
        for chat_id in await self._letters.waiting():
            self._deliver(chat_id)
        self._tasks = [
            asyncio.create_task(self._watch(), name="outboxes"),
            asyncio.create_task(self._ask(unknown), name="alarms"),
        ]

    async def stop(self) -> None:
        """Leave calls in flight to the next start."""
        tasks = [*self._visits.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, agents: Iterable[int]) -> None:
        """Hear when they are due: they may know of reminders that a database which was brought back does not."""
        await asyncio.gather(*(self._ask_one(agent_id) for agent_id in agents))

    async def _ask_one(self, agent_id: int) -> None:
        try:
            async with self._slots:
                await self._route.is_up(agent_id)
        except AgentError as error:
            # Its next turn will tell.
            log.warning(line("agent not asked", agent=agent_id, why=error))

    async def _watch(self) -> None:
        while True:
            self._alarms.news.clear()
            waits = {agent_id: self._wait(agent_id, at) for agent_id, at in self._alarms.all().items()}
            resting = {agent_id: wait for agent_id, wait in waits.items() if agent_id not in self._visits}
            for agent_id in [each for each, wait in resting.items() if wait <= 0]:
                del resting[agent_id]
                self._visit(agent_id)
            await self._sleep(min([*resting.values(), LOOK_SECONDS]))

    def _wait(self, agent_id: int, at: float) -> float:
        wait, pause = at - self._clock(), self._pauses.get(agent_id)
        return max(wait, pause.left()) if pause else wait

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._alarms.news.wait()
        except TimeoutError:
            return

    def _visit(self, agent_id: int) -> None:
        task = self._visits[agent_id] = asyncio.create_task(self._call(agent_id), name=f"outbox {agent_id}")
        task.add_done_callback(lambda _: self._left(agent_id))

    def _left(self, agent_id: int) -> None:
        del self._visits[agent_id]
        self._alarms.news.set()

    async def _call(self, agent_id: int) -> None:
        pause = self._pauses.setdefault(agent_id, _Pause())
        try:
            brought = await self._take_in(agent_id)
        except AgentError as error:
            log.warning(line("agent not called", agent=agent_id, why=error))
            pause.grow(BROKEN_PAUSE_SECONDS)
        except Exception:
            log.exception(line("outbox broke", agent=agent_id))
            pause.grow(BROKEN_PAUSE_SECONDS)
        else:
            if brought or self._alarms.all().get(agent_id, 0) > self._clock():
                del self._pauses[agent_id]
            else:
                pause.grow(EMPTY_PAUSE_SECONDS)

    async def _take_in(self, agent_id: int) -> int:
        """What it has to say; the number of letters. A sleeping or dead agent is brought back for it."""
        if not await self._route.is_wanted(agent_id):
            await self._alarms.drop(agent_id)
            return 0
        try:
            outbox = await self._tick(agent_id)
        except AgentOffline:
            if not await self._route.is_up(agent_id):
                await self._route.bring_back(agent_id)
            outbox = await self._tick(agent_id)
        for chat_id in await self._letters.keep(agent_id, outbox.letters):
            self._deliver(chat_id)
        if outbox.letters:
            await self._route.acknowledge(agent_id, outbox.letters[-1].id)
        await self._alarms.settle(agent_id, outbox.next_due)
        return len(outbox.letters)

    async def _tick(self, agent_id: int) -> protocol.Outbox:
        async with self._slots:
            self._alarms.begin(agent_id)
            return await self._route.tick(agent_id)
