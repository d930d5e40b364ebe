"""Hand the agent over to another machine: seal this copy when its turns have ended, or make it the one that works."""

import asyncio

from agent import log
from agent.errors import Refused
from agent.mode import Standing
from agent.protocol import Manifest, Mode
from agent.snapshot import Snapshots
from agent.store import Store
from agent.tick import Ticker
from agent.turns import Turns


class Handover:
    """Changes of mode, one at a time."""

    def __init__(self, standing: Standing, turns: Turns, ticker: Ticker, *, store: Store, snapshots: Snapshots) -> None:
        self._standing = standing
        self._turns = turns
        self._ticker = ticker
        self._store = store
        self._snapshots = snapshots
        self._busy = asyncio.Lock()
        self._sealed: Manifest | None = None
        if standing.mode is Mode.SEALED:
            store.freeze()

    async def seal(self, epoch: int, seconds: float) -> Manifest:
        """Let running turns end, then write nothing more; what there is.

        `Refused` (503 `busy`) if they take longer: then it goes on as before.
        """
        async with self._busy:
            if self._standing.mode is not Mode.SEALED or epoch != self._standing.epoch:
                self._standing.require_epoch(epoch)
                await self._finish_turns(seconds)
                self._standing.change(Mode.SEALED, epoch)
                self._store.freeze()
                self._sealed = None
            if self._sealed is None:
                self._sealed = await self._snapshots.describe()
            return self._sealed

    async def activate(self, epoch: int) -> None:
        """Take turns from now on."""
        async with self._busy:
            if self._snapshots.trouble:
                raise Refused(409, "not_restored", self._snapshots.trouble)
            was_active = self._standing.mode is Mode.ACTIVE
            self._standing.change(Mode.ACTIVE, epoch)
            self._snapshots.let_go()
            self._store.thaw()
            if not was_active:
                self._turns.recover()

    async def _finish_turns(self, seconds: float) -> None:
        self._standing.is_held = True
        try:
            if not (await self._turns.finish(seconds) and await self._ticker.finish(seconds)):
                log.warning("not sealed: turns go on", turns=self._turns.running)
                text = f"A turn is still running after {seconds:.0f} s. This agent goes on as before; try again later."
                raise Refused(503, "busy", text)
        finally:
            self._standing.is_held = False
