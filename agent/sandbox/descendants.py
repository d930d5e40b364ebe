"""End everything that a call started, however it tried to get away."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from agent.sandbox.confine import become_user


def end_all() -> None:
    """Kill and reap every descendant of this process, which must have adopted orphans (`kernel.adopt_orphans`).

    First all are stopped, until nobody new appears: a stopped process cannot fork, and keeps its place in the user's
    process limit taken. Killing one by one would free places that a fork bomb fills again.
    """
    while found := _descendants():
        seen: set[int] = set()
        while found - seen:
            _signal(found - seen, signal.SIGSTOP)
            seen |= found
            found = _descendants()
        _signal(seen, signal.SIGKILL)
        _reap_all()


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


def _reap_all() -> None:
    """Wait for each child, and for those that are handed to us as their parents go."""
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
