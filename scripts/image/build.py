"""`make image`: build the images, here as `baal/agent:dev` and `baal/bot:dev`."""

import argparse
import sys
from pathlib import Path

from scripts.image import source
from scripts.image.commands import in_one_line, need_docker, run

IMAGES = ("agent", "bot")


def build(what: str, reference: str, *, context: Path, revision: str) -> None:
    """Build one of `IMAGES` from a tree, under that name."""
    have_bases(what, context)
    run(
        *("docker", "buildx", "build", "--load", "--provenance=false"),
        *("--file", str(context / f"Dockerfile.{what}"), "--tag", reference),
        *("--build-arg", f"VERSION={source.version(context)}", "--build-arg", f"REVISION={revision}"),
        str(context),
    )


def have_bases(what: str, context: Path) -> list[str]:
    """Pull what the Dockerfile starts from, or make stand-ins where no registry can be reached; their names."""
    bases = source.base_images(context / f"Dockerfile.{what}")
    run(str(context / "scripts" / "standin" / "images"), *bases)
    return bases


def main() -> None:
    parser = argparse.ArgumentParser(prog="make image", description=__doc__)
    parser.add_argument("what", nargs="?", choices=IMAGES, help="one of them; both without it")
    what = parser.parse_args().what
    wanted = (what,) if what else IMAGES
    need_docker()
    for what in wanted:
        build(what, f"baal/{what}:dev", context=source.ROOT, revision=source.revision(source.ROOT))
    print(*(f"baal/{what}:dev" for what in wanted), sep="\n")


if __name__ == "__main__":
    sys.exit(in_one_line(main))
