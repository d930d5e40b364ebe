"""Bring what owners change to their running agents, without a restart. The row counts; this only makes it come sooner.

An agent that does not answer now gets it with the next sweep, or with its next start, by its environment.
"""

import asyncio
import logging

from agent import protocol
from bot.accounts.agents import Agents
from bot.accounts.libertai import LibertAI
from bot.accounts.tools import ToolPolicy
from bot.errors import AgentError, AgentRefused
from bot.fleet.books import Books
from bot.log import line
from bot.machines.client import AgentClient, Door
from bot.store.models import Agent

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
STALE, UNKNOWN = "stale_config", "not_found"


class Configurer:
    """Compares versions: what is wanted with what the agent has confirmed."""

    def __init__(
        self, books: Books, agents: Agents, client: AgentClient, libertai: LibertAI, tools: ToolPolicy
    ) -> None:
        self._books = books
        self._agents = agents
        self._client = client
        self._libertai = libertai
        self._tools = tools

    async def sweep(self) -> None:
        """Bring it to all who have not confirmed it."""
        for agent_id in await self._books.unconfigured():
            await self.bring(agent_id)

    async def bring(self, agent_id: int) -> bool:
        """Bring it to one agent; False if it has to wait. Again is harmless."""
        machine = await self._books.machine(agent_id)
        if machine is None or machine.url is None:
            return False
        # The version first: the row is then at least as new, and what is newer has a version of its own to come.
        version, agent = await self._books.config_version(agent_id), await self._books.agent(agent_id)
        door = Door.of(machine, self._agents.secret(agent))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._put(agent, door, version)
        except (AgentError, TimeoutError) as error:
            log.warning(line("agent not configured yet", agent=agent_id, why=error))
            return False
        return True

    async def _put(self, agent: Agent, door: Door, version: int) -> None:
        config = await self._config(agent, version)
        try:
            await self._client.configure(door, config)
        except AgentRefused as refusal:
            if refusal.kind == STALE:
                # Our books were restored from a copy: go on above what the agent has seen.
                seen = (await self._client.health(door)).config_version or 0
                await self._books.outdo(agent.id or 0, seen)
                raise
            if refusal.kind != UNKNOWN:
                raise
            # An agent of the version before: only a start tells it.
            await self._books.lost(agent.id or 0, agent.generation)
        await self._books.configured(agent.id or 0, config.version)
        log.info(line("agent configured", agent=agent.id, version=config.version))

    async def _config(self, agent: Agent, version: int) -> protocol.Config:
        model = await self._libertai.resolve(agent.model)
        return protocol.Config(
            version=version,
            name=agent.name,
            job=agent.job,
            model=model,
            # As a start would say it: what the one model can do, the other may not.
            tools=await self._tools.decide(model),
            vision=await self._libertai.can_see(model) or False,
        )
