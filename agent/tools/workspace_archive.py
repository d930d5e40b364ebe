"""Pack the workspace into tar blocks, list it, or restore it: run as text by the workspace's user, behind the wall.

Not imported by the agent. `pack` writes blocks to standard output, without the two that end an archive, and as their
last file the list of all that is there; of what the list on standard input tells already, only the list. `list` writes
the list alone. `restore` reads the length of a list (eight bytes), the list, and a whole archive of what it says comes;
`unpack` an archive without a list. Nothing else is ever written: standard error may be the same pipe.

A line of the list has what is the same on every machine (JSON), after a tab what changes here with every change of the
entry, and after another whether the archive has its bytes (1) or its receiver (0).
"""

import json
import os
import stat
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tarfile

TOP = os.environ.get("WORKSPACE", "/workspace").rstrip("/")
NAME, LIST = "workspace", "workspace.list"
CHUNK, BLOCK = 1 << 20, 512
OPENED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
FOOTER = 20
"""Bytes of the last line of a list: how many bytes the list has."""
WRONG, OTHER_BASE = 1, 4
HERE, THERE = b"\t1", b"\t0"

# --- what is there


def walk(folder: str = TOP) -> Iterator[str]:
    """Everything below, in order of names, so that the same workspace gives the same bytes."""
    folders = [folder]
    while folders:
        here = folders.pop()
        entries: list[os.DirEntry[str]] = []
        with suppress(FileNotFoundError, NotADirectoryError):
            entries = sorted(os.scandir(here), key=lambda entry: os.fsencode(entry.name))
        for entry in entries:
            open_up(entry)
            yield entry.path
        folders += [entry.path for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]


def open_up(entry: os.DirEntry[str]) -> None:
    """What its owner has shut to itself by mistake."""
    with suppress(FileNotFoundError):
        if entry.is_dir(follow_symlinks=False) and not os.access(entry.path, os.R_OK | os.X_OK):
            Path(entry.path).chmod(0o700)
        elif entry.is_file(follow_symlinks=False) and not os.access(entry.path, os.R_OK):
            Path(entry.path).chmod(0o600)


def name_of(path: str) -> str:
    """Where it is, below the workspace."""
    return path.removeprefix(f"{TOP}/")


def line(path: str, found: os.stat_result) -> bytes:
    """What an entry is; nothing if it is of a kind that no archive can hold (sockets, pipes)."""
    name, mode = name_of(path), found.st_mode & 0o777
    if stat.S_ISREG(found.st_mode):
        told = [name, "file", mode, found.st_size, found.st_mtime_ns]
    elif stat.S_ISDIR(found.st_mode):
        told = [name, "folder", mode]
    elif stat.S_ISLNK(found.st_mode):
        told = [name, "link", os.readlink(path)]  # noqa: PTH115  its very words
    else:
        return b""
    return json.dumps(told).encode() + b"\t%d %d" % (found.st_ino, found.st_ctime_ns)


def common(whole: bytes) -> bytes:
    """Of a line, what is the same on every machine."""
    return whole.partition(b"\t")[0]


def lines() -> Iterator[bytes]:
    """One for each entry, as it is now."""
    for path in walk():
        with suppress(FileNotFoundError, NotADirectoryError):
            if told := line(path, os.lstat(path)):
                yield told


def listing(told: list[bytes]) -> bytes:
    """The list: filled up to whole blocks, with its own length at the end, where it is found in a longer file."""
    text = b"".join(each + b"\n" for each in told)
    size = len(text) + FOOTER
    size += -size % BLOCK
    return text.ljust(size - FOOTER, b"\n") + b"%019d\n" % size


def entries(text: bytes) -> list[bytes]:
    """The lines of a list."""
    return [each for each in text.split(b"\n") if each.startswith(b"[")]


def list_(_: IO[bytes], output: IO[bytes]) -> int:
    """All that is there."""
    output.write(listing([each + THERE for each in lines()]))
    output.flush()
    return 0


# --- packing


def pack(source: IO[bytes], output: IO[bytes]) -> int:
    """Everything there: files, folders, links as links. What vanishes meanwhile is left out."""
    since = int(source.readline() or 0)
    known = {each.rpartition(b"\t")[0] for each in entries(source.read())}
    told = []
    for path in walk():
        with suppress(FileNotFoundError, NotADirectoryError):
            told.append(add(output, path, known, since))
    text = listing([each for each in told if each])
    member = tar().TarInfo(LIST)
    member.size = len(text)
    output.write(header(member) + text)
    output.flush()
    return 0


def add(output: IO[bytes], path: str, known: Collection[bytes], since: int) -> bytes:
    """One entry; its line. A file that is known stays out, unless it could have changed within a tick of the clock."""
    found = os.lstat(path)
    told = line(path, found)
    if not told:
        return b""
    if not stat.S_ISREG(found.st_mode):
        output.write(header(member_of(path, found)))
        return told + HERE
    if found.st_ctime_ns < since and told in known:
        return told + THERE
    return add_file(output, path)


