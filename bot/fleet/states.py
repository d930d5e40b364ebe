"""An agent's whole state for its owner: out as an archive, and another one put in its place."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from bot.accounts.agents import Agents
from bot.errors import AgentHeld, AgentOffline, AgentRefused, SnapshotBroken, SnapshotError
from bot.fleet.books import Books
from bot.fleet.fleet import Fleet
from bot.fleet.snapshots import Snapshots
from bot.machines.client import AgentClient, Door
from bot.store.models import Phase, Wanted
from bot.store.records import Reason

SETTLED_SECONDS = 2_400.0


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

        `AgentError` if it cannot be: then it goes on as it was. A second time is harmless.
        """
        agent = await self._books.agent(agent_id)
        is_settled = agent.observed_generation == agent.generation
        if not is_settled or agent.phase not in {Phase.RUNNING, Phase.ASLEEP, Phase.FAILED}:
            raise AgentHeld("it is in the middle of something; ask again")
        try:
            imported = await self._snapshots.save(agent_id, Reason.IMPORT, pieces)
        except SnapshotBroken as error:
            raise AgentRefused("bad_snapshot", str(error)) from error
        except SnapshotError as error:
            raise AgentOffline(f"it cannot be kept: {error}") from error
        await self._fleet.wish(agent_id, wanted=Wanted.ON, restore=imported.id)
        after = await self._fleet.wait_settled(agent_id, timeout=SETTLED_SECONDS)
        if after.error:
            raise AgentRefused("not_restored", f"it did not start with that: {after.error}")
        await self._fleet.configure(agent_id)
