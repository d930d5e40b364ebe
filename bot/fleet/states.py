"""An agent's whole state for its owner: out as an archive, and another one put in its place."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from bot.accounts.agents import Agents
from bot.errors import AgentHeld, AgentOffline, AgentRefused, SnapshotBroken, SnapshotError
from bot.fleet.books import Books
from bot.fleet.fleet import Fleet
from bot.fleet.snapshots import Snapshots
from bot.machines.client import AgentClient, Door
from bot.store.models import Agent, Phase, Wanted
from bot.store.records import Reason

READY_SECONDS = 1_200.0
KEPT_SECONDS = 7 * 86_400.0


class States:
    """Implements `bot.telegram.parcels.States`."""

    def __init__(self, books: Books, agents: Agents, fleet: Fleet, client: AgentClient, snapshots: Snapshots) -> None:
        self._books = books
        self._agents = agents
        self._fleet = fleet
        self._client = client
        self._snapshots = snapshots

    async def archive(self, agent_id: int) -> AsyncGenerator[bytes]:
        """All that it is now; of one that has no machine, its newest snapshot. `AgentError` if it cannot be had."""
        machine = await self._books.machine(agent_id)
        if machine is not None:
            door = Door.of(machine, self._agents.secret(await self._books.agent(agent_id)))
            source = self._client.snapshot(door)
        elif newest := await self._snapshots.newest(agent_id):
            source = self._snapshots.read(newest)
        else:
            raise AgentOffline("it has no machine, and no snapshot")
        async with aclosing(source) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            except SnapshotError as error:
                raise AgentOffline(f"its snapshot cannot be read: {error}") from error

    async def restore(self, agent_id: int, pieces: AsyncIterator[bytes]) -> None:
        """Put this in place of what it is, which is kept as a snapshot for seven days; returns when that is done.

        The way is that of falling asleep and waking, with another memory put underneath. `AgentError` if it cannot
        be: then it goes on as it was. A second time is harmless.
        """
        if not await self._is_idle(agent_id):
            raise AgentHeld("it is in the middle of something; ask again")
        await self._asleep(agent_id)
        await self._snapshots.keep_until(agent_id, self._books.now() + KEPT_SECONDS)
        try:
            imported = await self._snapshots.save(agent_id, Reason.IMPORT, pieces)
        except SnapshotBroken as error:
            await self._awake(agent_id)
            raise AgentRefused("bad_snapshot", str(error)) from error
        except SnapshotError as error:
            await self._awake(agent_id)
            raise AgentOffline(f"it cannot be kept: {error}") from error
        try:
            await self._awake(agent_id)
        except AgentOffline:
            # It does not start with that: with what it had, it does.
            await self._snapshots.drop(imported)
            await self._awake(agent_id)
            raise

    async def _is_idle(self, agent_id: int) -> bool:
        agent = await self._books.agent(agent_id)
        is_settled = agent.observed_generation == agent.generation
        return is_settled and agent.phase in {Phase.RUNNING, Phase.ASLEEP, Phase.FAILED}

    async def _asleep(self, agent_id: int) -> None:
        await self._fleet.wish(agent_id, wanted=Wanted.ASLEEP)
        agent = await self._fleet.wait_settled(agent_id, timeout=READY_SECONDS)
        if agent.phase is not Phase.ASLEEP:
            raise AgentOffline(f"it could not be put away, and is {agent.phase}")

    async def _awake(self, agent_id: int) -> None:
        if not await self._fleet.wish(agent_id, wanted=Wanted.ON):
            await self._try_again(await self._books.agent(agent_id))
        await self._fleet.wait_ready(agent_id, timeout=READY_SECONDS)

    async def _try_again(self, agent: Agent) -> None:
        if agent.phase is Phase.FAILED:
            await self._fleet.lost(agent)
