"""The port through which the fleet tells the front end that something changed."""

from typing import Protocol


class Notifier(Protocol):
    """Implemented by the front end, handed in by the composition root."""

    async def show(self, agent_id: int) -> None:
        """Something about this agent changed: redraw its open card. Returns at once; never raises."""
