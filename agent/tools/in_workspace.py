"""One operation on files, behind the wall: run as text by the workspace's user, asked by JSON on standard input.

Not imported by the agent. The first line of its input is the JSON; a file that is put into the workspace follows. It
prints what the model reads; with exit code 1 that is what was wrong, with 3 that there is no room for a file.
"""

import errno
import fnmatch
import json
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

TOP = Path(os.environ.get("WORKSPACE", "/workspace"))
LINES = 2_000
LINE_CHARS = 2_000
ENTRIES = 500
MATCHES = 200
MATCH_CHARS = 200
SEARCHED_BYTES = 5_000_000
EDITED_BYTES = 10_000_000
BINARY_SAMPLE = 8_192
CHUNK = 1_000_000
UPLOAD = ".upload-"
STALE_SECONDS = 3_600
NO_ROOM = 3
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fail(words: str, code: int = 1) -> NoReturn:
    """End with what was wrong."""
    print(words)
    sys.exit(code)


def inside(root: Path, name: str) -> Path:
    """The place of that name, links resolved; none outside of the root."""
    if "\0" in name:
        fail("A file name cannot hold a NUL character.")
    below = name.removeprefix(str(TOP)) if name == str(TOP) or name.startswith(f"{TOP}/") else name
    path = (root / below.lstrip("/")).resolve()
    if path != root and root not in path.parents:
        fail(f"{name}: is outside of your folder. Use a path relative to it.")
    if path.is_symlink():
        fail(f"{name}: is a link that leads to itself.")
    return path


def shown(root: Path, place: Path) -> str:
    """A path in one line, also if it is not Unicode."""
    name = os.fsencode(place.relative_to(root)).decode(errors="replace")
    return name.replace("\n", "\\n").replace("\r", "\\r")


def open_text(place: Path, name: str) -> IO[bytes]:
    """The file, if it is one and is text."""
    if place.is_dir():
        fail(f"{name} is a folder; list_files shows what is in it.")
    if place.exists() and not place.is_file():
        fail(f"{name} is not a file.")
    file = place.open("rb")
    if b"\0" in file.read(BINARY_SAMPLE):
        fail(f"{name} is not text ({place.stat().st_size} bytes). Use a program that understands it.")
    file.seek(0)
    return file


def lines_of(file: IO[bytes]) -> Iterator[str]:
    """Its lines; of a very long one the beginning."""
    while line := file.readline(4 * LINE_CHARS):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(1_000_000)
        yield line.decode(errors="replace").rstrip("\r\n")[:LINE_CHARS]


def read(root: Path, path: str, first: int, count: int) -> str:
    """Lines with their numbers."""
    wanted = []
    total = 0
    with open_text(inside(root, path), path) as file:
        for total, line in enumerate(lines_of(file), 1):
            if first <= total < first + min(count, LINES):
                wanted.append(f"{total}\t{line}")
    if not total:
        return f"{path} is empty."
    if not wanted:
        fail(f"{path} has only {total} lines.")
    rest = total - first - len(wanted) + 1
    return "\n".join(wanted) + (f"\n[… {rest} more lines; read on from line {total - rest + 1} …]" if rest else "")


def write(root: Path, path: str, text: str) -> str:
    """Create or replace."""
    data = text.encode()
    put(inside(root, path), path, data)
    return f"Wrote {len(data)} bytes to {path}."


def put(place: Path, name: str, data: bytes) -> None:
    """All of it or, on a full disk, nothing."""
    if place.is_dir():
        fail(f"{name} is a folder.")
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f".{os.urandom(8).hex()}.new")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)
        if place.exists():
            new.chmod(place.stat().st_mode & 0o777)
        new.replace(place)
    finally:
        new.unlink(missing_ok=True)


