"""Processes that outlive a `kill -9` of what has started them: written down, and ended by the next run."""

from contextlib import suppress
from pathlib import Path

import psutil

END_SECONDS = 20.0


def note(file: Path, pid: int) -> None:
    """Write down a process that was just started, so that no later one of the same number is taken for it."""
    with suppress(psutil.NoSuchProcess), file.open("a") as ledger:
        ledger.write(f"{pid} {psutil.Process(pid).create_time()}\n")


def end_all(file: Path) -> None:
    """End those that still run, the newest first: what they have started ends with them."""
    if not file.exists():
        return
    noted = [line.split() for line in file.read_text().splitlines()]
    running = [process for pid, created in reversed(noted) if (process := _find(int(pid), float(created)))]
    for process in running:
        _end(process)


def _find(pid: int, created: float) -> psutil.Process | None:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return process if process.create_time() == created else None
    return None


def _end(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(END_SECONDS)
