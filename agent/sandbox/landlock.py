"""Landlock: rules that a process puts on itself and all its children, without privileges (Linux 5.13 and later).

What a kernel does not know is left out: file rules from ABI 1, TCP ports from 4 (Linux 6.7), signals and abstract
sockets from 6 (Linux 6.12). Numbers: include/uapi/linux/landlock.h.
"""

import ctypes
import os
import stat
from collections.abc import Iterable

from agent.sandbox import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH, _NET_PORT = 1, 2

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: 1 << 13, 3: _TRUNCATE, 5: _IOCTL_DEV}
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2
_ABI_NET, _ABI_SCOPE = 4, 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("rights", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _NetPort(ctypes.Structure):
    _fields_ = (("rights", ctypes.c_uint64), ("port", ctypes.c_uint64))


def abi() -> int:
    """The version this kernel speaks; 0 where Landlock is missing or off."""
    try:
        return kernel.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except OSError:
        return 0


def confine(*, read: Iterable[str], write: Iterable[str], ports: Iterable[int]) -> int:
    """Leave this process only these folders and TCP ports to connect to; the ABI that was applied (0: none)."""
    version = abi()
    if version == 0:
        return 0
    every = sum(rights for since, rights in _RIGHTS_BY_ABI.items() if since <= version)
    ruleset = _create(version, every)
    try:
        for path in read:
            _allow_path(ruleset, path, every & _READ)
        for path in write:
            _allow_path(ruleset, path, every)
        if version >= _ABI_NET:
            for port in ports:
                _add(ruleset, _NET_PORT, _NetPort(_CONNECT_TCP, port))
        kernel.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return version


def _create(version: int, rights: int) -> int:
    rules = _Ruleset(
        rights,
        _BIND_TCP | _CONNECT_TCP if version >= _ABI_NET else 0,
        _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if version >= _ABI_SCOPE else 0,
    )
    # Older kernels accept a longer structure as long as what they do not know is zero.
    size = ctypes.c_size_t(ctypes.sizeof(rules))
    return kernel.syscall(_CREATE_RULESET, ctypes.byref(rules), size, ctypes.c_uint32(0))


def _allow_path(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        is_folder = stat.S_ISDIR(os.fstat(parent).st_mode)
        _add(ruleset, _PATH_BENEATH, _PathBeneath(rights if is_folder else rights & _OF_FILES, parent))
    finally:
        os.close(parent)


def _add(ruleset: int, kind: int, rule: ctypes.Structure) -> None:
    kernel.syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(kind), ctypes.byref(rule), ctypes.c_uint32(0))