def edit(root: Path, path: str, old: str, new: str, *, everywhere: bool) -> str:
    """Replace one passage, which must be there once, or all; every other byte stays."""
    place = inside(root, path)
    with open_text(place, path) as file:
        data = file.read(EDITED_BYTES + 1)
    if len(data) > EDITED_BYTES:
        fail(f"{path} is too big to be edited here. Use a program.")
    text = data.decode(errors="surrogateescape")
    if "\r\n" in text and text.count("\r\n") == text.count("\n"):
        old, new = (each.replace("\r\n", "\n").replace("\n", "\r\n") for each in (old, new))
    times = text.count(old) if old else 0
    if not times:
        fail(f"{path} does not hold that passage. Read it again; spaces and line ends count.")
    if times > 1 and not everywhere:
        fail(f"{path} holds that passage {times} times. Give more of what is around it, or set everywhere.")
    put(place, path, text.replace(old, new).encode(errors="surrogateescape"))
    return f"Replaced {times} passage{'s' if times > 1 else ''} in {path}."


def walk(start: Path) -> Iterator[Path]:
    """Everything below, nearest first, without following links or looking into hidden folders; or the file itself."""
    folders = [start]
    if start.is_file():
        yield start
    for folder in folders:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            yield Path(entry.path)
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                folders.append(Path(entry.path))


def list_(root: Path, path: str) -> str:
    """Names and sizes."""
    start = inside(root, path)
    if not start.is_dir():
        fail(f"{path}: there is no such folder.")
    lines: list[str] = []
    for place in walk(start):
        if len(lines) == ENTRIES:
            lines.append(f"[… there is more; list a folder below {path} …]")
            break
        name = shown(root, place)
        lines.append(f"{name}/" if place.is_dir() and not place.is_symlink() else f"{name}\t{place.lstat().st_size}")
    return "\n".join(lines) or "Nothing is there yet."


def search(root: Path, pattern: str, path: str, names: str) -> str:
    """Lines in which a regular expression is found."""
    try:
        wanted = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        fail(f"{pattern!r} is not a regular expression: {error}")
    start = inside(root, path)
    if not start.exists():
        fail(f"{path}: there is no such file or folder.")
    found: list[str] = []
    big = 0
    for place in walk(start):
        if fnmatch.fnmatch(place.name, names) and place.is_file() and not place.is_symlink():
            big += place.stat().st_size > SEARCHED_BYTES
            found += matches(root, place, wanted)
        if len(found) > MATCHES:
            found[MATCHES:] = ["[… there is more; search for something rarer …]"]
            break
    if big:
        found.append(f"[files of more than {SEARCHED_BYTES} bytes were not searched: {big}]")
    return "\n".join(found) or "Nothing was found."


def matches(root: Path, place: Path, wanted: "re.Pattern[str]") -> Iterator[str]:
    """Of one file, if it is text that can be read."""
    try:
        data = place.read_bytes() if place.stat().st_size <= SEARCHED_BYTES else b""
    except OSError:
        return
    if b"\0" in data[:BINARY_SAMPLE]:
        return
    for number, line in enumerate(data.decode(errors="replace").removesuffix("\n").split("\n"), 1):
        if data and wanted.search(line):
            yield f"{shown(root, place)}:{number}: {line.strip()[:MATCH_CHARS]}"


def stat_(root: Path, path: str) -> str:
    """Of a regular file: its path below the root and its size in bytes, as JSON."""
    place = inside(root, path)
    with open_regular(place, path) as file:
        return json.dumps({"path": below(root, place), "size": os.fstat(file.fileno()).st_size})


def below(root: Path, place: Path) -> str:
    """Its path relative to the root; `UnicodeError` if that is no text."""
    return os.fsencode(place.relative_to(root)).decode()


def open_regular(place: Path, name: str) -> IO[bytes]:
    """A file to be read byte for byte; neither a folder nor a pipe, which would keep us waiting."""
    if place.is_dir():
        fail(f"{name} is a folder. Make an archive of it first.")
    file = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        fail(f"{name} is not a file.")
    return os.fdopen(file, "rb")


