"""The workspace as a part of a snapshot: packed, listed and restored by a program of its own user, behind the wall."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import IO

from agent import archive, listing
from agent.archive import Contents
from agent.bases import Base
from agent.protocol import Part
from agent.sandbox.client import Output
from agent.sandbox.wire import Request
from agent.workspace import Runner

MAX_BYTES = 4_000_000_000
PACK_SECONDS = 600.0
OTHER_BASE = 4
"""Exit code of the program: what should be here already is not, and nothing has changed."""
_PROGRAM = resources.files("agent").joinpath("tools/workspace_archive.py").read_text()
_CHUNK = 1 << 20


class NotPacked(Exception):
    """The workspace could not be read, or not be written; the text says how it ended."""


class Packer:
    """Does it, wherever programs run."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def pack(self, file: IO[bytes], base: Base | None) -> Part:
        """Append the workspace to an archive, without the files that the base has; the list is its end."""
        digest, size = hashlib.sha256(), 0

        def take(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            digest.update(piece)
            file.write(piece)
            if size > MAX_BYTES:
                raise NotPacked(f"the workspace has more than {MAX_BYTES} bytes, holes in files counted")

        known = _known(base) if base else None
        ended = await self._runner.stream_out(self._request("pack"), take, known)
        if ended.code:
            raise NotPacked(ended.text or f"{ended.ended}, exit code {ended.code}")
        return Part(name=archive.WORKSPACE, size=size, sha256=digest.hexdigest())

    async def digest(self, path: Path) -> str:
        """SHA-256 of the workspace's list, which is written into this file on the way."""
        with path.open("wb") as file:

            def take(piece: bytes) -> None:
                file.write(piece)

            ended = await self._runner.stream_out(self._request("list"), take)
        if ended.code:
            raise NotPacked(ended.text or f"{ended.ended}, exit code {ended.code}")
        return await asyncio.to_thread(lambda: listing.digest(path, listing.at_the_end(path)))

    async def restore(self, path: Path, contents: Contents) -> Output:
        """Make the workspace what an archive says; with exit code `OTHER_BASE` nothing was touched."""
        operation = "restore" if contents.listing else "unpack"
        return await self._runner.stream_in(self._request(operation), _workspace_of(path, contents))

    def _request(self, operation: str) -> Request:
        return Request([self._runner.python, "-I", "-S", "-c", _PROGRAM, operation], seconds=PACK_SECONDS)


async def _known(base: Base) -> AsyncIterator[bytes]:
    yield b"%d\n" % base.since
    file = await asyncio.to_thread(base.path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, _CHUNK):
            yield piece
    finally:
        file.close()


async def _workspace_of(path: Path, contents: Contents) -> AsyncIterator[bytes]:
    if contents.listing:
        yield contents.listing.size.to_bytes(8, "big")
        async for piece in _pieces(path, contents.listing):
            yield piece
    async for piece in _pieces(path, contents.entries):
        yield piece
    yield archive.END


async def _pieces(path: Path, part: listing.Range) -> AsyncIterator[bytes]:
    pieces = archive.read(path, part)
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece
