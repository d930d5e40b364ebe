"""Servers of ours as processes that end with what started them."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
STOP_SECONDS = 15
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Host:
    """Where a server here must listen, and what those call it who are to reach it."""

    listen: str = LOOPBACK
    called: str = LOOPBACK

    def seen(self, url: str) -> str:
        """The URL of a server that listens there, as they must write it."""
        return f"http://{self.called}:{urlsplit(url).port}"


async def start_server(
    stack: AsyncExitStack, module: str, *arguments: str, log: Path, note: Callable[[int], None] | None = None
) -> str:
    """Run a module that prints its URL when it is ready; the URL. It ends with the stack.

    `note` is told its process id at once.
    """
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            process_group=0,  # a Ctrl-C in the terminal is for what started it
        )
    stack.push_async_callback(end, process)
    if note:
        note(process.pid)
    assert process.stdout is not None  # noqa: S101  PIPE was asked for
    async with asyncio.timeout(START_SECONDS):
        line = (await process.stdout.readline()).decode().strip()
    if "http://" not in line:
        raise SystemExit(f"{module} did not start: {line or log.read_text()}")  # noqa: ASYNC240  the end
    return line[line.index("http://") :].split()[0]


async def end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM; SIGKILL if it takes too long."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