def piece(root: Path, path: str, start: int, count: int, version: str) -> bytes:
    """A part of a file's bytes, after a line with its size and version; it fails if that is not the version wanted."""
    with open_regular(inside(root, path), path) as file:
        status = os.fstat(file.fileno())
        found = f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"
        if version not in ("", found):
            fail(f"{path} has changed while it was read.")
        file.seek(start)
        return json.dumps({"size": status.st_size, "version": found}).encode() + b"\n" + file.read(count)


def receive(root: Path, path: str, replaces: str, upload: str) -> str:
    """Put what follows on standard input into a new file of this name, or one like it; or in the place of an old one.

    Nothing is left behind if the input ends too early or there is no room.
    """
    place = inside(root, replaces or path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        sweep(place.parent)
        new = place.with_name(f"{UPLOAD}{upload}")
        try:
            size = fill(new)
            if not replaces or place.is_dir():
                place = reserved(place)
            new.replace(place)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in FULL:
            fail("There is no room for this file: delete something from the workspace first.", NO_ROOM)
        raise
    return json.dumps({"path": below(root, place), "size": size})


def discard(root: Path, path: str, upload: str) -> str:
    """Remove what `receive` has left behind because it was killed."""
    inside(root, path).with_name(f"{UPLOAD}{upload}").unlink(missing_ok=True)
    return ""


def remove(root: Path, path: str) -> str:
    """Remove a file, if it is still there; of a link that lies in its place, the link alone."""
    place = inside(root, str(Path(path).parent)) / Path(path).name
    if place.is_file() or place.is_symlink():
        place.unlink(missing_ok=True)
    return ""


def sweep(folder: Path) -> None:
    """Remove what older uploads have left behind, that were killed together with the agent."""
    for entry in os.scandir(folder):
        if entry.name.startswith(UPLOAD):
            with suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_SECONDS:
                    os.unlink(entry.path)  # noqa: PTH108


def fill(new: Path) -> int:
    """Write the chunks of standard input (each with its length, four bytes, before it; an empty one is the last)."""
    source, size = sys.stdin.buffer, 0
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        while True:
            head = source.read(4)
            length = int.from_bytes(head, "big")
            chunk = source.read(length)
            if len(head) < 4 or len(chunk) < length:  # noqa: PLR2004
                fail("The file was not sent to its end.")
            if not length:
                return size
            size += file.write(chunk)


def reserved(place: Path) -> Path:
    """An empty file of this name, or of one with a number, that was not there before."""
    for number in range(1, 10_000):
        free = place if number == 1 else place.with_name(f"{place.stem} ({number}){place.suffix}")
        with suppress(FileExistsError):
            os.close(os.open(free, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            return free
    fail(f"{place.name}: there are too many files of this name.")


OPERATIONS: dict[str, Any] = {
    "read": read,
    "write": write,
    "edit": edit,
    "list": list_,
    "search": search,
    "stat": stat_,
    "piece": piece,
    "receive": receive,
    "discard": discard,
    "remove": remove,
}


def main() -> None:
    """Do what standard input asks for."""
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    asked = json.loads(sys.stdin.buffer.readline())
    path = asked["path"]
    root = TOP / asked.pop("folder")
    try:
        root.mkdir(parents=True, exist_ok=True)
        result = OPERATIONS[asked.pop("operation")](root.resolve(), **asked)
        sys.stdout.buffer.write(result if isinstance(result, bytes) else result.encode(errors="replace"))
    except FileNotFoundError:
        fail(f"{path}: there is no such file.")
    except (FileExistsError, NotADirectoryError):
        fail(f"{path}: a part of this path is a file, not a folder.")
    except OSError as error:
        fail(f"{path}: {error.strerror}.")
    except (UnicodeError, RecursionError):
        fail(f"{path}: is not a possible path.")


if __name__ == "__main__":
    main()
