"""An agent's whole state as a file that its owner keeps: packed and sent, fetched back, checked, put in place.

It is the archive of a snapshot, compressed so that any laptop opens it. No key is in it.
"""

import asyncio
import datetime as dt
import gzip
import tarfile
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import IO, Protocol

from pydantic import ValidationError

from agent.protocol import MAX_FILE_BYTES, Manifest
from bot.errors import Refused
from bot.store.models import Agent
from bot.telegram.files import AgentFile, FileSender
from bot.telegram.source import TelegramFiles
from bot.telegram.spool import PIECE_BYTES, pieces_of, spool, write

ENDING = ".baal.tar.gz"
MEDIA_TYPE = "application/gzip"
GZIP, GZIP_MAGIC = 31, b"\x1f\x8b"
DATABASE, MANIFEST = "agent.db", "manifest.json"
MAX_MANIFEST_BYTES = 1_000_000
MAX_PLAIN_BYTES = 1_000_000_000
"""What a file may unpack to: 20 MB can be made to hold any amount of nothing."""


class States(Protocol):
    """Whole agents as plain archives. Implemented where agents, machines and snapshots are known."""

    def archive(self, agent_id: int) -> AsyncGenerator[bytes]:
        """All that it is now; of one that is asleep, its newest snapshot. `AgentError` if it cannot be had."""
        ...

    async def restore(self, agent_id: int, pieces: AsyncIterator[bytes]) -> None:
        """Put this in place of what it is, which is kept as a snapshot first; returns when that is done.

        `AgentError` if it cannot be: then nothing has changed. A second time is harmless.
        """
        ...


class Parcels:
    """Sends and fetches them; on their way they are in `folder`."""

    def __init__(
        self, states: States, sender: FileSender, source: TelegramFiles, *, folder: Path | None = None
    ) -> None:
        self._states = states
        self._sender = sender
        self._source = source
        self._folder = folder

    async def send(self, chat_id: int, agent: Agent, *, caption: str, today: dt.date) -> None:
        """`Refused` (`export-too-large`) if Telegram does not take it, `FileLost` if the agent does not give it."""
        file = AgentFile(
            file_name(agent.name, today),
            MEDIA_TYPE,
            MAX_FILE_BYTES,  # nobody knows before it is packed
            lambda: aclosing(packed(self._states.archive(agent.id or 0))),
            caption,
        )
        await self._sender.send(chat_id, file, silent=False)

    async def look(self, file_id: str) -> Manifest:
        """What a person's file says of itself. `Refused` if it is none of ours, `FileLost` if it cannot be fetched."""
        async with self._fetched(file_id) as (_, manifest):
            return manifest

    async def put(self, agent_id: int, file_id: str) -> None:
        """`States.restore` with a person's file; what `look` refuses is refused here too."""
        async with self._fetched(file_id) as (file, _):
            with _opened(file) as plain:
                await self._states.restore(agent_id, pieces_of(plain))

    @asynccontextmanager
    async def _fetched(self, file_id: str) -> AsyncIterator[tuple[Path, Manifest]]:
        with await spool(self._folder) as target:
            async with self._source.open(file_id) as pieces:
                async for piece in pieces:
                    await write(target, piece)
            yield Path(target.name), await asyncio.to_thread(check, Path(target.name))


def file_name(agent: str, today: dt.date) -> str:
    """What the file is called: people see it in their downloads."""
    return f"{'-'.join(agent.split())}-{today.isoformat()}{ENDING}"


async def packed(pieces: AsyncGenerator[bytes], limit: int = MAX_FILE_BYTES) -> AsyncGenerator[bytes]:
    """Compress on the way. `Refused` if it comes to more than `limit`, after all of it was counted: people ask."""
    packer, plain, size = zlib.compressobj(wbits=GZIP), 0, 0
    async with aclosing(pieces):
        async for piece in pieces:
            plain += len(piece)
            if size <= limit:
                squeezed = await asyncio.to_thread(packer.compress, piece)
                size += len(squeezed)
                if squeezed and size <= limit:
                    yield squeezed
    rest = packer.flush()
    if size + len(rest) > limit:
        raise Refused("export-too-large", size=f"{plain / 1e6:,.0f}", limit=limit // 1_000_000)
    yield rest


def check(path: Path) -> Manifest:
    """Read a file to its end, whatever it is, and find what it says of itself. `Refused` if it is none of ours."""
    try:
        _measure(path)
        with _opened(path) as plain:
            return _manifest(plain)
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValidationError, UnicodeError) as error:
        raise Refused("import-not-ours") from error


def _measure(path: Path) -> None:
    # Also the checksum at its end: a file that was cut says so here.
    size = 0
    with _opened(path) as plain:
        while piece := plain.read(PIECE_BYTES):
            size += len(piece)
            if size > MAX_PLAIN_BYTES:
                raise Refused("import-swells", limit=MAX_PLAIN_BYTES // 1_000_000)


def _opened(path: Path) -> IO[bytes]:
    # Some browsers unpack what they load.
    with path.open("rb") as file:
        is_packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return gzip.open(path) if is_packed else path.open("rb")  # type: ignore[return-value]  # a GzipFile is one


def _manifest(plain: IO[bytes]) -> Manifest:
    with tarfile.open(fileobj=plain, mode="r|", errorlevel=2) as archive:
        first = archive.next()
        if first is None or first.name != DATABASE:
            raise tarfile.TarError(f"it does not begin with {DATABASE}")
        while member := archive.next():
            archive.members = []  # type: ignore[attr-defined]  # or it keeps each of 100,000
            if member.name == MANIFEST and member.size <= MAX_MANIFEST_BYTES:
                found = archive.extractfile(member)
                return Manifest.model_validate_json(found.read() if found else b"")
    raise tarfile.TarError(f"it holds no {MANIFEST}")
