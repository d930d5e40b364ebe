"""Ask agents that were updated how they are."""

import asyncio
from typing import Protocol

from pydantic import SecretStr

from agent.protocol import Health
from bot.errors import AgentError, AgentOffline
from bot.machines.client import Door
from bot.store.models import Agent, Machine

TRIES = 3
PAUSE_SECONDS = 1.0


class Books(Protocol):
    """Where agents are."""

    async def agent(self, agent_id: int) -> Agent:
        """Its row."""

    async def machine(self, agent_id: int) -> Machine | None:
        """Where it works."""


class Client(Protocol):
    """Speaks with agents; each call raises an `AgentError`."""

    async def health(self, door: Door) -> Health:
        """Its own report."""

    async def probe(self, door: Door) -> None:
        """It asks its model for a word."""


class Secrets(Protocol):
    """Opens what is sealed in an agent's row."""

    def secret(self, agent: Agent) -> SecretStr:
        """What bot and agent share."""


class AgentProbes:
    """The port `Probes`, by the agents' own HTTP doors."""

    def __init__(self, books: Books, agents: Secrets, client: Client, *, pause: float = PAUSE_SECONDS) -> None:
        """`pause`: seconds between two tries."""
        self._books = books
        self._agents = agents
        self._client = client
        self._pause = pause

    async def health(self, agent_id: int) -> bool:
        """Whether it answers, within three tries, with the release that it shall run."""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(self._pause)
            if await self._is_well(agent_id):
                return True
        return False

    async def probe(self, agent_id: int) -> None:
        """Have it ask its model for a word; an `AgentError` says why that fails."""
        await self._client.probe(await self._door(await self._books.agent(agent_id)))

    async def _is_well(self, agent_id: int) -> bool:
        agent = await self._books.agent(agent_id)
        try:
            health = await self._client.health(await self._door(agent))
        except AgentError:
            return False
        return health.release == agent.release and health.model is not None

    async def _door(self, agent: Agent) -> Door:
        machine = await self._books.machine(agent.id or 0)
        if machine is None or machine.url is None:
            raise AgentOffline("it has no machine")
        return Door.of(machine, self._agents.secret(agent))
