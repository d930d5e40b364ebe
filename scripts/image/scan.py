"""`make scan`: what is in each image (build/sbom-agent.json, build/sbom-bot.json, as CycloneDX), and what of it is
known to be vulnerable. Exit code 1 if anything is.
"""

import sys

from scripts.image import source
from scripts.image.audit import audit
from scripts.image.build import IMAGES, build
from scripts.image.commands import Refused, docker_problem, in_one_line
from scripts.image.contents import TOOLS, list_contents, lock_of

UNREACHED = "pip-audit: its database cannot be reached from here; not audited"


def main() -> None:
    if not TOOLS.exists():
        raise Refused("cyclonedx-bom and pip-audit are not installed: `make scan` does that")
    problem = docker_problem()
    if problem:
        print(f"{problem}. So only the Python packages are listed, as requirements/*.lock have them.")
    for what in IMAGES:
        image = None if problem else f"baal/{what}:dev"
        if image:
            build(what, image, context=source.ROOT, revision=source.revision(source.ROOT))
        print(list_contents(what, image).relative_to(source.ROOT), flush=True)
    _audit()


def _audit() -> None:
    found, is_unreached = 0, False
    for lock in map(lock_of, IMAGES):
        verdict = audit(lock)
        if verdict is None:
            is_unreached = True
            continue
        print(*verdict.lines(lock.name), sep="\n", flush=True)
        found += len(verdict.found)
    if is_unreached:
        print(UNREACHED)
    if found:
        raise Refused(f"{found} known vulnerabilities: raise what has them, and `make lock`")


if __name__ == "__main__":
    sys.exit(in_one_line(main))
