"""How an agent is where it works, asked by those who decide about others by it."""

import asyncio
from collections.abc import Callable

from agent import protocol
from bot.errors import AgentError, AgentOffline
from bot.fleet.books import Books
from bot.machines.client import AgentClient, Door
from bot.store.models import Agent, Machine

TRIES, PAUSE_SECONDS, PATIENCE_SECONDS = 3, 1.0, 10.0


class Checkup:
    """Implements `bot.fleet.rollout.ports.Probes`."""

    def __init__(self, books: Books, client: AgentClient, door: Callable[[Agent, Machine], Door]) -> None:
        self._books = books
        self._client = client
        self._door = door

    async def health(self, agent_id: int) -> bool:
        """It answers as itself, with the release that its machine was started with, and takes turns."""
        for tries_left in reversed(range(TRIES)):
            if await self._is_well(agent_id):
                return True
            if tries_left:
                await asyncio.sleep(PAUSE_SECONDS)
        return False

    async def probe(self, agent_id: int) -> None:
        """Have it ask its model for a word; `AgentError` says why that fails."""
        machine = await self._books.machine(agent_id)
        if machine is None:
            raise AgentOffline("it has no machine")
        await self._client.probe(self._door(await self._books.agent(agent_id), machine))

    async def _is_well(self, agent_id: int) -> bool:
        agent, machine = await self._books.agent(agent_id), await self._books.machine(agent_id)
        if machine is None:
            return False
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                health = await self._client.health(self._door(agent, machine))
        except (AgentError, TimeoutError):
            return False
        return health.release == machine.release and health.mode in {None, protocol.Mode.ACTIVE}
