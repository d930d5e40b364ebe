"""`make image-check`: measure both images, look into their layers, attack the agent's; fail where a limit is broken."""

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from scripts.image import layers, limits, source
from scripts.image.build import IMAGES, build
from scripts.image.commands import Refused, in_one_line, need_docker
from scripts.image.measures import measure

ATTACK_LIST = Path("tests") / "image" / "test_attacks.py"


def check(references: dict[str, str], tree: Path, *, record: str | None = None) -> None:
    """Print what is found; `Refused` if a limit or an attack fails. `record` the measures as that version's."""
    values = measure(references, tree)
    _say(*limits.table(values, limits.read(tree)))
    failures = limits.broken(values)
    for reference in references.values():
        failures += _secrets(reference)
    failures += attack(references["agent"], tree)
    if failures:
        raise Refused("image-check failed:\n  " + "\n  ".join(failures))
    if record:
        limits.write(tree, limits.Released(record, values))
        _say(f"Written to {limits.RELEASED}.")


def _secrets(reference: str) -> list[str]:
    report = layers.scan(reference)
    verdict = f"{len(report.findings)} FOUND" if report.findings else "none"
    _say(f"{reference}: secrets and loose rights in {report.layers} layers, {report.files} files: {verdict}")
    return [f"{reference}: {finding}" for finding in report.findings]


def attack(reference: str, tree: Path) -> list[str]:
    """Run the attack list against an image; the attacks that did not fail as they should."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "attacks.xml"
        done = subprocess.run(
            (sys.executable, "-m", "pytest", "-q", "--junitxml", str(report), str(ATTACK_LIST)),
            cwd=tree,
            env=os.environ | {"IMAGE_UNDER_TEST": reference},
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.exists():
            raise Refused(f"the attacks could not be run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        failures = list(_results(report))
    return failures or ([] if done.returncode == 0 else [f"pytest ended with {done.returncode}: {done.stdout[-500:]}"])


def _results(report: Path) -> Iterator[str]:
    """Print each attack in a line; yield those that must not be."""
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  pytest wrote it just now
        words = case.get("name", "").removeprefix("test_").replace("_", " ")
        said = {part.tag: part.get("message", "").partition("\n")[0] for part in case}
        if "failure" in said or "error" in said:
            _say(f"  FAILED  {words}")
            yield f"{words}: {said.get('failure') or said.get('error')}"
        elif "skipped" in said:
            _say(f"  skipped {words}: {said['skipped']}")
        else:
            _say(f"  ok      {words}")


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make image-check", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write the measures to tests/image/released.json")
    record = parser.parse_args().record
    need_docker()
    references = {what: f"baal/{what}:dev" for what in IMAGES}
    for what, reference in references.items():
        build(what, reference, context=source.ROOT, revision=source.revision(source.ROOT))
    check(references, source.ROOT, record=source.version(source.ROOT) if record else None)


if __name__ == "__main__":
    sys.exit(in_one_line(main))
