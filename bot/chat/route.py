"""From an agent to the door it answers at, and what is called there."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from agent import protocol
from bot.accounts.agents import Agents
from bot.chat.alarms import Alarms
from bot.errors import AgentOffline
from bot.fleet.books import Books
from bot.fleet.fleet import Fleet
from bot.machines.client import AgentClient, Door, Upload
from bot.store.models import Phase, Wanted

READY_SECONDS = 1_200.0
"""How long a message waits for its agent to be brought back: on Aleph, a machine takes minutes."""
MOVED_POLL_SECONDS = 0.1


class Route:
    """Looked up for each call: machines are replaced."""

    def __init__(self, agents: Agents, books: Books, fleet: Fleet, client: AgentClient, alarms: Alarms) -> None:
        self._agents = agents
        self._books = books
        self._fleet = fleet
        self._client = client
        self._alarms = alarms

    async def chat(self, agent_id: int, request: protocol.ChatRequest) -> AsyncGenerator[protocol.Event]:
        """`AgentClient.chat` of this agent."""
        async with aclosing(self._client.chat(await self._door(agent_id), request)) as events:
            async for event in events:
                if isinstance(event, protocol.Done):
                    await self._note(agent_id, event.next_due)
                yield event

    async def tick(self, agent_id: int) -> protocol.Outbox:
        """`AgentClient.tick` of this agent."""
        return await self._client.tick(await self._door(agent_id))

    async def acknowledge(self, agent_id: int, up_to: int) -> None:
        """`AgentClient.acknowledge` of this agent."""
        await self._client.acknowledge(await self._door(agent_id), up_to)

    async def stop(self, agent_id: int, chat_id: str) -> None:
        """`AgentClient.stop` of this agent."""
        await self._client.stop(await self._door(agent_id), chat_id)

    async def forget(self, agent_id: int, chat_id: str) -> None:
        """`AgentClient.forget` of this agent."""
        await self._client.forget(await self._door(agent_id), chat_id)

    async def put_file(
        self, agent_id: int, chat_id: str, file: Upload, content: AsyncIterable[bytes]
    ) -> protocol.Attachment:
        """`AgentClient.put_file` of this agent."""
        return await self._client.put_file(await self._door(agent_id), chat_id, file, content)

    @asynccontextmanager
    async def get_file(self, agent_id: int, chat_id: str, file_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """`AgentClient.get_file` of this agent."""
        async with self._client.get_file(await self._door(agent_id), chat_id, file_id) as content:
            yield content

    async def usage(self, agent_id: int, since: str) -> protocol.Spendings:
        """`AgentClient.usage` of this agent."""
        return await self._client.usage(await self._door(agent_id), since)

    async def is_up(self, agent_id: int) -> bool:
        """It answers its health check, with its secret. When it wants to be called is noted."""
        try:
            health = await self._client.health(await self._door(agent_id))
        except AgentOffline:
            return False
        await self._note(agent_id, health.next_due)
        return health.status == "ok"

    async def running(self) -> list[int]:
        """Agents that should answer."""
        return await self._books.running()

    async def is_wanted(self, agent_id: int) -> bool:
        """It is not deleted."""
        return (await self._books.agent(agent_id)).wanted is not Wanted.DELETED

    async def bring_back(self, agent_id: int) -> None:
        """Have it woken, or restarted, and wait for it; `AgentOffline` if it does not come back."""
        agent = await self._books.agent(agent_id)
        if agent.wanted is Wanted.ASLEEP:
            await self._fleet.wish(agent_id, wanted=Wanted.ON)
        elif agent.phase is Phase.RUNNING or (agent.phase is Phase.FAILED and agent.ready_at):
            await self._fleet.lost(agent)
        await self._fleet.wait_ready(agent_id, timeout=READY_SECONDS)

    async def is_asleep(self, agent_id: int) -> bool:
        """It is asleep, on its way there, or was just woken."""
        agent = await self._books.agent(agent_id)
        return agent.wanted is Wanted.ASLEEP or agent.phase is Phase.ASLEEP

    async def until_moved(self, agent_id: int, *, timeout: float) -> None:
        """Wait until turns go to another machine, or the one where it works was told anew; at most so many seconds."""
        before, deadline = await self._place(agent_id), time.monotonic() + timeout
        while before == await self._place(agent_id) and time.monotonic() < deadline:  # noqa: ASYNC110  rows
            await asyncio.sleep(MOVED_POLL_SECONDS)

    async def _place(self, agent_id: int) -> tuple[str | None, int, int]:
        agent = await self._books.agent(agent_id)
        return agent.machine_id, agent.epoch, agent.observed_generation

    async def _note(self, agent_id: int, next_due: float | None) -> None:
        if next_due is not None:
            await self._alarms.tell(agent_id, next_due)

    async def _door(self, agent_id: int) -> Door:
        agent, machine = await self._books.agent(agent_id), await self._books.machine(agent_id)
        if machine is None or machine.url is None:
            raise AgentOffline("it has no machine")
        return Door.of(machine, self._agents.secret(agent))
