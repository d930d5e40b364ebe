"""What a tree of this repository says about itself: its version, its revision, whether it is clean."""

import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.image.commands import Refused, output, run

ROOT = Path(__file__).resolve().parents[2]
HASH_DIGITS = 12


def version(tree: Path) -> str:
    """As pyproject.toml has it."""
    return str(tomllib.loads((tree / "pyproject.toml").read_text())["project"]["version"])


def revision(tree: Path) -> str:
    """The commit, with `-dirty` behind it if tracked files differ; `unknown` outside git."""
    try:
        return output("git", "describe", "--always", "--dirty", "--exclude=*", f"--abbrev={HASH_DIGITS}", cwd=tree)
    except (Refused, FileNotFoundError):  # an unpacked archive, or no git
        return "unknown"


def refuse_dirty(tree: Path) -> None:
    """`Refused` if anything is not committed: nobody could tell later what was published."""
    changed = output("git", "status", "--porcelain", cwd=tree).splitlines()
    if changed:
        others = f" and {len(changed) - 1} more" if changed[1:] else ""
        raise Refused(f"the tree is not clean ({changed[0][3:]}{others}): commit or remove what `git status` lists")


@contextmanager
def committed(tree: Path) -> Iterator[Path]:
    """A copy of what HEAD holds and nothing else, as a context to build from."""
    with tempfile.TemporaryDirectory(prefix="baal-context-") as folder:
        copy = Path(folder)
        archive = copy / "head.tar"
        # As a checkout would have them: git writes 0664 otherwise, and each layer would differ from `make image`'s.
        run("git", "-c", "tar.umask=0022", "archive", "--output", str(archive), "HEAD", cwd=tree)
        shutil.unpack_archive(archive, copy, filter="data")
        archive.unlink()
        yield copy


@contextmanager
def copied(tree: Path) -> Iterator[Path]:
    """A copy of the tree as it is, uncommitted work included, to be changed at will."""
    with tempfile.TemporaryDirectory(prefix="baal-context-") as folder:
        names = output("git", "ls-files", "-co", "--exclude-standard", cwd=tree).splitlines()
        for name in (name for name in names if (tree / name).is_file()):
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree / name, Path(folder) / name)
        yield Path(folder)


def base_images(dockerfile: Path) -> list[str]:
    """What a Dockerfile starts from: the defaults of its `ARG …_IMAGE=` lines."""
    return re.findall(r"^ARG \w+_IMAGE=(\S+)$", dockerfile.read_text(), re.MULTILINE)
