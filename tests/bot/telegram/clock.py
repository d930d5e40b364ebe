"""Time that a test moves by hand, in place of the event loop's."""

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count


@dataclass(order=True)
class Alarm:
    when: float
    number: int
    callback: Callable[[], object] = field(compare=False)
    is_cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.is_cancelled = True


class HandClock:
    """A `Clock` that stands still until `advance`."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._alarms: list[Alarm] = []
        self._numbers = count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> Alarm:
        alarm = Alarm(when, next(self._numbers), callback)
        heapq.heappush(self._alarms, alarm)
        return alarm

    async def advance(self, seconds: float) -> None:
        """Ring every alarm on the way, each at its own moment, and let the woken tasks run."""
        target = self.now + seconds
        await settle()
        while self._alarms and self._alarms[0].when <= target:
            alarm = heapq.heappop(self._alarms)
            self.now = max(self.now, alarm.when)
            if not alarm.is_cancelled:
                alarm.callback()
                await settle()
        self.now = target


async def settle() -> None:
    """Let every task that can run without waiting for anything do so."""
    for _ in range(20):
        await asyncio.sleep(0)
