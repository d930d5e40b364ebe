"""How much a workspace may hold. There is no file system quota inside a container, so it is measured while tools run.

To be called with the rights of the workspace's owner: root without capabilities cannot look inside.
"""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 512
_PAUSE_SECONDS = 0.25
_SHARE = 10
"""Of the time, one part in so many may go into measuring."""
_RESERVE_BYTES = 64 << 20
"""Of the disk, left for the agent's own database."""


@dataclass(frozen=True, slots=True)
class Quota:
    """At most so many bytes and files."""

    bytes: int = 1 << 30
    files: int = 50_000

    def excess(self, folder: Path) -> str:
        """What is too much, in words; empty if nothing is."""
        try:
            size, files = measure(folder)
        except TooDeep:
            return "folders in the workspace are nested too deeply: delete them"
        if size > self.bytes:
            return f"the workspace holds {size >> 20} MB, and may hold {self.bytes >> 20} MB: delete something"
        if files > self.files:
            return f"the workspace holds {files} files, and may hold {self.files}: delete some"
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < _RESERVE_BYTES:
            return "the disk of this machine is full: delete something"
        return ""


class TooDeep(OSError):
    """Folders are nested beyond what a path can name."""


def measure(folder: Path) -> tuple[int, int]:
    """Bytes on disk and number of entries below a folder, without following links; a hard link counts once."""
    size = count = 0
    seen: set[int] = set()
    folders = [str(folder)]
    while folders:
        for entry, status in _entries(folders.pop()):
            count += 1
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                size += status.st_blocks * _BLOCK
            if stat.S_ISDIR(status.st_mode):
                folders.append(entry.path)
    return size, count


def _entries(folder: str) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    # A running tool removes and renames what it likes.
    with suppress(FileNotFoundError, NotADirectoryError):
        try:
            for entry in _listing(folder):
                yield entry, entry.stat(follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise TooDeep from error
            raise


def _listing(folder: str) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except PermissionError:
        os.chmod(folder, 0o700)  # closed by its owner, who could fill it unseen  # noqa: PTH101
        return list(os.scandir(folder))


class Watch:
    """Measures now and then: often while it is quick, seldom when there are many files."""

    def __init__(self, quota: Quota, folder: Path) -> None:
        self._quota = quota
        self._folder = folder
        self._next = 0.0

    def pause(self) -> float:
        """Seconds until it wants to measure again."""
        return max(0.0, self._next - time.monotonic())

    def excess(self) -> str:
        """What is too much now; empty if nothing is, or if it is not time yet."""
        start = time.monotonic()
        if start < self._next:
            return ""
        found = self._quota.excess(self._folder)
        end = time.monotonic()
        self._next = end + max(_PAUSE_SECONDS, _SHARE * (end - start))
        return found
