"""Runs programs for the workspace where there is no wall: as plain processes of the agent's own user.

Only their time and output are bounded. What they may do, anybody's program of this user may do: that is why the tools
that let a model run or write things are off here until the owner turns them on.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from agent.sandbox.client import OUTPUT_LIMIT, Output, feeding, pieces, read_pipe, take_pipe, write_pipe
from agent.sandbox.quota import Quota
from agent.sandbox.wire import Ended, Request, Result

_LAST_WORDS_SECONDS = 2.0
"""For output that is still in the pipe; who has left the process group may hold it open for ever."""
_SIGNALLED = 128
_PASSED_ON = ("PATH", "LANG", "TZ")
"""Of the agent's environment; the rest is nobody's business."""


class LocalRunner:
    """A folder of this machine as the workspace."""

    python = sys.executable

    def __init__(self, folder: Path, quota: Quota | None = None) -> None:
        self._folder = folder
        self._quota = quota or Quota()
        self.changes = 0
        """How many calls may have changed files. Here others may change them too."""

    async def run(
        self, request: Request, stdin: bytes = b"", limit: int = OUTPUT_LIMIT, *, reads_only: bool = False
    ) -> Output:
        """Run to its end. What writes more than `limit` bytes is stopped there; cancelling this stops it too."""
        self.changes += not reads_only
        return await self._run(request, pieces(stdin), limit)

    async def stream_in(self, request: Request, chunks: AsyncIterable[bytes], limit: int = OUTPUT_LIMIT) -> Output:
        """Run with these chunks as its input, unless the workspace is full. What they raise is raised at the end."""
        if self._folder.is_dir() and (full := await asyncio.to_thread(self._quota.excess, self._folder)):
            return Output(b"", truncated=False, result=Result("quota", 1, 0.0, full))
        return await self._run(request, chunks, limit)

    async def stream_out(
        self, request: Request, take: Callable[[bytes], None], chunks: AsyncIterable[bytes] | None = None
    ) -> Result:
        """Run with these chunks as its input, and hand over what it writes as it comes, however much that is."""
        begun = time.monotonic()
        process, feed, listen = await self._start(request)
        try:
            async with asyncio.timeout(request.seconds), feeding(feed, chunks):
                await take_pipe(listen, take)
        except TimeoutError:
            return Result("timeout", 1, time.monotonic() - begun, f"stopped after {request.seconds:.0f} s")
        finally:
            _end_all(process)
            code = await process.wait()
        return Result("exit", _code(code), time.monotonic() - begun)

    async def _run(self, request: Request, chunks: AsyncIterable[bytes], limit: int) -> Output:
        begun = time.monotonic()
        process, feed, listen = await self._start(request)
        data = bytearray()
        writing = asyncio.create_task(write_pipe(feed, chunks))
        reading = asyncio.create_task(read_pipe(listen, data, limit + 1))
        try:
            ended = await _watch(process, reading, lambda: len(data) > limit, request.seconds)
            await asyncio.wait({reading}, timeout=_LAST_WORDS_SECONDS)
        finally:
            writing.cancel()
            reading.cancel()
            await asyncio.gather(writing, reading, return_exceptions=True)
        if not writing.cancelled():
            writing.result()
        text = f"stopped after {request.seconds:.0f} s" if ended == "timeout" else ""
        result = Result(ended, _code(await process.wait()), time.monotonic() - begun, text)
        return Output(bytes(data[:limit]), len(data) > limit, result)

    async def _start(self, request: Request) -> tuple[asyncio.subprocess.Process, int, int]:
        """The program, and our ends of its input and its output.

        Pipes of our own: those of asyncio's processes stay open for as long as anybody holds them.
        """
        place = self._folder / request.folder
        await asyncio.to_thread(place.mkdir, mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as far, ExitStack() as near:
            stdin, feed = os.pipe()
            far.callback(os.close, stdin)
            near.callback(os.close, feed)
            listen, output = os.pipe()
            far.callback(os.close, output)
            near.callback(os.close, listen)
            process = await asyncio.create_subprocess_exec(
                *request.command,
                cwd=place,
                env=self._environment(),
                stdin=stdin,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            near.pop_all()
        return process, feed, listen

    def _environment(self) -> dict[str, str]:
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return {"LANG": "C.UTF-8"} | passed | {"HOME": str(self._folder), "WORKSPACE": str(self._folder)}


async def _watch(
    process: asyncio.subprocess.Process, reading: "asyncio.Task[None]", is_too_much: Callable[[], bool], seconds: float
) -> Ended:
    """Until it has ended, has written too much or has had its time; then everything it has started ends too."""
    exiting = asyncio.ensure_future(process.wait())
    try:
        async with asyncio.timeout(seconds):
            await asyncio.wait({exiting, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not is_too_much():
                await asyncio.wait({exiting})
    except TimeoutError:
        return "timeout"
    else:
        return "exit"
    finally:
        _end_all(process)
        await asyncio.wait({exiting})


def _end_all(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _code(code: int) -> int:
    return code if code >= 0 else _SIGNALLED - code
