"""Ask the launcher for a call: the agent's side of the wall."""

import asyncio
import os
import socket
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.sandbox import wire
from agent.sandbox.wire import SOCKET, Request, Result

OUTPUT_LIMIT = 65_536
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Output:
    """What a call wrote (both streams as they came), whether that was cut off, and how the call ended."""

    data: bytes
    truncated: bool
    result: Result


class Sandbox:
    """Runs programs behind the wall."""

    python = "python3"

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path
        self.changes = 0
        """How many calls may have changed files; nothing else does."""

    async def run(
        self, request: Request, stdin: bytes = b"", limit: int = OUTPUT_LIMIT, *, reads_only: bool = False
    ) -> Output:
        """Run to its end. What writes more than `limit` bytes is stopped there; cancelling this stops it too.

        `OSError` if the launcher cannot be reached, `BadRequest` if the command is too long.
        """
        try:
            return await self._run(request, pieces(stdin), limit)
        finally:
            self.changes += not reads_only

    async def stream_in(self, request: Request, chunks: AsyncIterable[bytes], limit: int = OUTPUT_LIMIT) -> Output:
        """Run as `run` does, with these chunks as its input, read no faster than it takes them.

        What is raised where they come from ends the input there, and is raised again when the program has ended.
        """
        try:
            return await self._run(request, chunks, limit)
        finally:
            self.changes += 1

    async def _run(self, request: Request, chunks: AsyncIterable[bytes], limit: int) -> Output:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(0)
            await loop.sock_connect(connection, str(self._path))
            feed, listen = _hand_over(connection, request)
            async with feeding(feed, chunks):
                data = bytearray()
                await read_pipe(listen, data, limit + 1)
                if len(data) > limit:
                    connection.shutdown(socket.SHUT_WR)
                packet = await loop.sock_recv(connection, wire.MAX_PACKET)
        if not packet:
            raise ConnectionResetError("the tool launcher broke off the call")
        return Output(bytes(data[:limit]), len(data) > limit, wire.to_result(packet))

    async def stream_out(
        self, request: Request, take: Callable[[bytes], None], chunks: AsyncIterable[bytes] | None = None
    ) -> Result:
        """Run with these chunks as its input, and hand over what it writes as it comes, however much that is."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(0)
            await loop.sock_connect(connection, str(self._path))
            feed, listen = _hand_over(connection, request)
            async with feeding(feed, chunks):
                await take_pipe(listen, take)
                packet = await loop.sock_recv(connection, wire.MAX_PACKET)
        if not packet:
            raise ConnectionResetError("the tool launcher broke off the call")
        return wire.to_result(packet)


def _hand_over(connection: socket.socket, request: Request) -> tuple[int, int]:
    """Send the request with the tool's ends of two pipes; ours: where to write its input and read its output."""
    with ExitStack() as far, ExitStack() as near:
        stdin, feed = os.pipe()
        far.callback(os.close, stdin)
        near.callback(os.close, feed)
        listen, output = os.pipe()
        far.callback(os.close, output)
        near.callback(os.close, listen)
        wire.send(connection, request, (stdin, output))
        near.pop_all()
        return feed, listen


@asynccontextmanager
async def feeding(pipe: int, chunks: AsyncIterable[bytes] | None) -> AsyncIterator[None]:
    """Write them while this lasts; what is raised where they come from is raised at its end."""
    task = asyncio.create_task(write_pipe(pipe, chunks or pieces(b"")))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        task.result()


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    """Cut data into what a pipe takes at once."""
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


async def write_pipe(pipe: int, chunks: AsyncIterable[bytes]) -> None:
    """Write them all, or until nobody reads any more; the pipe is closed then."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(pipe, "wb", 0))
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    try:
        async for chunk in chunks:
            writer.write(chunk)
            with suppress(ConnectionError):  # a program need not read all of its input
                await writer.drain()
                continue
            return
    finally:
        writer.close()


async def read_pipe(pipe: int, data: bytearray, limit: int) -> None:
    """Add to `data` what comes, to its end or until there is so much; the pipe is closed then."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_CHUNK)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0))
    try:
        while len(data) < limit and (chunk := await reader.read(_CHUNK)):
            data += chunk
    finally:
        transport.close()


async def take_pipe(pipe: int, take: Callable[[bytes], None]) -> None:
    """Hand over what comes, to its end; the pipe is closed then."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_CHUNK)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0))
    try:
        while chunk := await reader.read(_CHUNK):
            take(chunk)
    finally:
        transport.close()
