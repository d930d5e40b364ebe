"""The list of a workspace in a file, as `tools/workspace_archive.py` writes it: read here, a line at a time."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = 512
_FOOTER = 20
_ENTRY = b"["


class BadListing(ValueError):
    """It is no list; the text says why."""


@dataclass(frozen=True, slots=True)
class Range:
    """A part of a file: from this byte, so many."""

    start: int
    size: int


def at_the_end(path: Path) -> Range:
    """Where in a file lies the list that ends it; `BadListing` if none does."""
    end = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, end - _FOOTER))
        last = file.read()
    size = int(last) if last.endswith(b"\n") and last[:-1].isdigit() else 0
    if not _FOOTER <= size <= end or size % BLOCK:
        raise BadListing("it does not end with a list")
    return Range(end - size, size)


def lines(path: Path, part: Range) -> Iterator[bytes]:
    """Its entries, each as one line without its end."""
    with path.open("rb") as file:
        file.seek(part.start)
        left = part.size
        while left > 0 and (line := file.readline(left)):
            left -= len(line)
            if line.startswith(_ENTRY):
                yield line.rstrip(b"\n")


def digest(path: Path, part: Range) -> str:
    """SHA-256 of what is the same on every machine that holds this workspace."""
    found = hashlib.sha256()
    for line in lines(path, part):
        found.update(line.partition(b"\t")[0] + b"\n")
    return found.hexdigest()


def fingerprint(database: str, listing: str) -> str:
    """SHA-256 of all that an agent is, from that of its database and that of its list."""
    return hashlib.sha256(f"{database}\n{listing}\n".encode()).hexdigest()
