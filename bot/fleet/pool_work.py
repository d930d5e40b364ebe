"""What is under way with the pool's machines: at most one task for each, and what their failures mean for the rest."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from bot.errors import MachineError
from bot.fleet.brake import DELAYS, Brake
from bot.fleet.pool_books import PoolBooks
from bot.fleet.pool_plan import COMING
from bot.fleet.warmer import Warmer
from bot.log import line
from bot.machines.provider import Provider
from bot.store.models import Machine, MachineState

log = logging.getLogger(__name__)

CHECK_SECONDS = 180.0
"""Between two looks at a machine that is ready."""
RETRY_SECONDS = 30.0
"""Until what could not be done to a machine is tried again."""
AT_ONCE = 3
"""Machines made ready at the same time; after a failure one."""
MAKE, LOOK, END = "make", "look", "end"
OFF = "notice-operator-pool"
WHY_CHARACTERS = 200


type Work = Callable[[], Awaitable[None]]


class Tell(Protocol):
    """Tells the operator something, once for each id."""

    async def __call__(self, notice_id: str, text: str, /, *, why: str) -> None:
        """`text` is the key of the text, `why` what it mentions."""


class PoolWork:
    """In memory alone: when what is tried again. A restart forgets it and thereby lets a pool that is off go on."""

    def __init__(
        self, books: PoolBooks, provider: Provider, warmer: Warmer, tell: Tell, *, clock: Callable[[], float]
    ) -> None:
        self.brake = Brake()
        self.news = asyncio.Event()
        """Something has ended."""
        self._books = books
        self._provider = provider
        self._warmer = warmer
        self._tell = tell
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._trying: set[str] = set()
        self._not_before: dict[tuple[str, str], float] = {}

    @property
    def slots(self) -> int:
        """How many more machines may be made now."""
        if self._clock() < self.brake.free_at:
            return 0
        return (1 if self.brake.failures else AT_ONCE) - len(self._trying)

    @property
    def busy(self) -> frozenset[str]:
        """The machines that something is being done to: their rows may change at any moment."""
        return frozenset(self._tasks)

    def start(self, machine: Machine, release: str) -> asyncio.Task[None] | None:
        """Do what is due to it, if anything is and nothing is being done."""
        # One at a time: what gives it back never meets what still rents it.
        if machine.id in self._tasks or (work := self._due(machine, release)) is None:
            return None
        task = asyncio.create_task(self._run(machine, work), name=f"pool {machine.id}")
        self._tasks[machine.id] = task
        return task

    async def stop(self) -> None:
        """End what is under way; the rows say where it was."""
        running = list(self._tasks.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _due(self, machine: Machine, release: str) -> Work | None:
        if machine.state in COMING:
            return self._try(partial(self._make, machine, release), machine, MAKE)
        if machine.state is MachineState.DOOMED:
            return partial(self._warmer.give_back, machine) if self._is_time(machine, END, RETRY_SECONDS) else None
        if machine.state is not MachineState.READY:
            return None
        if machine.release != release and not self._trying:
            rewarm = self._try(partial(self._check, machine, release), machine, f"warm for {release}")
            if rewarm:
                return rewarm
        return partial(self._check, machine, machine.release) if self._is_time(machine, LOOK, CHECK_SECONDS) else None

    def _try(self, work: Work, machine: Machine, what: str) -> Work | None:
        if self.slots <= 0 or not self._is_time(machine, what, RETRY_SECONDS):
            return None
        self._trying.add(machine.id)
        return work

    def _is_time(self, machine: Machine, what: str, pause: float) -> bool:
        """Not again before the pause (seconds) is over, however it ends."""
        key, now = (machine.id, what), self._clock()
        if now < self._not_before.get(key, 0):
            return False
        self._not_before = {each: at for each, at in self._not_before.items() if at > now} | {key: now + pause}
        return True

    async def _run(self, machine: Machine, work: Work) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001  a task's top: the row is as it was, and looked at again
            log.warning(line("machine of the pool not seen to yet", machine=machine.id, state=machine.state, why=error))
        finally:
            del self._tasks[machine.id]
            self._trying.discard(machine.id)
            self.news.set()

    async def _make(self, machine: Machine, release: str) -> None:
        begun = self._clock()
        try:
            is_ready = await self._warmer.make(machine, release)
        except Exception as error:  # noqa: BLE001  whatever it was, the row must say that it failed
            # What was never rented has nothing to look at.
            is_ours = await self._books.doom(machine.id, MachineState.INTENT)
            if is_ours or await self._books.quarantine(machine.id, MachineState.RENTED):
                await self._failed(machine, begun, error)
        else:
            if is_ready:
                self.brake.ease()
                self._not_before[machine.id, LOOK] = self._clock() + CHECK_SECONDS
                log.info(line("machine of the pool ready", machine=machine.id, release=release))

    async def _check(self, machine: Machine, release: str) -> None:
        begun = self._clock()
        # What this raises says nothing about the machine.
        listed = await self._provider.listed()
        try:
            await self._warmer.check(machine, release, listed)
        except Exception as error:  # noqa: BLE001  whatever it was, nobody may get this machine
            is_stale = release != machine.release
            put_away = self._books.doom if is_stale else self._books.quarantine
            if await put_away(machine.id, MachineState.READY):
                await self._failed(machine, begun, error)

    async def _failed(self, machine: Machine, begun: float, error: Exception) -> None:
        log.error(line("machine of the pool failed", machine=machine.id, was=machine.state), exc_info=error)
        now = self._clock()
        if self.brake.failed(begun, now):
            await self._tell(f"pool-off-{now:.0f}", OFF, why=_why(error))


def _why(error: Exception) -> str:
    words = str(error).partition("\n")[0][:WHY_CHARACTERS] if isinstance(error, MachineError) else ""
    return (
        f"{len(DELAYS)} times in a row none could be made ready, the last time because of "
        f"“{words or type(error).__name__}”; it is tried again every hour, and when the bot is restarted"
    )
