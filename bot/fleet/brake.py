"""Slow down after failures, and stop after some in a row: nobody pays again and again for what does not work."""

DELAYS = (60.0, 180.0, 600.0, 1800.0, 3600.0)
"""Seconds until the next try, after the first failure in a row, the second, …; with the last, it is off."""


class Brake:
    """In memory alone: an operator's restart lets it go."""

    def __init__(self) -> None:
        self.failures = 0
        """In a row."""
        self.free_at = 0.0
        """Unix time of the next try."""
        self._failed_at = float("-inf")

    @property
    def is_off(self) -> bool:
        """So often in a row that it is tried once an hour only."""
        return self.failures >= len(DELAYS)

    def failed(self, begun: float, now: float) -> bool:
        """Something that began then has failed now; whether that turned it off.

        What began before the last failure was known says nothing new: many may fail of one cause.
        """
        if begun <= self._failed_at:
            return False
        was_off = self.is_off
        self.failures += 1
        self._failed_at = now
        self.free_at = now + DELAYS[min(self.failures, len(DELAYS)) - 1]
        return self.is_off and not was_off

    def ease(self) -> None:
        """It works."""
        self.failures, self.free_at = 0, 0.0
