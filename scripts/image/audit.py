"""Ask pip-audit what is known to be vulnerable."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from scripts.image.commands import Refused
from scripts.image.contents import TOOLS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What pip-audit knows of a lock."""

    asked: int
    found: list[str]
    unknown: list[str]

    def lines(self, name: str) -> list[str]:
        """For a person."""
        head = f"pip-audit: {name}: {self.asked} packages, {len(self.found)} known vulnerabilities"
        return [head, *(f"  {words}" for words in self.found), *(f"  not in its database: {it}" for it in self.unknown)]


def judge(answer: str, complaint: str) -> Verdict | None:
    """Read what pip-audit printed; None if it could ask nobody."""
    if not answer.startswith("{"):
        if re.search(r"Connection|Timeout|ServiceError|ServiceUnavailable", complaint):
            return None
        raise Refused(f"pip-audit failed: {(complaint.strip() or 'it said nothing').splitlines()[-1]}")
    packages = json.loads(answer)["dependencies"]
    asked = [package for package in packages if "skip_reason" not in package]
    # A mirror that has the packages but not their histories knows none of them, and pip-audit calls that a success.
    if packages and not asked:
        return None
    found = [f"{package['name']} {package['version']}: {flaw['id']}" for package in asked for flaw in package["vulns"]]
    return Verdict(len(asked), found, [package["name"] for package in packages if "skip_reason" in package])


def audit(lock: Path) -> Verdict | None:
    """Ask for the known vulnerabilities of what a lock pins; None where nobody can be asked."""
    options = ("--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json")
    command = (str(TOOLS / "pip-audit"), *options, "--requirement", str(lock))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return judge(done.stdout, done.stderr)
