"""Bring what an agent is from one machine to the next, so that nothing of it is lost and nothing is done twice.

At every moment at most one copy takes turns. The old one is sealed with an epoch that was never used before, what it
then holds is brought to the new one and compared, and only then the new one is activated. The rows say which of the two
is asked; between seal and switch messages wait.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

from agent import protocol
from bot.errors import AgentBusy, AgentError, AgentHeld, AgentRefused, NotHandedOver
from bot.log import line
from bot.machines.client import AgentClient, Door
from bot.store.records import Reason, Snapshot

log = logging.getLogger(__name__)

CALM_SECONDS = 60.0
"""So long a moment is waited for in which no turn runs."""
CALM_POLL_SECONDS = 0.2
SEAL_SECONDS = (2.0, 30.0, 120.0)
"""How long turns may go on once no new ones are taken: at first in a calm moment, then also in others."""
RESCUE_SECONDS = 60.0
"""Patience with a machine that is to be left because it did not answer."""


class Safe(Protocol):
    """Where snapshots are kept: `bot.fleet.snapshots.Snapshots`."""

    async def save(
        self, agent_id: int, reason: Reason, pieces: AsyncIterator[bytes], *, keep_until: float | None = None
    ) -> Snapshot:
        """Keep this archive."""

    def read(self, snapshot: Snapshot) -> AsyncIterator[bytes]:
        """The archive."""

    async def verify(self, snapshot: Snapshot) -> protocol.Manifest:
        """Read all of it, and compare; what it holds."""

    async def newest(self, agent_id: int) -> Snapshot | None:
        """The newest whole one of what the agent was."""

    async def get(self, snapshot_id: str) -> Snapshot:
        """This one; `SnapshotBroken` if it is not there, or not whole."""

    async def keep_until(self, agent_id: int, at: float) -> None:
        """Keep those of an agent that is deleted until then (Unix time)."""

    async def keep_newest(self, agent_id: int, at: float) -> None:
        """Keep the newest of an agent until then (Unix time), if there is one."""


class Transfer:
    """Between two doors, and the store of snapshots."""

    def __init__(self, client: AgentClient, safe: Safe, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._safe = safe
        self._clock = clock

    async def save(self, agent_id: int, door: Door, reason: Reason, *, keep_until: float | None = None) -> Snapshot:
        """Keep what the agent is now."""
        async with aclosing(self._client.snapshot(door)) as pieces:
            return await self._safe.save(agent_id, reason, pieces, keep_until=keep_until)

    async def restore(self, snapshot: Snapshot, door: Door) -> protocol.Manifest:
        """Make the agent at that door, which stands by, what the snapshot holds."""
        return await self._client.restore(door, self._safe.read(snapshot))

    async def bring_ahead(self, agent_id: int, old: Door, new: Door) -> None:
        """Most of it, while the old one works on; what is brought is kept as a snapshot too."""
        await self._require_state(old)
        if await self._stands_by(new):
            await self.restore(await self.save(agent_id, old, Reason.UPDATE), new)

    async def hand_over(self, agent_id: int, old: Door, new: Door, epoch: int) -> None:
        """The old one stops, the new one goes on. Again, after a crash in the middle, is harmless."""
        if await self._works(new, epoch):
            return
        begun = self._clock()
        sealed = await self.seal(old, epoch)
        await self._bring_rest(agent_id, old, new, sealed)
        await self._client.activate(new, epoch)
        log.info(line("agent handed over", agent=agent_id, seconds=round(self._clock() - begun, 3)))

    async def rescue(self, agent_id: int, old: Door, new: Door, epoch: int) -> Snapshot | None:
        """Like `hand_over`, from a machine that may be dead: then from the newest snapshot, which is returned."""
        if await self._stands_by(new):
            try:
                async with asyncio.timeout(RESCUE_SECONDS):
                    await self._require_state(old)
                    sealed = await self._client.seal(old, epoch, SEAL_SECONDS[0])
                    await self._bring(old, new, sealed)
            except (AgentError, TimeoutError) as error:
                log.warning(line("old machine not reached: its newest snapshot is used", agent=agent_id, why=error))
                return await self.revive(agent_id, new)
        return None

    async def revive(self, agent_id: int, new: Door, snapshot_id: str | None = None) -> Snapshot | None:
        """Make the agent at that door, if it stands by, what this snapshot holds.

        Without an id it is the newest; None if there is none.
        """
        snapshot = await (self._safe.get(snapshot_id) if snapshot_id else self._safe.newest(agent_id))
        if snapshot and await self._stands_by(new):
            await self.restore(snapshot, new)
        return snapshot

    async def put_away(self, agent_id: int, door: Door, epoch: int, reason: Reason, keep_until: float | None) -> None:
        """Seal it and keep what it holds, read again and compared; `NotHandedOver` if that is not the same."""
        await self._require_state(door)
        sealed = await self._client.seal(door, epoch, SEAL_SECONDS[0])
        snapshot = await self.save(agent_id, door, reason, keep_until=keep_until)
        _compare(sealed, await self._safe.verify(snapshot))

    async def activate(self, door: Door, epoch: int) -> None:
        """Let it take turns."""
        await self._client.activate(door, epoch)

    async def keep_until(self, agent_id: int, at: float) -> None:
        """Keep what there is of a deleted agent until then (Unix time)."""
        await self._safe.keep_until(agent_id, at)

    async def keep_newest(self, agent_id: int, at: float) -> None:
        """Keep what an agent without a machine was until then (Unix time)."""
        await self._safe.keep_newest(agent_id, at)

    async def seal(self, door: Door, epoch: int) -> protocol.Manifest:
        """Stop it in a calm moment, or else when its turns are over; `AgentBusy` if they do not end."""
        await self._require_state(door)
        await self._calm(door)
        for seconds in SEAL_SECONDS[:-1]:
            try:
                return await self._client.seal(door, epoch, seconds)
            except AgentBusy:
                log.info(line("turns go on", url=door.url, seconds=seconds))
        return await self._client.seal(door, epoch, SEAL_SECONDS[-1])

    async def _calm(self, door: Door) -> None:
        until = self._clock() + CALM_SECONDS
        while (await self._client.health(door)).running_turns and self._clock() < until:  # noqa: ASYNC110  elsewhere
            await asyncio.sleep(CALM_POLL_SECONDS)

    async def _bring_rest(self, agent_id: int, old: Door, new: Door, sealed: protocol.Manifest) -> None:
        """What has changed since `bring_ahead`; all of it if the new one holds something else."""
        newest = await self._safe.newest(agent_id)
        base = protocol.Manifest.model_validate_json(newest.manifest).mark if newest else ""
        try:
            await self._bring(old, new, sealed, base)
        except (AgentRefused, NotHandedOver) as refusal:
            if not base:
                raise
            log.info(line("all is brought again", agent=agent_id, why=refusal))
            await self._bring(old, new, sealed)

    async def _bring(self, old: Door, new: Door, sealed: protocol.Manifest, base: str = "") -> None:
        async with aclosing(self._client.snapshot(old, base)) as pieces:
            _compare(sealed, await self._client.restore(new, pieces))

    async def _works(self, door: Door, epoch: int) -> bool:
        health = await self._client.health(door)
        return health.mode is protocol.Mode.ACTIVE and health.epoch == epoch

    async def _require_state(self, door: Door) -> None:
        """`AgentHeld` by a copy that was started anew without what the agent is: nobody may take it for the agent."""
        if await self._stands_by(door):
            raise AgentHeld("it stands by: its machine came back empty, or its database was damaged")

    async def _stands_by(self, door: Door) -> bool:
        return (await self._client.health(door)).mode is protocol.Mode.STANDBY


def _compare(sealed: protocol.Manifest, there: protocol.Manifest) -> None:
    # An agent of before computes no fingerprint.
    is_same = not (sealed.fingerprint and there.fingerprint) or sealed.fingerprint == there.fingerprint
    if not is_same or (sealed.last_turn, sealed.counts) != (there.last_turn, there.counts):
        raise NotHandedOver(f"what arrived is not what was sealed: {there.counts} instead of {sealed.counts}")
