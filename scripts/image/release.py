"""`make release VERSION=x.y.z REGISTRY=…`: check, commit, tag and push one release.

All of it happens in a worktree beside this one, which moves to the release at the very end: whatever fails before
leaves this tree, its branch and its tags as they were, and the same command can be run again.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.image import changelog, check, source
from scripts.image.build import IMAGES, build
from scripts.image.commands import Refused, in_one_line, need_docker, output, run
from scripts.image.push import deployable, name_in, push, refuse_standins


def release(tree: Path, version: str, references: dict[str, str]) -> list[str]:
    """Do it; the lines for the operator's settings."""
    with _worktree(tree) as beside:
        changelog.name_release(beside, version)
        _build(beside, references)
        check.check(references, beside, record=version)
        output("git", "add", "--all", cwd=beside)
        output("git", "commit", "--quiet", "--message", f"Release {version}", cwd=beside)
        commit = output("git", "rev-parse", "HEAD", cwd=beside)
        # Once more, from the cache: now they can name the commit that they are of.
        _build(beside, references)
        digests = {what: push(reference) for what, reference in references.items()}
    _take(tree, commit, version)
    return [deployable(what, references[what], digest) for what, digest in digests.items()]


def _take(tree: Path, commit: str, version: str) -> None:
    """Move this tree to the release and tag it: both, or neither."""
    output("git", "tag", "--annotate", f"v{version}", "--message", f"Baal {version}", commit, cwd=tree)
    try:
        output("git", "merge", "--quiet", "--ff-only", commit, cwd=tree)
    except Refused as refusal:
        output("git", "tag", "--delete", f"v{version}", cwd=tree)
        raise Refused(f"this tree changed while the release was made ({refusal}): run it again") from refusal


@contextmanager
def _worktree(tree: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="baal-release-") as folder:
        beside = Path(folder) / "tree"
        run("git", "worktree", "add", "--quiet", "--detach", str(beside), "HEAD", cwd=tree)
        try:
            yield beside
        finally:
            run("git", "worktree", "remove", "--force", str(beside), cwd=tree)


def _build(tree: Path, references: dict[str, str]) -> None:
    for what, reference in references.items():
        build(what, reference, context=tree, revision=source.revision(tree))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    parser.add_argument("--version", default="")
    parser.add_argument("--registry", default="")
    wanted = parser.parse_args()
    changelog.refuse_version(wanted.version, source.ROOT)
    references = {what: f"{name_in(wanted.registry, what)}:{wanted.version}" for what in IMAGES}
    source.refuse_dirty(source.ROOT)
    changelog.refuse_without_entries(source.ROOT)
    need_docker()
    refuse_standins(wanted.registry, source.ROOT)
    print(*release(source.ROOT, wanted.version, references), sep="\n")
    print(f"Released {wanted.version}: committed and tagged here. `git push --follow-tags` is yours.", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(in_one_line(main))
