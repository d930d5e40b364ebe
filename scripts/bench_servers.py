"""The processes of the benchmark: each on a socket that is open before it starts."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Server:
    """A running process."""

    url: str
    process: psutil.Process
    started: float
    """Seconds from its start to its first answer on `/health`."""

    def cpu_seconds(self) -> float:
        """CPU time used so far, by Linux' own count in nanoseconds; psutil's is in hundredths of a second."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def megabytes(self) -> float:
        """Memory it holds now."""
        return float(self.process.memory_info().rss) / 1e6


@contextmanager
def running(module: str, environment: dict[str, str]) -> Iterator[Server]:
    """Run a module of ours until it answers, and end it with the block."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as door:
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        variables = os.environ | environment | {"AGENT_FD": str(door.fileno())}
        begun = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", module], env=variables, pass_fds=[door.fileno()], stderr=subprocess.DEVNULL
        )
    try:
        httpx.get(f"{url}/health", timeout=START_SECONDS).raise_for_status()  # it waits in the open port's queue
        yield Server(url, psutil.Process(process.pid), time.perf_counter() - begun)
    finally:
        process.terminate()
        process.wait(10)
