"""How long the network is waited for, and how often it is asked."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

DAY = 86_400


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: how long an order may take to be processed, placed, forgotten; how often we look.

    `watch`: how long one whose fate is unknown is watched before we believe that it never came to be.
    """

    process: float = 300
    place: float = 360
    forget: float = 60
    poll: float = 5
    watch: float = DAY

    @property
    def confirm(self) -> float:
        """So long after the first word that an instance was taken away it must be said again: half a minute.

        One message node may say so while another does not (pyaleph #1216).
        """
        return 6 * self.poll

    async def until[T](self, look: Callable[[], Awaitable[T | None]], seconds: float) -> T:
        """Look until there is something; `TimeoutError`."""
        async with asyncio.timeout(seconds):
            while (found := await look()) is None:  # noqa: ASYNC110  a fact of the network
                await asyncio.sleep(self.poll)
        return found
