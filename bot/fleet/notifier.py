"""The ports through which the fleet tells that something changed."""

from typing import Protocol


class Notifier(Protocol):
    """Implemented by the front end, handed in by the composition root."""

    async def show(self, agent_id: int) -> None:
        """Something about this agent changed: redraw its open card. Returns at once; never raises."""


class Teller(Protocol):
    """Keeps what people are to be told; the front end tells them."""

    async def post(self, notice_id: str, user_id: int, text: str, /, **facts: str | float) -> None:
        """Tell this person (0: the operator) once; the same id again is the same news."""


OPERATOR = 0
"""The `user_id` of whoever runs this bot."""
