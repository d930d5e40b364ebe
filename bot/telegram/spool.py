"""Files on their way, on disk: they go when they are closed."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, cast

from bot.errors import FileLost
from bot.log import line

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20


async def spool(folder: Path | None) -> IO[bytes]:
    """An empty file in `folder`, or where the system has such; `FileLost` if there is no room."""
    try:
        return cast("IO[bytes]", await asyncio.to_thread(tempfile.NamedTemporaryFile, "w+b", dir=folder))
    except OSError as error:
        raise _no_room(error) from error


async def write(target: IO[bytes], piece: bytes) -> None:
    """And have it on disk, to be read there by its name; `FileLost` if there is no room."""
    try:
        await asyncio.to_thread(target.write, piece)
        target.flush()
    except OSError as error:
        raise _no_room(error) from error


async def pieces_of(source: IO[bytes]) -> AsyncIterator[bytes]:
    """What an open file holds from here on."""
    while piece := await asyncio.to_thread(source.read, PIECE_BYTES):
        yield piece


def _no_room(error: OSError) -> FileLost:
    log.error(line("no room for a file on its way", why=error.strerror))
    return FileLost("relay-file-lost")
