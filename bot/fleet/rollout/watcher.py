"""Looks after the open rollout as long as the bot runs."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from bot.log import line

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
IDLE_SECONDS = 5.0
"""How long `baal rollout start` goes unnoticed: rows are how it reaches the bot."""


class Passes(Protocol):
    """`Runner`, as far as it is needed here."""

    async def look(self) -> bool:
        """One pass; False if no rollout is open."""


class Watcher:
    """One pass after the other."""

    def __init__(self, runner: Passes, *, busy: float = LOOK_SECONDS, idle: float = IDLE_SECONDS) -> None:
        """Seconds between passes, with and without a rollout that is open."""
        self._runner = runner
        self._busy = busy
        self._idle = idle

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look until the end of the block."""
        watching = asyncio.create_task(self._watch(), name="rollout")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            is_open = await self._look()
            await asyncio.sleep(self._busy if is_open else self._idle)

    async def _look(self) -> bool:
        try:
            return await self._runner.look()
        except Exception as error:
            # Nothing was known, so nothing was done. Should it last, the rollout pauses for want of progress.
            log.exception(line("rollout not looked after", why=type(error).__name__))
            return True
