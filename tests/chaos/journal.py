"""What bots say of themselves in a file that outlives them: one line for each fact, whole or not there."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """`at`: on a clock that all processes share and nobody sets."""

    what: str
    name: str
    at: float


class Journal:
    """Appended to by one process after the other, and read at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, what: str, name: str) -> None:
        os.write(self._file, f"{what} {name} {time.monotonic()}\n".encode())

    def close(self) -> None:
        os.close(self._file)

    def entries(self) -> Iterator[Entry]:
        for line in self._path.read_text().splitlines():
            what, name, at = line.split(" ")
            yield Entry(what, name, float(at))
