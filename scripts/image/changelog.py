"""Turn what is unreleased into a release, in the texts that say so."""

import re
from datetime import UTC, datetime
from pathlib import Path

from scripts.image.commands import Refused, output

VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
VERSION_LINE = re.compile(r'^version = ".*"$', re.MULTILINE)
UNRELEASED = re.compile(r"^## Unreleased\n(?P<entries>.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def refuse_version(wanted: str, tree: Path) -> None:
    """`Refused` unless it is x.y.z and newer than every release that is tagged."""
    if not VERSION.fullmatch(wanted):
        raise Refused(f"{wanted or 'nothing'} is not a version: make release VERSION=x.y.z REGISTRY=…")
    tagged = [tag[1:] for tag in output("git", "tag", "--list", "v*", cwd=tree).split() if VERSION.fullmatch(tag[1:])]
    newest = max(tagged, key=_order, default=None)
    if newest and _order(wanted) <= _order(newest):
        raise Refused(f"{wanted} is not newer than the last release, {newest}")


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def refuse_without_entries(tree: Path) -> None:
    """`Refused` unless the changelog says what this release brings."""
    found = UNRELEASED.search((tree / "CHANGELOG.md").read_text())
    if found is None or not re.search(r"^- \S", found["entries"], re.MULTILINE):
        raise Refused("CHANGELOG.md has no entries (`- …`) under `## Unreleased`: write what this release brings")


def name_release(tree: Path, version: str) -> None:
    """Write the version into pyproject.toml, and into CHANGELOG.md with today's date (UTC)."""
    project, log = tree / "pyproject.toml", tree / "CHANGELOG.md"
    project.write_text(VERSION_LINE.sub(f'version = "{version}"', project.read_text(), count=1))
    heading = f"## {version} - {datetime.now(UTC):%Y-%m-%d}"
    log.write_text(log.read_text().replace("## Unreleased", heading, 1))
