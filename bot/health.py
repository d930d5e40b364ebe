"""What the bot says when it is asked how it is: every part answers for itself."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass

from bot.log import line

log = logging.getLogger(__name__)

OK = "ok"
CHECK_SECONDS = 5.0
"""A part that has not answered by then does not work."""
FRESH_SECONDS = 1.0
"""Who asks again sooner hears the same: asking often must not become work for the database."""

Check = Callable[[], Coroutine[None, None, str]]
"""What is wrong with a part, in a few words without secrets; empty when it works."""


@dataclass(frozen=True, slots=True)
class Report:
    """How each part is: `OK`, or what is wrong with it."""

    parts: Mapping[str, str]
    is_standby: bool = False

    @property
    def status(self) -> str:
        """In one word."""
        if self.is_standby:
            return "standby"
        return OK if self.is_well else "unhealthy"

    @property
    def is_well(self) -> bool:
        """Whether all of them work."""
        return all(words == OK for words in self.parts.values())


class Health:
    """Asks all parts at once. Many who ask together hear the same, and a part that hangs is not asked twice."""

    def __init__(self, checks: Mapping[str, Check], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = {name: _Part(check) for name, check in checks.items()}
        self._clock = clock
        self._asking = asyncio.Lock()
        self._last = Report({})
        self._asked_at = -math.inf

    async def report(self) -> Report:
        """How every part is now, or was less than `FRESH_SECONDS` ago."""
        async with self._asking:
            if self._clock() - self._asked_at > FRESH_SECONDS:
                report = await self._ask_all()
                _log_change(self._last, report)
                self._last, self._asked_at = report, self._clock()
            return self._last

    async def _ask_all(self) -> Report:
        answers = await asyncio.gather(*(part.ask() for part in self._parts.values()))
        return Report(dict(zip(self._parts, answers, strict=True)))


class Standby(Health):
    """A bot that waits until it has to take over is as it should be, and has no parts yet: nobody shall end it."""

    def __init__(self) -> None:
        super().__init__({})

    async def report(self) -> Report:
        """Always the same."""
        return Report({}, is_standby=True)


class _Part:
    """One part. A question it has not answered stays open: to cancel it could take as long as the answer."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._question: asyncio.Task[str] | None = None

    async def ask(self) -> str:
        question = self._question = self._question or asyncio.create_task(self._check(), name="health")
        answered, _ = await asyncio.wait({question}, timeout=CHECK_SECONDS)
        if not answered:
            return f"no answer in {CHECK_SECONDS:.0f} s"
        self._question = None
        error = question.exception()
        # What it says may quote an address; its name does not.
        return type(error).__name__ if error else question.result() or OK


def _log_change(before: Report, now: Report) -> None:
    for part, words in now.parts.items():
        if words != OK and before.parts.get(part, OK) == OK:
            log.warning(line("not well", part=part, why=words))
        elif words == OK and before.parts.get(part, OK) != OK:
            log.info(line("well again", part=part))
