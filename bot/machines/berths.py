"""Which machine is on which own server: rows of `berth`, and the servers' host keys."""

import secrets
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import delete
from sqlmodel import col, select

from bot.errors import NoCapacity
from bot.store.database import Database
from bot.store.models import Berth, HostKey

MOST = 8
"""Machines on one server."""
FIRST_PORT, LAST_PORT = 20_000, 29_999
"""Of a server: each machine has one of its own."""


class Berths:
    """Each change is one short transaction, committed before what it allows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, machine_id: str, servers: Sequence[str]) -> Berth:
        """The machine's, or a new one on the server with the fewest machines; `NoCapacity` if all are full."""
        async with self._database.session() as session:
            # Counted and taken by one at a time.
            await self._database.lock(await session.connection(), "berth", 0)
            if (kept := await session.get(Berth, machine_id)) is not None:
                return kept
            taken = list(await session.exec(select(Berth)))
            server = _emptiest(taken, servers)
            berth = Berth(machine_id=machine_id, server=server, port=_free_port(taken, server))
            session.add(berth)
        return berth

    async def find(self, machine_id: str) -> Berth | None:
        """Where a machine is, if it is anywhere."""
        async with self._database.session() as session:
            return await session.get(Berth, machine_id)

    async def all(self) -> list[str]:
        """The ids of all machines."""
        async with self._database.session() as session:
            return sorted(await session.exec(select(Berth.machine_id)))

    async def leave(self, machine_id: str) -> None:
        """Nothing of it is there any more."""
        async with self._database.transaction() as transaction:
            await transaction.execute(delete(Berth).where(col(Berth.machine_id) == machine_id))

    async def host_key(self, server: str) -> str | None:
        """By what a server was known at the first contact; None if there was none."""
        async with self._database.session() as session:
            kept = await session.get(HostKey, server)
        return kept.key if kept else None

    async def pin(self, server: str, key: str) -> None:
        """Remember it; what was remembered before stays."""
        async with self._database.transaction() as transaction:
            await transaction.execute(self._database.insert_new(HostKey, HostKey(server=server, key=key).model_dump()))


def _emptiest(taken: Sequence[Berth], servers: Sequence[str]) -> str:
    if not servers:
        raise NoCapacity("no server is configured: write them into SSH_HOSTS")
    counts = Counter(berth.server for berth in taken)
    server = min(servers, key=lambda name: counts[name])
    if counts[server] >= MOST:
        raise NoCapacity(f"each of the {len(servers)} servers has {MOST} machines: add one to SSH_HOSTS")
    return server


def _free_port(taken: Sequence[Berth], server: str) -> int:
    """Not the lowest: one that something else on the server uses must not be tried again and again."""
    used = {berth.port for berth in taken if berth.server == server}
    return secrets.choice([port for port in range(FIRST_PORT, LAST_PORT + 1) if port not in used])