def add_file(output: IO[bytes], path: str) -> bytes:
    """As many bytes as it has now: what grows is cut, what shrinks is filled up, so that the archive stays whole."""
    with os.fdopen(os.open(path, OPENED), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            return b""
        output.write(header(member_of(path, found)))
        left = found.st_size
        while left and (piece := file.read(min(left, CHUNK))):
            output.write(piece)
            left -= len(piece)
        while left:
            output.write(bytes(min(left, CHUNK)))
            left -= min(left, CHUNK)
        output.write(bytes(-found.st_size % BLOCK))
        return line(path, found) + HERE


def member_of(path: str, found: os.stat_result) -> "tarfile.TarInfo":
    """Its header's facts."""
    member: tarfile.TarInfo = tar().TarInfo(f"{NAME}/{name_of(path)}")
    member.mode, member.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
    if stat.S_ISREG(found.st_mode):
        member.size = found.st_size
    elif stat.S_ISDIR(found.st_mode):
        member.type = tar().DIRTYPE
    else:
        member.type, member.linkname = tar().SYMTYPE, os.readlink(path)  # noqa: PTH115
    return member


def header(member: "tarfile.TarInfo") -> bytes:
    """With names of any bytes and any length."""
    return member.tobuf(tar().PAX_FORMAT, "utf-8", "surrogateescape")


def tar() -> Any:
    """Loaded when it is needed: to list takes a moment, and a hand-over waits for it."""
    import tarfile  # noqa: PLC0415

    return tarfile


# --- restoring


def restore(source: IO[bytes], _: IO[bytes]) -> int:
    """Make the workspace what the list says, if all is here that does not come; nothing is changed before that is sure.

    Done again after it was cut off it does the same: what stays is never touched.
    """
    told = entries(source.read(int.from_bytes(source.read(8), "big")))
    wanted = {json.loads(common(each))[0]: each for each in told}
    stays = {common(each) for each in told if each.endswith(THERE)}
    if not stays <= {common(each) for each in lines()}:
        return OTHER_BASE
    clear(wanted)
    extract(source)
    settle(wanted)
    return 0 if [common(each) for each in lines()] == [common(each) for each in told] else WRONG


def clear(wanted: dict[str, bytes]) -> None:
    """Remove all that is not to stay; the last come first, since a folder is listed before what is in it."""
    for path in reversed(opened()):
        told = wanted.get(name_of(path), b"")
        is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
        if is_folder and not is_a(told, "folder"):
            Path(path).rmdir()
        elif not is_folder and not told.endswith(THERE):
            Path(path).unlink()


def opened() -> list[str]:
    """All that is there, in folders that can be written."""
    Path(TOP).mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = list(walk())
    for path in paths:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            Path(path).chmod(0o700)
    return paths


def is_a(told: bytes, kind: str) -> bool:
    """Whether a line tells of an entry of this kind."""
    return bool(told) and json.loads(common(told))[1] == kind


def extract(stream: IO[bytes]) -> list[tuple[str, int]]:
    """Put there what comes; the folders, and how they are to be shut in the end."""
    folders: list[tuple[str, int]] = []
    with tar().open(fileobj=stream, mode="r|", errorlevel=2, errors="surrogateescape") as archive:
        for member in archive:
            archive.members = []
            name = member.name.partition("/")[2].rstrip("/")
            if not name:
                continue
            member.name = name
            if member.isdir():
                folders.append((name, member.mode))
                member.mode = 0o700
            archive.extract(member, TOP, filter=safe)
    return folders


def safe(member: "tarfile.TarInfo", folder: str) -> "tarfile.TarInfo":
    """Nothing outside of the workspace, not even through a link that came before; the rest as it was."""
    checked: tarfile.TarInfo = tar().tar_filter(member, folder)
    return checked.replace(mode=member.mode & 0o777, deep=False)


def settle(wanted: dict[str, bytes]) -> None:
    """The times of what came, to the nanosecond, and who may do what; what is in a folder before the folder."""
    for path in reversed(list(walk())):
        told = wanted.get(name_of(path), b"")
        if is_a(told, "file") and told.endswith(HERE):
            _, _, mode, _, modified = json.loads(common(told))
            os.utime(path, ns=(modified, modified), follow_symlinks=False)
            Path(path).chmod(mode)
        elif is_a(told, "folder"):
            Path(path).chmod(json.loads(common(told))[2])


def unpack(source: IO[bytes], _: IO[bytes]) -> int:
    """Empty the workspace, then put there what comes: the archives of the first agents have no list."""
    clear({})
    for name, mode in reversed(extract(source)):
        (Path(TOP) / name).chmod(mode)
    return 0


def main() -> int:
    """Do it; the exit code is the only thing said."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    try:
        operation = {"pack": pack, "list": list_, "restore": restore, "unpack": unpack}[sys.argv[1]]
        return operation(sys.stdin.buffer, sys.stdout.buffer)
    except Exception:  # noqa: BLE001  whatever it was, the caller hears that it did not work
        return WRONG


if __name__ == "__main__":
    sys.exit(main())
