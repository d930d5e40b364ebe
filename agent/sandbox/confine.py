"""What a tool gives up between its birth and its first instruction, and where it may go afterwards."""

import math
import os
import resource
import signal
from pathlib import Path
from typing import NoReturn

from agent.sandbox import kernel, landlock
from agent.sandbox.wire import Request

TOOL = 10003
"""User and group of every tool (Dockerfile.agent)."""
WORKSPACE = Path("/workspace")
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(WORKSPACE), "LANG": "C.UTF-8", "TMPDIR": "/tmp"}  # noqa: S108  the container's own

_MB = 1 << 20
_LIMITS = {
    resource.RLIMIT_AS: 1024 * _MB,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: 64 * _MB,
    resource.RLIMIT_MSGQUEUE: 0,
    resource.RLIMIT_NOFILE: 256,
    resource.RLIMIT_NPROC: 64,
}
_FIRST_TO_DIE = "1000"
_READ = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/proc", "/dev")
_WRITE = (str(WORKSPACE), "/tmp", "/dev/shm", "/dev/null", "/dev/zero", "/dev/full", "/dev/tty")  # noqa: S108
_PORTS = (80, 443)
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def become_tool(request: Request, *, may_write: bool) -> NoReturn:
    """Turn this (just forked) process into the program of a request, or end it saying why that failed."""
    try:
        _give_up_rights(request, may_write=may_write)
        os.chdir(WORKSPACE / request.folder)
    except Exception as error:  # noqa: BLE001  whatever it is, nothing of the parent may go on here
        _end(_NOT_EXECUTABLE, f"cannot work in {request.folder}: {error}")
    program = request.command[0]
    try:
        os.execvpe(program, list(request.command), ENVIRONMENT)  # noqa: S606  words, no shell
    except FileNotFoundError:
        _end(_NOT_FOUND, f"{program}: not found")
    except Exception as error:  # noqa: BLE001  likewise
        _end(_NOT_EXECUTABLE, f"{program}: cannot be started: {error}")


def become_user(number: int) -> None:
    """Change user and group for good, and belong to no other group."""
    os.setgroups([])
    os.setresgid(number, number, number)
    os.setresuid(number, number, number)


def _give_up_rights(request: Request, *, may_write: bool) -> None:
    os.setsid()
    os.umask(0o077)
    # Before the change of user: afterwards our own entry in /proc is root's.
    Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_DIE)
    for limit, value in _LIMITS.items():
        resource.setrlimit(limit, (value, value))
    if not may_write:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    seconds = math.ceil(request.seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    become_user(TOOL)
    kernel.die_with_parent(signal.SIGKILL)
    kernel.forbid_new_privileges()
    # Python ignores both. A shell should end with its reader, but go on after a file that may not grow (EFBIG).
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    landlock.confine(read=_READ, write=_WRITE, ports=_PORTS)


def _end(code: int, words: str) -> NoReturn:
    os.write(2, f"{words}\n".encode(errors="replace"))
    os._exit(code)
