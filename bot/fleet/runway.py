"""Tell the operator in time that the credits for machines run out, and how many to add."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol, runtime_checkable

from bot.log import line

log = logging.getLogger(__name__)

LOOK_SECONDS = 3600.0
LOW_HOURS, SHORT_HOURS = 72, 48
"""Below the first it is time to top up; at 24 nothing new can be rented, and what runs is taken away (aleph.md §5)."""
ENOUGH_HOURS = 30 * 24


class Burn(Protocol):
    """What a provider's balance is, and how long it lasts."""

    @property
    def balance(self) -> int:
        """Credits."""

    @property
    def hours(self) -> float:
        """Infinite if nothing is spent."""

    def missing(self, hours: float) -> int:
        """Credits to add, to last so long."""


@runtime_checkable
class Paid(Protocol):
    """A provider that is paid from a balance."""

    async def burn(self) -> Burn:
        """What is there, and how long it lasts."""


class Runway:
    """Looks once an hour."""

    def __init__(self, burn: Callable[[], Awaitable[Burn]], *, pause: float = LOOK_SECONDS) -> None:
        self._burn = burn
        self._pause = pause

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look now and then every hour, until the end of the block."""
        watching = asyncio.create_task(self._watch(), name="runway")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._pause)

    async def look(self) -> None:
        """Warn if there is reason to."""
        try:
            burn = await self._burn()
        except Exception as error:  # noqa: BLE001  a loop's top: looked at again in an hour
            log.warning(line("runway not known", why=error))
            return
        if burn.hours < LOW_HOURS:
            level = logging.ERROR if burn.hours < SHORT_HOURS else logging.WARNING
            log.log(level, "%s", _told(burn))


def _told(burn: Burn) -> str:
    return (
        f"the credits for machines last {burn.hours:.0f} h ({burn.balance:,} are left): add "
        f"{burn.missing(ENOUGH_HOURS):,} to have enough for 30 days; below 24 h machines are taken away, data and all"
    )
