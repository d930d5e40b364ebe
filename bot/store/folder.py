"""Whose the data folder is."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from sqlalchemy import make_url

from bot.errors import BadSettings


@contextmanager
def sole_owner(folder: Path, database: str = "sqlite://") -> Iterator[None]:
    """Hold the data folder's lock; `BadSettings` if another bot has it.

    Two bots on one SQLite file would handle updates twice. Those on one server's database share the folder: there a
    lock of the server's says which of them works. `database` is its URL.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise BadSettings(
            f"DATA_DIR {folder} cannot be written ({error.strerror}); the user that the bot runs as must own it"
        ) from None
    with lock:
        if not _lock(lock, _name(database)):
            raise BadSettings(f"another bot already runs on DATA_DIR {folder}; end it, or choose another folder")
        yield


def _name(database: str) -> str:
    """Which database of a server's it is, without a password; empty for a file."""
    url = make_url(database)
    is_file = url.get_backend_name() == "sqlite"
    return "" if is_file else f"{url.host or url.query.get('host')}:{url.port}/{url.database}"


def _lock(lock: TextIO, database: str) -> bool:
    """The first alone writes down whose the folder is; others come in if it is theirs too."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            lock.seek(0)
            return bool(database) and lock.read() == database
        return False
    lock.truncate(0)
    lock.write(database)
    lock.flush()
    if database:
        fcntl.flock(lock, fcntl.LOCK_SH)
    return True
