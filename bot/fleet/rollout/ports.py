"""What a rollout needs of others."""

from collections.abc import Awaitable, Callable
from typing import Protocol

Nudge = Callable[[int], Awaitable[None]]
"""A wish of this agent has changed: start working on it now."""


class Wishes(Protocol):
    """Has an agent's release changed; the fleet makes it come true."""

    async def wish(self, agent_id: int, *, release: str) -> bool:
        """It shall run this: a new generation. False if nothing changed: it shall already, or it is deleted."""


class Probes(Protocol):
    """How an agent is that was updated."""

    async def health(self, agent_id: int) -> bool:
        """Whether it answers as itself, asked more than once if need be: one False pauses the rollout."""

    async def probe(self, agent_id: int) -> None:
        """Have it ask its model for a word, as in a real turn; a `BaalError` says why that fails."""


class Money(Protocol):
    """What the balance allows. Asked every few seconds while agents are updated: answers are to be kept a while."""

    async def affordable(self) -> int | None:
        """How many more machines the provider would rent now (its 24-hour rule); None: as many as one likes."""

    async def runway(self) -> float | None:
        """Hours that the balance lasts; None: nothing is paid for."""


class Unpaid:
    """Machines that cost nothing: one's own."""

    async def affordable(self) -> int | None:
        return None

    async def runway(self) -> float | None:
        return None
