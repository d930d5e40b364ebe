"""What is done to one machine of the pool: make it ready, look whether it still is, give it back.

Every step may happen twice. What raises leaves the row as it was.
"""

import asyncio
import logging
from collections.abc import Collection

from bot.errors import MachineError
from bot.fleet.pool_books import PoolBooks
from bot.log import line
from bot.machines.engine import Engine, RunState
from bot.machines.provider import Place, Provider
from bot.store.models import Machine, MachineState

log = logging.getLogger(__name__)

MAKE_SECONDS = 1500.0
"""For everything from renting to ready; also for a pull to a machine that is ready."""


class Warmer:
    """Engine and provider as the pool needs them."""

    def __init__(self, books: PoolBooks, provider: Provider, engine: Engine) -> None:
        self._books = books
        self._provider = provider
        self._engine = engine

    async def make(self, machine: Machine, release: str) -> bool:
        """From wherever it stopped to ready for that release; False if the row was changed meanwhile."""
        async with asyncio.timeout(MAKE_SECONDS):
            await self._provider.rent(machine.id)
            if machine.state is MachineState.INTENT and not await self._books.rented(machine.id):
                return False
            place = await self._provider.reach(machine.id)
            await self._engine.prepare(place)
            await self._prove(place, release)
        return await self._books.ready(machine.id, release)

    async def check(self, machine: Machine, release: str, listed: Collection[str]) -> bool:
        """That it is still listed, nobody's, and warm for that release; False if the row was changed meanwhile."""
        if machine.id not in listed:
            raise MachineError(f"the provider does not list {machine.id} any more")
        async with asyncio.timeout(MAKE_SECONDS):
            await self._prove(await self._provider.reach(machine.id), release)
        return machine.release == release or await self._books.rewarmed(machine.id, release)

    async def give_back(self, machine: Machine) -> None:
        """End a doomed machine; it leaves the books only when the provider no longer lists it."""
        await self._provider.give_back(machine.id)
        if machine.id in await self._provider.listed():
            raise MachineError(f"{machine.id} was given back and is still listed")
        await self._books.gone(machine.id)
        log.info(line("machine of the pool given back", machine=machine.id))

    async def _prove(self, place: Place, release: str) -> None:
        await self._engine.warm(place, release)
        if (await self._engine.inspect(place)).state is not RunState.ABSENT:
            raise MachineError(f"an agent is on {place.machine_id}, which is nobody's")
