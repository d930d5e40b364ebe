"""`make push REGISTRY=…`: build both images from the committed tree, push them, print what an operator deploys."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from scripts.image import source
from scripts.image.build import IMAGES, build, have_bases
from scripts.image.commands import Refused, in_one_line, need_docker, output

LOOPBACK = ("127.", "localhost:")
PLACE = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9][a-z0-9._-]*)*")


def name_in(registry: str, what: str) -> str:
    """The repository of an image there; `Refused` if it is no registry."""
    if not registry:
        raise Refused("say where to push: REGISTRY=host:port or REGISTRY=host/path")
    if not PLACE.fullmatch(registry):
        raise Refused(f"REGISTRY={registry} is no registry: write host:port[/path], lower case, without https://")
    return f"{registry}/baal/{what}"


def refuse_standins(registry: str, tree: Path) -> None:
    """`Refused` if others would get an image that starts from a stand-in; a registry on loopback is a rehearsal."""
    if registry.startswith(LOOPBACK):
        return
    for base in {base for what in IMAGES for base in have_bases(what, tree)}:
        if is_made_here(base):
            raise Refused(f"{base} is a stand-in made on this machine: publish from where `docker pull {base}` works")


def is_made_here(image: str) -> bool:
    """Whether it came from no registry."""
    return output("docker", "image", "inspect", "--format", "{{len .RepoDigests}}", image) == "0"


def push(reference: str) -> str:
    """Push an image that is here; the digest under which it is there, as the registry confirmed it."""
    digest = None
    with subprocess.Popen(("docker", "push", reference), stdout=subprocess.PIPE, text=True) as pushing:
        for line in pushing.stdout or ():
            print(line, end="", file=sys.stderr, flush=True)
            digest = re.search(r"digest: (sha256:[0-9a-f]{64})", line) or digest
    if pushing.returncode or not digest:
        raise Refused(f"pushing {reference} failed: see above; is the registry up, and are you logged in to it?")
    return digest[1]


def deployable(what: str, reference: str, digest: str) -> str:
    """The line for the operator's settings: this image and no other, whatever the tag names later."""
    return f"{what.upper()}_IMAGE={reference}@{digest}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make push", description=__doc__)
    parser.add_argument("registry", nargs="?", default="", help="host:port[/path]")
    registry = parser.parse_args().registry
    names = {what: name_in(registry, what) for what in IMAGES}
    source.refuse_dirty(source.ROOT)
    need_docker()
    refuse_standins(registry, source.ROOT)
    revision = source.revision(source.ROOT)
    with source.committed(source.ROOT) as context:
        tag = f"{source.version(context)}-g{revision}"
        references = {what: f"{name}:{tag}" for what, name in names.items()}
        for what, reference in references.items():
            build(what, reference, context=context, revision=revision)
    lines = [deployable(what, reference, push(reference)) for what, reference in references.items()]
    print(*lines, sep="\n")


if __name__ == "__main__":
    sys.exit(in_one_line(main))
