"""One run of a turn as the bot follows it: attach, attach again, bring the agent back, rerun what was interrupted."""

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from agent import protocol
from bot.chat.route import Route
from bot.errors import AgentBusy, AgentError, AgentHeld, AgentOffline
from bot.log import line
from bot.store.models import Turn

log = logging.getLogger(__name__)

MAX_BREAKS = 5
"""Lost connections in a row, without an event in between, after which the turn is given up."""

HELD_SECONDS = 600.0
"""An agent that is handed over for longer than this is given up."""
HELD_LOOK_SECONDS = 1.0
"""An agent may also be held for a moment and then go on where it was: so it is asked again now and then."""


@dataclass(frozen=True, slots=True)
class AgentDown:
    """Not from the agent: it does not answer and is being brought back; the message is kept."""


@dataclass(frozen=True, slots=True)
class AgentWaking:
    """Not from the agent: it was asleep and is being woken; the message is kept."""


@dataclass(frozen=True, slots=True)
class AgentMoving:
    """Not from the agent: another machine is taking over from its own, within seconds; the message is kept."""


type NotYet = AgentDown | AgentWaking | AgentMoving
"""Why there is no answer yet."""


class MakeRequest(Protocol):
    """Builds the call for a turn."""

    async def __call__(self, turn: Turn, after: int, *, retry: bool) -> protocol.ChatRequest: ...


class Run:
    """Where a turn's events have got to."""

    def __init__(self, route: Route, turn: Turn, request: MakeRequest) -> None:
        self._route = route
        self._turn = turn
        self._make_request = request
        self._after = turn.seen
        self._wants_rerun = turn.retry
        self._has_rerun = turn.retry
        self._breaks = 0
        self._held_since: float | None = None
        self._has_said_held = False

    async def events(self) -> AsyncGenerator[protocol.Event | NotYet]:
        """All of them up to the final one; keep-alives are left out."""
        while True:
            try:
                async with aclosing(self._attach()) as events:
                    async for event in events:
                        yield event
                        if isinstance(event, protocol.Final):
                            return
            except AgentHeld:
                async with aclosing(self._held()) as words:
                    async for said in words:
                        yield said
            except (AgentOffline, AgentBusy) as error:
                self._note_break(error)
                if not await self._route.is_up(self._turn.agent_id):
                    yield AgentWaking() if await self._route.is_asleep(self._turn.agent_id) else AgentDown()
                    await self._route.bring_back(self._turn.agent_id)

    async def _held(self) -> AsyncGenerator[NotYet]:
        """It is being handed over, or is on its way to sleep: wait for the one, wake it from the other."""
        if await self._route.is_asleep(self._turn.agent_id):
            yield AgentWaking()
            await self._route.bring_back(self._turn.agent_id)
            return
        if self._held_since is None:
            self._held_since = time.monotonic()
        held = time.monotonic() - self._held_since
        if held > HELD_SECONDS:
            raise AgentOffline(f"held for {held:.0f} s")
        if not self._has_said_held:
            self._has_said_held = True
            yield AgentMoving()
        await self._route.until_moved(self._turn.agent_id, timeout=HELD_LOOK_SECONDS)

    async def _attach(self) -> AsyncGenerator[protocol.Event]:
        request = await self._make_request(self._turn, self._after, retry=self._wants_rerun)
        async with aclosing(self._route.chat(self._turn.agent_id, request)) as events:
            async for event in events:
                self._breaks, self._held_since = 0, None
                if isinstance(event, protocol.KeepAlive):
                    continue
                self._after, self._wants_rerun = event.seq, False
                if self._should_run_again(event):
                    self._wants_rerun = self._has_rerun = True
                    # The agent says so only of text; what it was doing is over too.
                    yield protocol.Restart(seq=event.seq)
                    return
                yield event

    def _should_run_again(self, event: protocol.Event) -> bool:
        # Interrupted by the agent's restart, not by anybody: once more, by itself.
        interrupted = isinstance(event, protocol.Failed) and event.kind is protocol.ErrorKind.INTERRUPTED
        return interrupted and not self._has_rerun

    def _note_break(self, error: AgentError) -> None:
        self._breaks += 1
        log.info(line("turn broke", turn=self._turn.id, agent=self._turn.agent_id, breaks=self._breaks, why=error))
        if self._breaks >= MAX_BREAKS:
            raise AgentOffline(f"given up after {self._breaks} lost connections") from error
