"""What the agent will do unasked, and when the control plane shall call for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from agent import protocol
from agent.heartbeat import Heartbeat
from agent.outbox import Outbox
from agent.protocol import ChatRequest
from agent.schedule import Schedule
from agent.store import Store


@dataclass(frozen=True, slots=True)
class Agenda:
    """Letters that wait, the schedule, the heartbeat."""

    store: Store
    outbox: Outbox
    schedule: Schedule
    heartbeat: Heartbeat
    clock: Callable[[], float] = field(default=time.time)

    @classmethod
    def of(cls, store: Store, *, heartbeat_minutes: float, clock: Callable[[], float] = time.time) -> "Agenda":
        """Kept in this store."""
        heartbeat = Heartbeat(store, heartbeat_minutes * 60)
        return cls(store, Outbox(store, clock=clock), Schedule(store), heartbeat, clock)

    def heard(self, request: ChatRequest) -> None:
        """Somebody spoke."""
        self.heartbeat.heard(request, self.clock())

    def next_due(self, after: int = 0) -> float | None:
        """Unix time at which to be called next; 0 (at once) while letters numbered above `after` wait."""
        if self.outbox.has_after(after):
            return 0
        return min(
            (due for due in (self.schedule.next_due(), self.heartbeat.next_due()) if due is not None), default=None
        )

    def letters(self, after: int = 0) -> protocol.Outbox:
        """A page of the outbox; and when to be called when that is safe."""
        page = self.outbox.page(after)
        return protocol.Outbox(letters=page, next_due=self.next_due(page[-1].id if page else after))
