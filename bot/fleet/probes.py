"""Ask agents that should work how they are, and have those brought back that are not well.

Each is asked once a minute; where there are many, less often: the bot spends no more than a few calls a second on it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import batched

from agent import protocol
from bot.errors import AgentError, AgentOffline
from bot.fleet.books import Books
from bot.fleet.watch import going_on
from bot.log import line
from bot.machines.client import AgentClient, Door
from bot.store.models import Agent, Machine

log = logging.getLogger(__name__)

ROUND_SECONDS = 60.0
CALLS_A_SECOND = 10.0
"""Each costs 2 ms of CPU where a connection has to be made first, which is verified: 2 % of a core."""
AT_ONCE = 50
"""Agents whose rows are read together: to read each by itself costs ten times the call."""
FAILURES = 3
"""In a row; then the agent is restarted, and if that does not help, moved."""
STORM_SECONDS, STORM_SHARE, STORM_AGENTS = 600.0, 0.2, 3
"""Where so large a share of all (and so many) fails within so long, it is the network, and not their machines."""
PATIENCE_SECONDS = 10.0


class Probes:
    """One round after the other over all that should work."""

    def __init__(
        self,
        books: Books,
        client: AgentClient,
        door: Callable[[Agent, Machine], Door],
        lost: Callable[[Agent], Awaitable[object]],
        storm: Callable[[int], Awaitable[object]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`lost` has an agent brought back; `storm` hears how many failed at once, none of which is."""
        self._books = books
        self._client = client
        self._door = door
        self._lost = lost
        self._storm = storm
        self._clock = clock
        self._failures: dict[int, int] = {}
        self._felled: deque[float] = deque()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Rounds until the end of the block."""
        async with going_on("probes", self._ask_for_ever()):
            yield

    async def _ask_for_ever(self) -> None:
        while True:
            begun = self._clock()
            try:
                await self.look()
            except Exception:
                log.exception("probes failed")
            await asyncio.sleep(max(1.0, begun + ROUND_SECONDS - self._clock()))

    async def look(self, *, pause: float = 1 / CALLS_A_SECOND) -> None:
        """Ask each once, so many seconds apart."""
        agents = await self._books.running()
        known = set(agents)
        self._failures = {agent_id: count for agent_id, count in self._failures.items() if agent_id in known}
        for some in batched(agents, AT_ONCE):
            for agent, machine in await self._books.settled(some):
                await self._ask(agent, machine, len(agents))
                await asyncio.sleep(pause)

    async def _ask(self, agent: Agent, machine: Machine, total: int) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                health = await self._client.health(self._door(agent, machine))
            if health.mode not in {None, protocol.Mode.ACTIVE}:
                raise AgentOffline(f"it is {health.mode}, and should be active")
        except (AgentError, TimeoutError) as error:
            if await self._is_as_it_was(agent):
                await self._note_failure(agent, total, str(error) or type(error).__name__)
        else:
            self._failures.pop(agent.id or 0, None)

    async def _is_as_it_was(self, seen: Agent) -> bool:
        # Since its row was read it may have been sealed, and moved.
        return any(agent.epoch == seen.epoch for agent, _ in await self._books.settled([seen.id or 0]))

    async def _note_failure(self, agent: Agent, total: int, why: str) -> None:
        count = self._failures[agent.id or 0] = self._failures.get(agent.id or 0, 0) + 1
        log.warning(line("agent not well", agent=agent.id, failures=count, why=why))
        if count < FAILURES:
            return
        now = self._clock()
        self._felled.append(now)
        while self._felled[0] < now - STORM_SECONDS:
            self._felled.popleft()
        if len(self._felled) > max(STORM_AGENTS, STORM_SHARE * total):
            log.error(line("so many fail that nobody is moved: look at the network", agents=len(self._felled)))
            await self._storm(len(self._felled))
            return
        del self._failures[agent.id or 0]
        await self._lost(agent)
