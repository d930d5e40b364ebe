"""Compare what the provider lists with our rows: what nobody knows is given back, what is missing is told.

No race with renting: a machine's row is committed before anything is ordered, and the list is read before the rows, so
whatever is listed has had its row by then. What races are the ends: a machine is listed, given back, and gone from the
books when they are read. And a list may be wrong: one message node says `removed` where another says `processed`. So
nothing is done at the first sighting, but when it was so at every look for some time. What was seen is kept in memory
alone: after a start it takes as long again, which leaves an operator time who put back an old copy of the database, or
lets two bots use one wallet and channel.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from bot.errors import MachineError
from bot.fleet.books import Books
from bot.log import line
from bot.machines.provider import Provider, Reconciling
from bot.store.models import Agent

log = logging.getLogger(__name__)

ORPHAN_SECONDS = 600.0
"""So long something has to be nobody's before it is ended. For good: no hurry."""
LOST_SECONDS = 240.0
"""So long a machine has to be missing before its agent is wished again, which spoils nothing if it is there."""


class Sightings:
    """Since when something was seen at every look."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: dict[str, float] = {}

    def look(self, seen: Iterable[str]) -> list[str]:
        """What is seen now and was at every look for long enough; whatever is not seen now is forgotten."""
        now = self._clock()
        self._since = {name: self._since.get(name, now) for name in sorted(seen)}
        return [name for name, since in self._since.items() if now - since >= self._seconds]


class Orphans:
    """The watcher of what is paid for."""

    def __init__(
        self,
        books: Books,
        provider: Provider,
        *,
        clock: Callable[[], float] = time.time,
        orphan_seconds: float = ORPHAN_SECONDS,
        lost_seconds: float = LOST_SECONDS,
    ) -> None:
        self._books = books
        self._provider = provider
        self._machines = Sightings(orphan_seconds, clock)
        self._strangers = Sightings(orphan_seconds, clock)
        self._missing = Sightings(lost_seconds, clock)

    async def missing(self) -> list[Agent]:
        """Agents that should run, and whose machines the provider does not list any more."""
        active = await self._books.active(self._provider.name)
        listed = await self._provider.listed()
        missing = self._missing.look(set(active) - set(listed))
        for machine_id in missing:
            log.error(line("machine lost", machine=machine_id, agent=active[machine_id].id))
        return [active[machine_id] for machine_id in missing]

    async def end(self) -> None:
        """End what is nobody's. Raises what the list or the database raise, and then has done nothing on their word."""
        listed = await self._provider.listed()
        known = await self._books.living(listed)
        unknown = set(listed) - known
        if unknown and not await self._books.is_begun():
            log.error(line("database knows no machine and is not the one they were rented by", listed=len(unknown)))
            return
        for machine_id in self._machines.look(unknown):
            await self._end("orphaned machine", machine_id, self._provider.give_back)
        await self._end_strangers()

    async def _end_strangers(self) -> None:
        if not isinstance(self._provider, Reconciling):
            return
        for reference in self._strangers.look(await self._provider.strangers()):
            await self._end("order that nobody remembers", reference, self._provider.forget_stranger)

    async def _end(self, what: str, name: str, end: Callable[[str], Awaitable[None]]) -> None:
        log.error(line(f"{what} is ended", name=name))
        try:
            await end(name)
        except MachineError as error:
            # It is seen again at the next look, and ended then.
            log.warning(line(f"{what} is not ended yet", name=name, why=error))
