"""The system calls that Python has no function for."""

import ctypes
import os
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, also of those that called `setsid`."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forbid_dumps() -> None:
    """No core file of this process, and its memory and environment are closed to others of its user (on Linux)."""
    if sys.platform == "linux":
        _prctl(_PR_SET_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    """From here on no program gains rights by being started."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(signal: int) -> None:
    """Have the kernel send this signal when the parent ends. To be called after a change of user, which undoes it."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def syscall(number: int, *arguments: Any) -> int:
    """Any system call; `OSError` when it fails."""
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments))


def _prctl(option: int, value: int) -> None:
    none = ctypes.c_ulong(0)
    _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), none, none, none))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
