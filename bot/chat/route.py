"""From an agent to the door it answers at, and what is called there."""

from collections.abc import AsyncIterator

from agent import protocol
from bot.accounts.agents import Agents
from bot.errors import AgentOffline
from bot.fleet.books import Books
from bot.fleet.fleet import Fleet
from bot.machines.client import AgentClient, Door
from bot.store.models import Phase

READY_SECONDS = 300.0
"""How long a message waits for its agent to be brought back."""


class Route:
    """Looked up for each call: machines are replaced."""

    def __init__(self, agents: Agents, books: Books, fleet: Fleet, client: AgentClient) -> None:
        self._agents = agents
        self._books = books
        self._fleet = fleet
        self._client = client

    async def chat(self, agent_id: int, request: protocol.ChatRequest) -> AsyncIterator[protocol.Event]:
        """`AgentClient.chat` of this agent."""
        async for event in self._client.chat(await self._door(agent_id), request):
            yield event

    async def stop(self, agent_id: int, chat_id: str) -> None:
        """`AgentClient.stop` of this agent."""
        await self._client.stop(await self._door(agent_id), chat_id)

    async def forget(self, agent_id: int, chat_id: str) -> None:
        """`AgentClient.forget` of this agent."""
        await self._client.forget(await self._door(agent_id), chat_id)

    async def usage(self, agent_id: int, since: str) -> protocol.Spendings:
        """`AgentClient.usage` of this agent."""
        return await self._client.usage(await self._door(agent_id), since)

    async def is_up(self, agent_id: int) -> bool:
        """It answers its health check, with its secret."""
        try:
            health = await self._client.health(await self._door(agent_id))
        except AgentOffline:
            return False
        return health.status == "ok"

    async def bring_back(self, agent_id: int) -> None:
        """Have it restarted and wait for it; `AgentOffline` if it does not come back."""
        agent = await self._books.agent(agent_id)
        if agent.phase is Phase.RUNNING:
            await self._fleet.lost(agent)
        await self._fleet.wait_ready(agent_id, timeout=READY_SECONDS)

    async def _door(self, agent_id: int) -> Door:
        agent, machine = await self._books.agent(agent_id), await self._books.machine(agent_id)
        if machine is None or machine.url is None:
            raise AgentOffline("it has no machine")
        return Door(url=machine.url, secret=self._agents.secret(agent))
