"""The fleet as others use it: start working on a wish, wait until an agent is there, and sweep up what differs."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from bot.errors import AgentOffline
from bot.fleet.books import Books
from bot.fleet.configure import Configurer
from bot.fleet.converge import Converger
from bot.fleet.durable import Attempt, Durable
from bot.fleet.orphans import Orphans
from bot.log import line
from bot.store.models import Agent, Machine, Phase, Wanted

log = logging.getLogger(__name__)

SWEEP_SECONDS = 30.0
ORPHANS_SECONDS = 300.0
READY_POLL_SECONDS = 0.1


class Fleet:
    """Level-triggered: the rows say what is wanted; a lost workflow or a restart costs one sweep, never an agent."""

    def __init__(
        self,
        books: Books,
        durable: Durable,
        converger: Converger,
        configurer: Configurer,
        orphans: Orphans,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._books = books
        self._durable = durable
        self._converger = converger
        self._configurer = configurer
        self._orphans = orphans
        self._attended: list[Callable[[], AbstractAsyncContextManager[None]]] = []
        self._attending = AsyncExitStack()
        self._clock = clock
        self._look = asyncio.Event()
        self._returns: dict[str, asyncio.Task[None]] = {}
        self._watching: list[asyncio.Task[None]] = []

    def attend(self, watched: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        """Have this go on for as long as the fleet works; to be said before `start`."""
        self._attended.append(watched)

    async def start(self) -> None:
        """Go on with what was in flight, then sweep."""
        await self._durable.start(self._converge)
        watchers: dict[str, Coroutine[Any, Any, None]] = {
            "sweep": self._sweep_for_ever(),
            "orphans": self._watch_orphans(),
        }
        self._watching = [asyncio.create_task(work, name=name) for name, work in watchers.items()]
        for watched in self._attended:
            await self._attending.enter_async_context(watched())

    async def stop(self) -> None:
        """Leave work in flight for the next start."""
        await self._attending.aclose()
        running = [*self._watching, *self._returns.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._durable.stop()

    async def trouble(self) -> str:
        """What keeps it from working; empty if nothing does."""
        ended = [task.get_name() for task in self._watching if task.done()]
        if ended:
            return f"a watcher has ended: {', '.join(ended)}"
        return await self._durable.trouble()

    async def nudge(self, agent_id: int) -> None:
        """A wish has changed: start working on it now instead of at the next sweep."""
        await self._submit(await self._books.agent(agent_id))

    async def configure(self, agent_id: int) -> bool:
        """Its name, job or model has changed: tell it now; False if it will hear of it later."""
        return await self._configurer.bring(agent_id)

    async def wish(
        self, agent_id: int, *, release: str | None = None, wanted: Wanted | None = None, restore: str | None = None
    ) -> bool:
        """`Books.wish`, and begin at once."""
        is_new = await self._books.wish(agent_id, release=release, wanted=wanted, restore=restore)
        if is_new:
            await self.nudge(agent_id)
        return is_new

    async def lost(self, agent: Agent) -> None:
        """An agent that should run does not answer: bring it back. However many notice, it is done once."""
        await self._books.lost(agent.id or 0, agent.generation)
        await self.nudge(agent.id or 0)

    async def wait_ready(self, agent_id: int, *, timeout: float) -> None:
        """Wait until it runs as wanted; `AgentOffline` if it fails or takes longer (seconds)."""
        try:
            async with asyncio.timeout(timeout):
                while not await self._is_ready(agent_id):  # noqa: ASYNC110  a fact in the database
                    await asyncio.sleep(READY_POLL_SECONDS)
        except TimeoutError as error:
            raise AgentOffline(f"not ready after {timeout:.0f} s") from error

    async def wait_settled(self, agent_id: int, *, timeout: float) -> Agent:
        """Wait until its wish has come true or is given up; `AgentOffline` if that takes longer (seconds)."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    agent = await self._books.agent(agent_id)
                    if agent.observed_generation == agent.generation:
                        return agent
                    await asyncio.sleep(READY_POLL_SECONDS)
        except TimeoutError as error:
            raise AgentOffline(f"not settled after {timeout:.0f} s") from error

    async def _is_ready(self, agent_id: int) -> bool:
        agent = await self._books.agent(agent_id)
        is_settled = agent.observed_generation == agent.generation
        if agent.wanted is Wanted.DELETED or (is_settled and agent.phase is not Phase.RUNNING):
            raise AgentOffline(f"it is {agent.phase}")
        return is_settled

    async def _converge(self, attempt: Attempt) -> None:
        await self._converger.run(attempt)
        self._look.set()

    async def _submit(self, agent: Agent) -> None:
        if agent.observed_generation != agent.generation:
            await self._durable.submit(_attempt(agent))

    async def _sweep_for_ever(self) -> None:
        while True:
            try:
                await self._sweep()
                pause = await self._pause()
            except Exception:
                log.exception("sweep failed")
                pause = SWEEP_SECONDS
            await self._wait(pause)

    async def _sweep(self) -> None:
        for agent in await self._books.due():
            if await self._durable.has_ended(_attempt(agent)):
                # Its workflow is over and the row is not as wanted: one more try under a new id.
                await self._books.skip(_attempt(agent))
                agent = await self._books.agent(agent.id or 0)  # noqa: PLW2901  the same agent, read anew
            await self._submit(agent)
        await self._configurer.sweep()
        for machine in await self._books.doomed():
            self._return(machine)

    def _return(self, machine: Machine) -> None:
        # Beside the sweep: a provider may take a minute to say no, and to each one.
        known = self._returns.get(machine.id)
        if known is None or known.done():
            self._returns[machine.id] = asyncio.create_task(self._give_back(machine), name=f"give back {machine.id}")

    async def _give_back(self, machine: Machine) -> None:
        try:
            await self._converger.give_back(machine)
            del self._returns[machine.id]
        except Exception as error:  # noqa: BLE001  a task's top: tried again at the next sweep, for ever
            log.warning(line("machine not given back yet", machine=machine.id, why=error))

    async def _watch_orphans(self) -> None:
        while True:
            await asyncio.sleep(ORPHANS_SECONDS)
            try:
                for agent in await self._orphans.missing():
                    await self.lost(agent)
                await self._orphans.end()
            except Exception as error:  # noqa: BLE001  a loop's top: nothing was known, so nothing was done
                log.warning(line("orphans not looked for", why=error))

    async def _pause(self) -> float:
        soonest = await self._books.soonest()
        wait = SWEEP_SECONDS if soonest is None else soonest - self._clock()
        # What is due already has just been submitted.
        return wait if 0 < wait < SWEEP_SECONDS else SWEEP_SECONDS

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._look.wait()
        except TimeoutError:
            return
        self._look.clear()


def _attempt(agent: Agent) -> Attempt:
    return Attempt(agent_id=agent.id or 0, generation=agent.generation, number=agent.attempt)
