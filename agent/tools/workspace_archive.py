"""Pack the workspace into tar blocks, or unpack it: run as text by the workspace's user, behind the wall.

Not imported by the agent. `pack` writes blocks to standard output, without the two that end an archive; `unpack`
empties the workspace and reads a whole archive from standard input. Nothing else is ever written: standard error may
be the same pipe.
"""

import os
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

TOP = Path(os.environ.get("WORKSPACE", "/workspace"))
NAME = "workspace"
CHUNK = 1 << 20
OPENED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def pack(output: IO[bytes]) -> None:
    """Everything there: files, folders, links as links. What vanishes meanwhile is left out."""
    for path in walk(TOP):
        try:
            add(output, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
    output.flush()


def walk(folder: Path) -> Iterator[Path]:
    """Everything below, in order of names, so that the same workspace gives the same bytes."""
    folders = [folder]
    while folders:
        here = folders.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: os.fsencode(entry.name))
        except PermissionError:
            here.chmod(0o700)  # its own, shut by mistake
            entries = sorted(os.scandir(here), key=lambda entry: os.fsencode(entry.name))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            yield Path(entry.path)
        folders += [Path(entry.path) for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]


def add(output: IO[bytes], path: Path) -> None:
    """One entry; of a kind that no archive can hold (sockets, pipes) nothing."""
    found = path.lstat()
    member = tarfile.TarInfo(f"{NAME}/{path.relative_to(TOP)}")
    member.mode, member.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
    if stat.S_ISREG(found.st_mode):
        add_file(output, path, member)
    elif stat.S_ISDIR(found.st_mode):
        member.type = tarfile.DIRTYPE
        output.write(header(member))
    elif stat.S_ISLNK(found.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
        output.write(header(member))


def add_file(output: IO[bytes], path: Path, member: tarfile.TarInfo) -> None:
    """As many bytes as it has now: what grows is cut, what shrinks is filled up, so that the archive stays whole."""
    with os.fdopen(opened(path), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            return
        member.size = found.st_size
        output.write(header(member))
        left = member.size
        while left and (piece := file.read(min(left, CHUNK))):
            output.write(piece)
            left -= len(piece)
        while left:
            output.write(bytes(min(left, CHUNK)))
            left -= min(left, CHUNK)
        output.write(bytes(-member.size % tarfile.BLOCKSIZE))


def opened(path: Path) -> int:
    """Its descriptor; a file of one's own that is shut to oneself is opened all the same."""
    try:
        return os.open(path, OPENED)
    except PermissionError:
        path.chmod(0o600)
        return os.open(path, OPENED)


def header(member: tarfile.TarInfo) -> bytes:
    """With names of any bytes and any length."""
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def unpack(stream: IO[bytes]) -> None:
    """Empty the workspace, then put there what comes."""
    empty()
    folders: list[tuple[str, int]] = []
    with tarfile.open(fileobj=stream, mode="r|", errorlevel=2, errors="surrogateescape") as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]
            name = member.name.partition("/")[2].rstrip("/")
            if not name:
                continue
            member.name = name
            if member.isdir():
                folders.append((name, member.mode))
                member.mode = 0o700
            archive.extract(member, TOP, filter=safe)
    for name, mode in reversed(folders):
        (TOP / name).chmod(mode)


def safe(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Nothing outside of the workspace, not even through a link that came before; the rest as it was."""
    checked = tarfile.tar_filter(member, folder)
    return checked.replace(mode=member.mode & 0o777, deep=False)


def empty() -> None:
    """Remove all that is there."""
    TOP.mkdir(mode=0o700, parents=True, exist_ok=True)
    for entry in list(os.scandir(TOP)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, onexc=open_and_again)
        else:
            Path(entry.path).unlink()


def open_and_again(function: Any, path: str, error: BaseException) -> None:
    """A folder that its owner has shut can be opened by its owner."""
    for shut in (Path(path).parent, Path(path)):
        if shut.is_dir() and not shut.is_symlink():
            shut.chmod(0o700)
    if not isinstance(error, PermissionError):
        raise error
    if function in {os.scandir, os.open}:
        shutil.rmtree(path)
    else:
        function(path)


def main() -> int:
    """Do it; the exit code is the only thing said."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    try:
        {"pack": lambda: pack(sys.stdout.buffer), "unpack": lambda: unpack(sys.stdin.buffer)}[sys.argv[1]]()
    except Exception:  # noqa: BLE001  whatever it was, the caller hears that it did not work
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
