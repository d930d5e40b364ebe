"""One operation on files, behind the wall: run as text by the workspace's user, asked by JSON on standard input.

Not imported by the agent. It prints what the model reads; with exit code 1 that is what was wrong.
"""

import fnmatch
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

TOP = Path("/workspace")
LINES = 2_000
LINE_CHARS = 2_000
ENTRIES = 500
MATCHES = 200
SEARCHED_BYTES = 5_000_000
BINARY_SAMPLE = 8_192


def fail(words: str) -> NoReturn:
    """End with what was wrong."""
    print(words)
    sys.exit(1)


def inside(root: Path, name: str) -> Path:
    """The place of that name, links resolved; none outside of the root."""
    if "\0" in name:
        fail("A file name cannot hold a NUL character.")
    try:
        path = (root / name.removeprefix(str(TOP)).lstrip("/")).resolve()
    except (OSError, RuntimeError) as error:
        fail(f"{name}: {error}")
    if path != root and root not in path.parents:
        fail(f"{name}: is outside of your folder. Use a path relative to it.")
    return path


def text_of(path: Path, name: str) -> str:
    """Its text, if it is one."""
    if path.is_dir():
        fail(f"{name} is a folder; list_files shows what is in it.")
    with path.open("rb") as file:
        if b"\0" in file.read(BINARY_SAMPLE):
            fail(f"{name} is not text ({path.stat().st_size} bytes). Use a program that understands it.")
    return path.read_text(errors="replace")


def read(root: Path, path: str, first: int, count: int) -> str:
    """Lines with their numbers."""
    place = inside(root, path)
    text_of_it = []
    total = 0
    if place.is_dir() or b"\0" in place.open("rb").read(BINARY_SAMPLE):
        text_of(place, path)
    with place.open(errors="replace") as file:
        for total, line in enumerate(file, 1):
            if first <= total < first + min(count, LINES):
                text_of_it.append(f"{total}\t{line.rstrip()[:LINE_CHARS]}")
    if not total:
        return f"{path} is empty."
    if not text_of_it:
        fail(f"{path} has only {total} lines.")
    rest = total - first - len(text_of_it) + 1
    return "\n".join(text_of_it) + (f"\n[… {rest} more lines; read on from line {total - rest + 1} …]" if rest else "")


def write(root: Path, path: str, text: str) -> str:
    """Create or replace."""
    place = inside(root, path)
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f".{place.name[:200]}.new")
    new.write_text(text)
    new.replace(place)
    return f"Wrote {len(text.encode())} bytes to {path}."


def edit(root: Path, path: str, old: str, new: str, *, everywhere: bool) -> str:
    """Replace one passage, which must be there once, or all."""
    place = inside(root, path)
    text = text_of(place, path)
    times = text.count(old) if old else 0
    if not times:
        fail(f"{path} does not hold that passage. Read it again; spaces and line ends count.")
    if times > 1 and not everywhere:
        fail(f"{path} holds that passage {times} times. Give more of what is around it, or set everywhere.")
    write(root, path, text.replace(old, new))
    return f"Replaced {times} passage{'s' if times > 1 else ''} in {path}."


def walk(start: Path) -> Iterator[Path]:
    """Everything below, nearest first, without following links or looking into hidden folders."""
    folders = [start]
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
        name = str(place.relative_to(root))
        lines.append(f"{name}/" if place.is_dir() and not place.is_symlink() else f"{name}\t{place.lstat().st_size}")
    return "\n".join(lines) or "Nothing is there yet."


def search(root: Path, pattern: str, path: str, names: str) -> str:
    """Lines in which a regular expression is found."""
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        fail(f"{pattern!r} is not a regular expression: {error}")
    found: list[str] = []
    for place in walk(inside(root, path)):
        if len(found) >= MATCHES:
            found.append("[… there is more; search for something rarer …]")
            break
        if fnmatch.fnmatch(place.name, names) and place.is_file() and not place.is_symlink():
            found += matches(root, place, wanted)
    return "\n".join(found[: MATCHES + 1]) or "Nothing was found."


def matches(root: Path, place: Path, wanted: "re.Pattern[str]") -> Iterator[str]:
    """Of one file, if it is text."""
    if place.stat().st_size > SEARCHED_BYTES:
        return
    data = place.read_bytes()
    if b"\0" in data[:BINARY_SAMPLE]:
        return
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        if wanted.search(line):
            yield f"{place.relative_to(root)}:{number}: {line.strip()[:200]}"


OPERATIONS: dict[str, Any] = {"read": read, "write": write, "edit": edit, "list": list_, "search": search}


def main() -> None:
    """Do what standard input asks for."""
    asked = json.load(sys.stdin)
    root = TOP / asked.pop("folder")
    root.mkdir(parents=True, exist_ok=True)
    try:
        print(OPERATIONS[asked.pop("operation")](root.resolve(), **asked), end="")
    except FileNotFoundError as error:
        fail(f"{error.filename}: there is no such file.".replace(f"{root}/", ""))
    except OSError as error:
        fail(f"{error.strerror}: {error.filename or ''}".replace(f"{root}/", ""))


if __name__ == "__main__":
    main()
