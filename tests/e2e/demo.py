"""`make demo` as a process of its own, in a folder of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.servers import ROOT

SECONDS = 60.0
OWN = ("LIBERTAI_API_KEY", "LLM_BASE_URL", "LLM_API_KEY", "LLM_MODEL")


@dataclass(frozen=True)
class Ended:
    """How it ended, and all that it wrote."""

    code: int
    said: str


async def drive(folder: Path, *arguments: str, path: str = os.environ["PATH"], seconds: float = SECONDS) -> Ended:
    """`make demo CHECK=1`."""
    async with running(folder, "--check", *arguments, path=path) as process:
        said, _ = await asyncio.wait_for(process.communicate(), seconds)
    return Ended(process.returncode or 0, said.decode())


@asynccontextmanager
async def running(
    folder: Path, *arguments: str, path: str = os.environ["PATH"]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """It, told to stop in the end if it still runs."""
    environment = {name: value for name, value in os.environ.items() if name not in OWN} | {"PATH": path}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.demo", "--model", "scripted", "--folder", str(folder), *arguments),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.communicate()


async def url_of(process: asyncio.subprocess.Process) -> str:
    """Of the chat page, once it says it."""
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(SECONDS):
        while line := (await process.stdout.readline()).decode():
            said += line
            if "Open http://" in line:
                return line.split()[-1]
    raise AssertionError(said)
