"""The rows of snapshots, and their agents' keys: what is stored, what is still being written, what is to go."""

import base64
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any

from sqlalchemy import delete, exists, func, update
from sqlmodel import col, select

from bot.errors import SnapshotBroken
from bot.fleet.packing import Packed
from bot.store.cipher import KEY_BYTES
from bot.store.database import Database
from bot.store.keepsakes import Keepsakes
from bot.store.models import Agent, Keepsake, Turn, TurnState, Wanted
from bot.store.records import Reason, Snapshot, SnapshotState

FOLDER = "snapshot-folder"
"""Keepsake: what this deployment's snapshots are kept below, so that several share a store."""
LATER_SECONDS = 0.001
PAGE = 500
"""Agents looked at in one go."""


class Shelf:
    """Rows of `snapshot`. Each change is one short transaction."""

    def __init__(self, database: Database, keepsakes: Keepsakes, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._keepsakes = keepsakes
        self._clock = clock

    async def folder(self) -> str:
        """What this deployment's snapshots are kept below."""
        return (await self._keepsakes.get(FOLDER, lambda: os.urandom(8).hex())).get_secret_value()

    async def begin(self, agent_id: int, reason: Reason, keep_until: float | None) -> Snapshot:
        """A row, before anything is written anywhere."""
        snapshot = Snapshot(agent_id=agent_id, reason=reason, keep_until=keep_until, created_at=self._clock())
        snapshot.path = f"{await self.folder()}/{agent_id}/{snapshot.id}"
        async with self._database.session() as session:
            # Not while the agent's last snapshot goes, and its key with it.
            await self._database.lock(await session.connection(), "snapshot", agent_id)
            snapshot.answered = await session.scalar(answered(agent_id)) or 0
            # The newest is the one that was begun last, also where the clock was set back in between.
            last = await session.scalar(select(func.max(Snapshot.created_at)).where(col(Snapshot.agent_id) == agent_id))
            if last is not None and last >= snapshot.created_at:
                snapshot.created_at = last + LATER_SECONDS
            session.add(snapshot)
        return snapshot

    async def new_key(self, agent_id: int) -> bytes:
        """Of the agent's snapshots; made with the first. It must have a row by then."""
        kept = await self._keepsakes.get(_key_name(agent_id), lambda: base64.b64encode(os.urandom(KEY_BYTES)).decode())
        return base64.b64decode(kept.get_secret_value())

    async def key(self, agent_id: int) -> bytes:
        """Of the agent's snapshots; `SnapshotBroken` if it is gone, and with it all that it opened."""
        kept = await self._keepsakes.find(_key_name(agent_id))
        if kept is None:
            raise SnapshotBroken("the key of this agent's snapshots is gone")
        return base64.b64decode(kept.get_secret_value())

    async def finish(self, snapshot: Snapshot, size: int, packed: Packed) -> Snapshot:
        """It is whole; the row as it is now. `SnapshotBroken` if it was given up meanwhile."""
        facts = {
            "state": SnapshotState.WHOLE,
            "size": size,
            "plain_size": packed.size,
            "sha256": packed.sha256,
            "manifest": packed.manifest.model_dump_json(),
            "last_turn": packed.manifest.last_turn,
        }
        if not await self._change(
            col(Snapshot.state) == SnapshotState.WRITING, col(Snapshot.id) == snapshot.id, **facts
        ):
            raise SnapshotBroken("it was given up while it was written")
        async with self._database.session() as session:
            return await session.get_one(Snapshot, snapshot.id)

    async def of(self, agent_id: int) -> list[Snapshot]:
        """Whole snapshots of an agent, newest first."""
        async with self._database.session() as session:
            query = select(Snapshot).where(
                col(Snapshot.agent_id) == agent_id, col(Snapshot.state) == SnapshotState.WHOLE
            )
            return list(await session.exec(query.order_by(col(Snapshot.created_at).desc(), col(Snapshot.id).desc())))

    async def newest(self, agent_ids: Collection[int]) -> dict[int, Snapshot]:
        """The newest whole snapshot of each of these agents that has one.

        What was only brought from elsewhere does not count: it is not what the agent was.
        """
        async with self._database.session() as session:
            query = select(Snapshot).where(
                col(Snapshot.agent_id).in_(agent_ids),
                col(Snapshot.state) == SnapshotState.WHOLE,
                col(Snapshot.reason) != Reason.IMPORT,
            )
            rows = await session.exec(query.order_by(col(Snapshot.created_at), col(Snapshot.id)))
            return {each.agent_id: each for each in rows}

    async def get(self, snapshot_id: str) -> Snapshot:
        """This one; `SnapshotBroken` if it is not there, or not whole."""
        return await whole(self._database, snapshot_id)

    async def keep_until(self, agent_id: int, at: float) -> None:
        """Keep the whole snapshots of an agent until then."""
        is_whole = col(Snapshot.state) == SnapshotState.WHOLE
        await self._change(col(Snapshot.agent_id) == agent_id, is_whole, keep_until=at)

    async def keep(self, snapshot_id: str, at: float) -> None:
        """Keep this one until then."""
        await self._change(col(Snapshot.id) == snapshot_id, keep_until=at)

    async def pages(self) -> AsyncIterator[tuple[list[Snapshot], set[int]]]:
        """The whole snapshots of all agents, some agents at a time, and which of these are there to stay."""
        last = -1
        while True:
            async with self._database.session() as session:
                ids = select(col(Snapshot.agent_id)).where(
                    col(Snapshot.agent_id) > last, col(Snapshot.state) == SnapshotState.WHOLE
                )
                agents = list(await session.exec(ids.distinct().order_by(col(Snapshot.agent_id)).limit(PAGE)))
                if not agents:
                    return
                is_theirs = col(Snapshot.agent_id).in_(agents)
                rows = await session.exec(select(Snapshot).where(is_theirs, col(Snapshot.state) == SnapshotState.WHOLE))
                living = await session.exec(
                    select(col(Agent.id)).where(col(Agent.id).in_(agents), col(Agent.wanted) != Wanted.DELETED)
                )
                page = list(rows), {agent_id or 0 for agent_id in living}
            yield page
            last = agents[-1]

    async def drop(self, snapshots: Sequence[Snapshot]) -> None:
        """They are to be removed, but for those that agents are to go back to."""
        ids = [each.id for each in snapshots]
        if ids:
            wanted = select(col(Agent.restore_id)).where(col(Agent.restore_id).is_not(None))
            is_free = col(Snapshot.id).not_in(wanted)
            await self._change(col(Snapshot.id).in_(ids), is_free, state=SnapshotState.DROPPED)

    async def give_up(self, before: float, but: Collection[str]) -> None:
        """What was begun before then and never finished is to be removed, but for those that are being written."""
        is_left = col(Snapshot.state) == SnapshotState.WRITING
        await self._change(
            is_left, col(Snapshot.created_at) < before, col(Snapshot.id).not_in(but), state=SnapshotState.DROPPED
        )

    async def dropped(self) -> list[Snapshot]:
        """What is to be removed."""
        async with self._database.session() as session:
            return list(await session.exec(select(Snapshot).where(col(Snapshot.state) == SnapshotState.DROPPED)))

    async def unknown(self, paths: Sequence[str]) -> list[str]:
        """Those of these paths that no row names."""
        async with self._database.session() as session:
            known = set(await session.exec(select(Snapshot.path).where(col(Snapshot.path).in_(paths))))
        return [path for path in paths if path not in known]

    async def forget(self, snapshot: Snapshot) -> None:
        """It is removed: its row goes; and with an agent's last one its key, so that no copy of them is of any use."""
        async with self._database.transaction() as transaction:
            await self._database.lock(transaction, "snapshot", snapshot.agent_id)
            await transaction.execute(delete(Snapshot).where(col(Snapshot.id) == snapshot.id))
            has_others = exists().where(col(Snapshot.agent_id) == snapshot.agent_id)
            is_key = col(Keepsake.id) == _key_name(snapshot.agent_id)
            await transaction.execute(delete(Keepsake).where(is_key, ~has_others))

    async def _change(self, *conditions: Any, **values: Any) -> bool:
        async with self._database.transaction() as transaction:
            return bool((await transaction.execute(update(Snapshot).where(*conditions).values(**values))).rowcount)


def answered(agent_id: int) -> Any:
    """How many messages the agent has answered: a number that never becomes less."""
    return select(func.count()).where(col(Turn.agent_id) == agent_id, col(Turn.state) == TurnState.DONE)


def _key_name(agent_id: int) -> str:
    return f"snapshot-key-{agent_id}"


async def whole(database: Database, snapshot_id: str) -> Snapshot:
    """The snapshot of that id; `SnapshotBroken` if it is not there, or not whole."""
    async with database.session() as session:
        snapshot = await session.get(Snapshot, snapshot_id)
    if snapshot is None or snapshot.state is not SnapshotState.WHOLE:
        raise SnapshotBroken(f"there is no whole snapshot {snapshot_id}: `baal snapshots` lists those that there are")
    return snapshot


async def kept(database: Database, agent_id: int | None = None) -> list[tuple[Snapshot, str]]:
    """All whole ones (of one agent), the newest first, each with its agent's name."""
    query = select(Snapshot, Agent.name).join(Agent, col(Agent.id) == col(Snapshot.agent_id))
    query = query.where(col(Snapshot.state) == SnapshotState.WHOLE)
    if agent_id is not None:
        query = query.where(col(Snapshot.agent_id) == agent_id)
    async with database.session() as session:
        return list((await session.exec(query.order_by(col(Snapshot.created_at).desc()))).all())
