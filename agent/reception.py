"""Where messages come in."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from agent.agenda import Agenda
from agent.events import EventLog
from agent.protocol import ChatRequest
from agent.turns import Turns


@dataclass(frozen=True, slots=True)
class Reception:
    """All that the busiest route needs, in one: Litestar makes a task for each part that a route asks for."""

    turns: Turns
    agenda: Agenda
    keepalive_seconds: float

    def take(self, request: ChatRequest) -> EventLog:
        """Start a turn, or find the one of this id; its events."""
        events = self.turns.submit(request)
        self.agenda.heard(request)
        return events

    def frames(self, events: EventLog, after: int) -> AsyncIterator[bytes]:
        """The events higher than `after`, for the wire, with something at least every so many seconds."""
        return events.follow(after, self.keepalive_seconds)
