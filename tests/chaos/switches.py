"""What the test's process says to the bot's while both run: files, because a bot may die at any moment."""

import time
from pathlib import Path


class Switches:
    """In a folder that both know."""

    def __init__(self, folder: Path) -> None:
        self._clock = folder / "clock"
        self._full = folder / "store-is-full"

    def now(self) -> float:
        """Unix time, as the bot's clock has it."""
        try:
            return time.time() + float(self._clock.read_text() or 0)
        except FileNotFoundError:
            return time.time()

    def put_clock(self, seconds: float) -> None:
        """So far ahead (or behind) from now on."""
        new = self._clock.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._clock)

    def fill_store(self, *, is_full: bool) -> None:
        """The place where snapshots are kept has no room, or has room again."""
        if is_full:
            self._full.touch()
        else:
            self._full.unlink(missing_ok=True)

    def is_store_full(self) -> bool:
        return self._full.exists()
