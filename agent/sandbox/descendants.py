"""End everything that a call started, however it tried to get away."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from agent.sandbox.confine import become_user

_PAUSE = 0.001
"""Seconds that the killed are given to die."""


def end_all() -> None:
    """Kill and reap every descendant of this process, which must have adopted orphans (`kernel.adopt_orphans`).

    First all are stopped, until nobody new appears: a stopped process cannot fork, and keeps its place in the user's
    process limit taken. Killing one by one would free places that a fork bomb fills again.

    One pass over /proc can miss a process that was born while it looked. So the end is not when nobody is found, but
    when the kernel says that we have no child left: as orphans become ours, we have no descendant then.
    """
    while _has_children():
        seen: set[int] = set()
        while new := _descendants() - seen:
            _signal(new, signal.SIGSTOP)
            seen |= new
        _signal(seen, signal.SIGKILL)
        time.sleep(_PAUSE)


def sweep(user: int) -> None:
    """Kill every process of a user at once; for when the keeper of a call has died and left its tools behind."""
    child = os.fork()
    if child == 0:
        with suppress(ProcessLookupError):
            become_user(user)
            os.kill(-1, signal.SIGKILL)
        os._exit(0)
    os.waitpid(child, 0)


def _descendants() -> set[int]:
    """All that live, children before grandchildren are found as the tree is walked down; zombies are not counted."""
    parents = _parents()
    found: set[int] = set()
    level = {os.getpid()}
    while level := {child for child, parent in parents.items() if parent in level} - found:
        found |= level
    return found


def _parents() -> dict[int, int]:
    """Process → parent, of everything in this container that is not a zombie (proc_pid_stat(5))."""
    table: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(FileNotFoundError, ProcessLookupError):
            state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                table[int(entry.name)] = int(parent)
    return table


def _signal(processes: set[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _has_children() -> bool:
    """After reaping the dead ones, those too that were handed to us as their parents went."""
    try:
        while True:
            dead, _ = os.waitpid(-1, os.WNOHANG)
            if not dead:
                return True
    except ChildProcessError:
        return False
