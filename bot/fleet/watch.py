"""A loop that looks now and then, and goes on whatever happens to a look."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bot.log import line

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Watcher:
    """`look` every so many seconds, the first time after one pause."""

    name: str
    seconds: float
    look: Callable[[], Awaitable[object]]

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(self.seconds)
            try:
                await self.look()
            except Exception:
                log.exception(line("look failed", watcher=self.name))
