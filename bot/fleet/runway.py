"""Tell the operator in time that the credits for machines run out, and how many to add."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, runtime_checkable

from bot.accounts.kept import KeptAnswers
from bot.log import line

log = logging.getLogger(__name__)

LOOK_SECONDS = 3600.0
LOW_HOURS, SHORT_HOURS = 72, 48
"""Below the first it is time to top up; at 24 nothing new can be rented, and what runs is taken away (aleph.md §5)."""
CLEAR_HOURS = 12
"""So many more than at a level are needed until it is warned of again."""
ENOUGH_HOURS = 30 * 24
KEPT, TEXT = "runway", "notice-operator-runway"


class Burn(Protocol):
    """What a provider's balance is, and how long it lasts."""

    @property
    def balance(self) -> int:
        """Credits."""

    @property
    def per_second(self) -> float:
        """Credits that are spent now."""

    @property
    def hours(self) -> float:
        """Infinite if nothing is spent."""

    def missing(self, hours: float) -> int:
        """Credits to add, to last so long."""


@runtime_checkable
class Paid(Protocol):
    """A provider that is paid from a balance."""

    async def burn(self) -> Burn:
        """What is there, and how long it lasts."""


class Tell(Protocol):
    """Has the operator told something."""

    async def __call__(self, notice_id: str, text: str, /, **facts: Any) -> None:
        """The same id is told once; `text` is a key."""


class Warnings:
    """Says once at each level that credits run out, and again only after there were enough; also over restarts."""

    def __init__(self, kept: KeptAnswers, tell: Tell) -> None:
        self._kept = kept
        self._tell = tell

    async def look(self, burn: Burn) -> None:
        """Tell the operator if it has become worse."""
        state = json.loads(await self._kept.get(KEPT) or '{"level": 0, "times": 0}')
        told, times = int(state["level"]), int(state["times"])
        level = _level(burn.hours, told)
        if level == told:
            return
        is_worse = bool(level) and (not told or level < told)
        if is_worse:
            await self._tell(f"runway-{times}-{level}", TEXT, hours=int(burn.hours), credits=burn.balance)
        # Counted when it is better, so that the next time is another notice.
        await self._kept.put(KEPT, json.dumps({"level": level, "times": times if is_worse else times + 1}))


def _level(hours: float, told: int) -> int:
    """The level to warn of, 0 for none. What was told holds until it is clearly better."""
    level = next((each for each in (SHORT_HOURS, LOW_HOURS) if hours < each), 0)
    is_better = told and not 0 < level <= told
    return told if is_better and hours < told + CLEAR_HOURS else level


class Runway:
    """Looks once an hour."""

    def __init__(
        self,
        burn: Callable[[], Awaitable[Burn]],
        *,
        warnings: Warnings | None = None,
        pause: float = LOOK_SECONDS,
    ) -> None:
        """`warnings` are told besides the log."""
        self._burn = burn
        self._warnings = warnings
        self._pause = pause

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look now and then every hour, until the end of the block."""
        watching = asyncio.create_task(self._watch(), name="runway")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("runway not looked at")
            await asyncio.sleep(self._pause)

    async def look(self) -> None:
        """Warn if there is reason to."""
        try:
            burn = await self._burn()
        except Exception as error:  # noqa: BLE001  a loop's top: looked at again in an hour
            log.warning(line("runway not known", why=error))
            return
        if burn.hours < LOW_HOURS:
            level = logging.ERROR if burn.hours < SHORT_HOURS else logging.WARNING
            log.log(level, "%s", _told(burn))
        if self._warnings:
            await self._warnings.look(burn)


def _told(burn: Burn) -> str:
    return (
        f"the credits for machines last {burn.hours:.0f} h ({burn.balance:,} are left): add "
        f"{burn.missing(ENOUGH_HOURS):,} to have enough for 30 days; below 24 h machines are taken away, data and all"
    )
