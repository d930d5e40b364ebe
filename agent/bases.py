"""What a later snapshot may leave out: the lists of workspaces that were sent, and which one this copy was given.

A file is as it was if its inode and its time of change are, which no program can set. So that holds only while the
clock goes forward: a mark is forgotten when the clock was put back, and at every start.
"""

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.listing import Range, lines

KEPT = 4
_TICK_NS = 1_000_000_000
"""Two changes within a tick of the file system's clock have the same time; the coarsest tick is a second or less."""
_STEP_NS = 500_000_000
_MARK_CHARS = 32


@dataclass(frozen=True, slots=True)
class Moment:
    """On the clock that files are stamped by, and on one that nobody sets; in nanoseconds."""

    wall: int
    steady: int


@dataclass(frozen=True, slots=True)
class Base:
    """A workspace as it was sent: its list, and since when (ns) a file may have changed unseen."""

    mark: str
    path: Path
    since: int


class Bases:
    """The newest few, by mark."""

    def __init__(
        self,
        folder: Path,
        wall: Callable[[], int] = time.time_ns,
        steady: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._folder = folder
        self._held = folder / "held"
        self._wall = wall
        self._steady = steady
        self._begun: dict[str, Moment] = {}
        for left in folder.glob("*.list"):
            left.unlink()

    def now(self) -> Moment:
        """To be asked for before a workspace is read."""
        return Moment(self._wall(), self._steady())

    def find(self, mark: str) -> Base | None:
        """The base of this mark, if it can still be told what has changed since."""
        begun = self._begun.get(mark)
        if begun is None:
            return None
        now = self.now()
        if now.wall - begun.wall < now.steady - begun.steady - _STEP_NS:
            return None
        return Base(mark, self._path(mark), begun.wall - _TICK_NS)

    def keep(self, source: Path, listing: Range, begun: Moment) -> str:
        """Keep the list of a workspace that was read from this moment on; its mark."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        new, digest = self._folder / "new", hashlib.sha256()
        with new.open("wb") as file:
            for line in lines(source, listing):
                digest.update(line.rpartition(b"\t")[0] + b"\n")  # also what only this machine has, to know it again
                file.write(line + b"\n")
        mark = digest.hexdigest()[:_MARK_CHARS]
        new.replace(self._path(mark))
        # Who has read it earlier may have missed a change within that tick: it counts from the first time.
        self._begun[mark] = self._begun.pop(mark, begun)
        self._forget_oldest()
        return mark

    @property
    def held(self) -> str:
        """The mark of what was restored here last; empty if it may have changed."""
        try:
            return self._held.read_text()
        except FileNotFoundError:
            return ""

    def hold(self, mark: str) -> None:
        """This is what is here now."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._held.write_text(mark)

    def let_go(self) -> None:
        """What is here may change from now on."""
        with suppress(FileNotFoundError):
            self._held.unlink()

    def _path(self, mark: str) -> Path:
        return self._folder / f"{mark}.list"

    def _forget_oldest(self) -> None:
        for mark in list(self._begun)[:-KEPT]:
            del self._begun[mark]
            self._path(mark).unlink(missing_ok=True)
