"""All that an agent is, kept outside of its machine: looked through, compressed, encrypted with a key of its own."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from agent.protocol import Manifest, Mode
from bot.errors import SnapshotBroken, SnapshotError
from bot.fleet.archive import Archive
from bot.fleet.packing import PIECE_BYTES, Packed, Packer, Unpacker
from bot.fleet.retention import DAY, Retention, is_asked_for
from bot.fleet.shelf import PAGE, Shelf
from bot.log import line
from bot.store.objects import STALE_SECONDS, Objects
from bot.store.records import Reason, Snapshot

log = logging.getLogger(__name__)


class Snapshots:
    """Takes archives in, gives them out, and drops those that nobody needs any more.

    A row stands before anything is stored; it is `whole` only when all of the archive is stored and agrees with its own
    manifest. What a crash leaves is removed by `sweep`.
    """

    def __init__(
        self,
        shelf: Shelf,
        objects: Objects,
        retention: Retention | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shelf = shelf
        self._objects = objects
        self._retention = retention or Retention()
        self._clock = clock
        self._writing: set[str] = set()

    async def save(
        self, agent_id: int, reason: Reason, pieces: AsyncIterator[bytes], *, keep_until: float | None = None
    ) -> Snapshot:
        """Keep an archive, which is read to its end or closed.

        `SnapshotBroken` if it is not whole, `StoreAway` if it cannot be stored; what `pieces` raises passes on. Then
        nothing of it is kept.
        """
        begun = time.monotonic()
        snapshot = await self._shelf.begin(agent_id, reason, keep_until)
        self._writing.add(snapshot.id)
        try:
            size, packed = await self._store(snapshot, pieces)
            _require_agent(packed.manifest)
            whole = await self._shelf.finish(snapshot, size, packed)
        except BaseException:
            await self._take_back(snapshot)
            raise
        finally:
            self._writing.discard(snapshot.id)
        seconds = round(time.monotonic() - begun, 2)
        log.info(line("snapshot taken", agent=agent_id, snapshot=whole.id, why=reason, bytes=size, seconds=seconds))
        return whole

    async def read(self, snapshot: Snapshot) -> AsyncGenerator[bytes]:
        """The archive as it was put in, piece by piece.

        `SnapshotBroken` where it is not, `StoreAway` where it cannot be had: at its end at the latest, so that whoever
        passes it on must not say that it was whole before this has ended.
        """
        key = await self._shelf.key(snapshot.agent_id)
        unpacker = Unpacker(key, snapshot.id)
        try:
            async with aclosing(self._objects.get(snapshot.path)) as stored:
                async for sealed in stored:
                    await asyncio.to_thread(unpacker.give, sealed)
                    while piece := await asyncio.to_thread(unpacker.take):
                        yield piece
            await asyncio.to_thread(unpacker.end)
            while piece := await asyncio.to_thread(unpacker.take):
                yield piece
            unpacker.finish(snapshot.plain_size, snapshot.sha256)
        except FileNotFoundError:
            raise SnapshotBroken("it is not where it was stored") from None

    async def verify(self, snapshot: Snapshot) -> Manifest:
        """Read all of it; its manifest. `SnapshotBroken` if it could not be restored."""
        archive = Archive()
        async with aclosing(self.read(snapshot)) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(archive.feed, piece)
        manifest = archive.finish()
        if manifest != Manifest.model_validate_json(snapshot.manifest):
            raise SnapshotBroken("its manifest is not the one that was put in")
        return manifest

    async def newest(self, agent_id: int) -> Snapshot | None:
        """The newest whole one of what an agent was."""
        return (await self._shelf.newest([agent_id])).get(agent_id)

    async def get(self, snapshot_id: str) -> Snapshot:
        """This one; `SnapshotBroken` if it is not there, or not whole."""
        return await self._shelf.get(snapshot_id)

    async def of(self, agent_id: int) -> list[Snapshot]:
        """All whole ones of an agent, newest first."""
        return await self._shelf.of(agent_id)

    async def keep_until(self, agent_id: int, at: float) -> None:
        """Keep those that there are of an agent until then (Unix time), also if it is deleted."""
        await self._shelf.keep_until(agent_id, at)

    async def keep_newest(self, agent_id: int, at: float) -> None:
        """Keep the newest of an agent until then (Unix time), if there is one."""
        if newest := await self.newest(agent_id):
            await self._shelf.keep(newest.id, at)

    async def sweep(self) -> None:
        """Remove what nobody needs, and what a crash left. What cannot be removed now is tried again the next time."""
        await self._shelf.give_up(self._clock() - STALE_SECONDS, self._writing)
        await self._expire()
        for snapshot in await self._shelf.dropped():
            await self._remove(snapshot)
        await self._objects.tidy()
        await self._remove_unknown()

    async def _store(self, snapshot: Snapshot, pieces: AsyncIterator[bytes]) -> tuple[int, Packed]:
        packer = Packer(await self._shelf.new_key(snapshot.agent_id), snapshot.id)
        packed: list[Packed] = []

        async def sealed() -> AsyncGenerator[bytes]:
            async with aclosing(_batched(pieces)) as batches:
                async for batch in batches:
                    if ready := await asyncio.to_thread(packer.feed, batch):
                        yield ready
            rest, whole = await asyncio.to_thread(packer.finish)
            packed.append(whole)
            yield rest

        async with aclosing(sealed()) as stream:
            size = await self._objects.put(snapshot.path, stream)
        return size, packed[0]

    async def _take_back(self, snapshot: Snapshot) -> None:
        try:
            await self._shelf.drop([snapshot])
            await self._remove(snapshot)
        except Exception as error:  # noqa: BLE001  on the way out with another one: the sweep removes it
            log.warning(line("snapshot not taken back yet", snapshot=snapshot.id, why=error))

    async def _expire(self) -> None:
        now = self._clock()
        async for whole, living in self._shelf.pages():
            theirs: dict[int, list[Snapshot]] = {}
            for each in whole:
                theirs.setdefault(each.agent_id, []).append(each)
            for agent_id, snapshots in theirs.items():
                if agent_id in living:
                    await self._shelf.drop(self._retention.expired(snapshots, now))
                else:
                    await self._expire_deleted(agent_id, snapshots, now)

    async def _expire_deleted(self, agent_id: int, snapshots: list[Snapshot], now: float) -> None:
        if any(each.keep_until is None for each in snapshots):
            # Deleted a moment ago: its owner may think again.
            await self._shelf.keep_until(agent_id, now + self._retention.deleted_days * DAY)
            return
        await self._shelf.drop([each for each in snapshots if not is_asked_for(each, now)])

    async def _remove(self, snapshot: Snapshot) -> None:
        try:
            await self._objects.delete(snapshot.path)
        except SnapshotError as error:
            log.warning(line("snapshot not removed yet", snapshot=snapshot.id, why=error))
            return
        await self._shelf.forget(snapshot)

    async def _remove_unknown(self) -> None:
        paths: list[str] = []
        async for path in self._objects.old(await self._shelf.folder()):
            paths.append(path)
            if len(paths) == PAGE:
                await self._remove_those_unknown(paths)
                paths = []
        await self._remove_those_unknown(paths)

    async def _remove_those_unknown(self, paths: list[str]) -> None:
        for path in await self._shelf.unknown(paths):
            log.warning(line("object that no snapshot is stored as is removed", path=path))
            await self._objects.delete(path)


def _require_agent(manifest: Manifest) -> None:
    # As the newest one it would be what the agent is brought back from.
    if manifest.mode is Mode.STANDBY:
        raise SnapshotBroken("it was taken of a copy that stands by, which is not the agent")


async def _batched(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """The same in larger pieces: each one goes through a thread."""
    batch = bytearray()
    try:
        async for piece in pieces:
            batch += piece
            if len(batch) >= PIECE_BYTES:
                yield bytes(batch)
                batch.clear()
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
    if batch:
        yield bytes(batch)
