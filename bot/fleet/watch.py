"""Work that goes on beside everything else, until it is told to stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bot.log import line

log = logging.getLogger(__name__)


@asynccontextmanager
async def going_on(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Do it until the end of the block."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Watcher:
    """`look` every so many seconds, the first time after one pause; a look that fails is no reason to stop."""

    name: str
    seconds: float
    look: Callable[[], Awaitable[object]]

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look until the end of the block."""
        async with going_on(self.name, self._look_for_ever()):
            yield

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.seconds)
            try:
                await self.look()
            except Exception:
                log.exception(line("look failed", watcher=self.name))
