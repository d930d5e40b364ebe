"""The files by which an owner shapes their agent, read without trusting what lies there.

AGENTS.md, MEMORY.md and skills/<name>/SKILL.md in the owner's folder. Where there is a wall this module is run as text
behind it, asked by its arguments; elsewhere its functions are called. Standard library only.

Whatever stands where such a file should be (a link, a pipe, a device, a terabyte) is not followed, waited for or
loaded: it counts as missing, or is cut.
"""

import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

AGENTS, MEMORY, SKILLS, SKILL = "AGENTS.md", "MEMORY.md", "skills", "SKILL.md"
AGENTS_CHARS = 20_000
MEMORY_CHARS = 6_000
HEAD_CHARS = 8_000
"""Of a skill, for its name and description."""
SKILL_CHARS = 15_000
MAX_SKILLS = 50
MAX_FILES = 100
_ENTRIES = 2_000
_BYTES_PER_CHAR = 4
_TOP = Path("/workspace")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Seen = tuple[int, int, int] | None
"""A file's time of change (ns), size and number; None if there is none."""


@contextmanager
def opened(folder: "int | Path", *path: str) -> Iterator[int]:
    """A folder's descriptor; `OSError` if a part of the path is missing or a link. The first part is trusted."""
    here = os.dup(folder) if isinstance(folder, int) else os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path:
            below = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def read_text(folder: "int | Path", path: str, limit: int) -> str | None:
    """The first `limit` + 1 characters of a regular file that has no other name; None if there is no such file."""
    *folders, name = path.split("/")
    try:
        with opened(folder, *folders) as here:
            file = os.open(name, _FILE, dir_fd=here)
        return _beginning(file, limit + 1)
    except OSError:
        return None


def _beginning(file: int, chars: int) -> str | None:
    """So many characters of a regular file, which is closed then."""
    try:
        known = os.fstat(file)
        if not stat.S_ISREG(known.st_mode) or known.st_nlink != 1:
            return None
        data = b""
        while (missing := _BYTES_PER_CHAR * chars - len(data)) and (more := os.read(file, missing)):
            data += more
        return data.decode(errors="replace")[:chars]
    finally:
        os.close(file)


def look(folder: "int | Path", path: str) -> Seen:
    """What tells that a file has changed, without reading it."""
    *folders, name = path.split("/")
    try:
        with opened(folder, *folders) as here:
            known = os.stat(name, dir_fd=here, follow_symlinks=False)
    except OSError:
        return None
    return known.st_mtime_ns, known.st_size, known.st_ino


def skill_names(folder: "int | Path") -> list[str]:
    """The folders in which skills should be, in the order of their names; at most so many."""
    try:
        with opened(folder, SKILLS) as here, os.scandir(here) as entries:
            names = [each.name for each in islice(entries, _ENTRIES) if each.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return sorted(_shown(name) for name in names if not name.startswith("."))[:MAX_SKILLS]


def survey(folder: "int | Path") -> dict[str, object]:
    """The texts of both files, and the beginning of each skill by its folder's name."""
    return {
        "agents": read_text(folder, AGENTS, AGENTS_CHARS),
        "memory": read_text(folder, MEMORY, MEMORY_CHARS),
        "skills": {name: read_text(folder, f"{SKILLS}/{name}/{SKILL}", HEAD_CHARS) for name in skill_names(folder)},
    }


def skill(folder: "int | Path", name: str) -> dict[str, object]:
    """A skill's text, and the names of the other files in its folder."""
    try:
        with opened(folder, SKILLS, name) as here:
            files = sorted(_shown(path) for path in islice(_files(here), MAX_FILES + 1) if path != SKILL)
    except OSError:
        files = []
    return {"text": read_text(folder, f"{SKILLS}/{name}/{SKILL}", SKILL_CHARS), "files": files[:MAX_FILES]}


def _files(folder: int) -> Iterator[str]:
    """Nearest first, without following links."""
    below = ["."]
    for place in below:
        with opened(folder, *place.split("/")) as here, os.scandir(here) as entries:
            for entry in sorted(islice(entries, _ENTRIES), key=lambda each: each.name):
                path = os.path.normpath(f"{place}/{entry.name}")
                if entry.is_file(follow_symlinks=False):
                    yield path
                elif entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    below.append(path)


def _shown(path: str) -> str:
    """In one line, also if it is not Unicode; such a name finds nothing, and no skill may have it."""
    return "".join(each if each.isprintable() else "?" for each in path)


def main() -> None:
    """Print what is asked for by the arguments, as JSON: a survey, or the skill of this name."""
    sys.stdout.write(json.dumps(skill(_TOP, sys.argv[1]) if sys.argv[1:] else survey(_TOP)))


if __name__ == "__main__":
    main()
