"""Keep N warm machines: prepared, with the release pulled, and nobody's. None comes back that an agent has had.

The rows say everything: after a crash the next start goes on with each machine from where it was.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bot.fleet.pool_books import PoolBooks
from bot.fleet.pool_plan import Aim, plan
from bot.fleet.pool_work import PoolWork, Tell
from bot.fleet.warmer import Warmer
from bot.log import line
from bot.machines.engine import Engine
from bot.machines.provider import Provider
from bot.store.models import Machine, MachineState, Purpose

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
RECYCLE_SECONDS = 24 * 3600.0


async def no_price() -> float:
    """Machines cost nothing."""
    return 0.0


@dataclass(frozen=True, slots=True)
class Ports:
    """What the pool asks and tells others.

    `release`: what its machines are to be warm for. `may_rent`: whether the spend caps allow one more machine; asked
    when one is lacking, and every 15 s while the answer is no. `tell`: the operator.
    """

    release: Callable[[], Awaitable[str]]
    may_rent: Callable[[], Awaitable[bool]]
    tell: Tell
    credits_per_hour: Callable[[], Awaitable[float]] = no_price


@dataclass(frozen=True, slots=True)
class Status:
    """How the pool stands. `resumes_at` (Unix time): after failures it makes no machine before that."""

    size: int
    counts: Mapping[MachineState, int]
    failures: int
    is_off: bool
    resumes_at: float

    def __str__(self) -> str:
        """`2 of 3 ready, 1 rented, 1 quarantined`."""
        ready = self.counts.get(MachineState.READY, 0)
        others = [state for state in MachineState if state is not MachineState.READY and self.counts.get(state)]
        words = [f"{ready} of {self.size} ready", *(f"{self.counts[state]} {state}" for state in others)]
        return ", ".join([*words, f"off after {self.failures} failures"] if self.is_off else words)


class Pool:
    """The watcher of the pool, and the counter at which agents get its machines."""

    def __init__(
        self,
        books: PoolBooks,
        provider: Provider,
        engine: Engine,
        ports: Ports,
        *,
        size: int,
        recycle_seconds: float = RECYCLE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Machines older than `recycle_seconds` are replaced, one at a time."""
        self._books = books
        self._ports = ports
        self._size = size
        self._recycle_seconds = recycle_seconds
        self._clock = clock
        self._work = PoolWork(books, provider, Warmer(books, provider, engine), ports.tell, clock=clock)
        self._watching: asyncio.Task[None] | None = None

    async def claim(self, agent_id: int, purpose: Purpose) -> Machine | None:
        """A warm machine, the agent's from now on and in state `rented`; None if there is none.

        One call, one machine: who may have claimed one already (it crashed, it tries again) looks first whether the
        agent has a machine that it does not work on yet. There is no way back into the pool: what is not needed after
        all is doomed, like any machine of an agent.
        """
        machine = await self._books.claim(agent_id, purpose)
        if machine:
            log.info(line("machine claimed", agent=agent_id, machine=machine.id, purpose=purpose))
            self._work.news.set()
        return machine

    async def status(self) -> Status:
        """How it stands now."""
        brake = self._work.brake
        counts = await self._books.counts()
        return Status(self._size, counts, brake.failures, is_off=brake.is_off, resumes_at=brake.free_at)

    async def trouble(self) -> str:
        """What keeps it from working; empty if nothing does. That no machine can be had is no trouble of the bot's."""
        is_ended = self._watching is not None and self._watching.done()
        return "the watcher of the pool has ended" if is_ended else ""

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Keep it as it is wanted until the end of the block; what is under way then goes on at the next start."""
        if left := await self._books.elsewhere():
            log.error(line("machines of the pool are another provider's: they end when it is PROVIDER", count=left))
        self._watching = asyncio.create_task(self._watch(), name="pool")
        try:
            yield
        finally:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            await self._work.stop()

    async def look(self) -> list[asyncio.Task[None]]:
        """Compare once what there is with what is wanted, and start what is due: the tasks, one for each machine."""
        release = await self._ports.release()
        await self._decide(Aim(self._size, release, self._recycle_seconds, self._clock()))
        # Asked before the rows are read: what ends in between has changed them since.
        busy = self._work.busy
        idle = [machine for machine in await self._books.machines() if machine.id not in busy]
        return [task for machine in idle if (task := self._work.start(machine, release))]

    async def _decide(self, aim: Aim) -> None:
        machines = await self._books.machines()
        due = plan(machines, aim)
        if due.rent and not await self._ports.may_rent():
            due = plan(machines, aim, may_rent=False)
        for machine in due.doomed:
            if await self._books.doom(machine.id, machine.state):
                log.info(line("machine of the pool doomed", machine=machine.id, was=machine.state))
        for _ in range(min(due.rent, self._work.slots)):
            await self._books.intend(credits_per_hour=await self._ports.credits_per_hour())

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  a loop's top: looked at again soon
                log.warning(line("pool not looked at", why=error))
            await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._work.news.wait()
        except TimeoutError:
            return
        self._work.news.clear()
