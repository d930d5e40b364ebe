"""What is in an image, as one CycloneDX document: its Python packages, its Debian packages, Caddy's modules."""

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.image import source
from scripts.image.commands import Refused

TOOLS = Path(sys.prefix) / "scan" / "bin"
"""`make scan` installs them beside the developer's packages, not among them."""
FORMAT = ("--sv=1.6", "--of=JSON", "--no-validate")  # the whole document is validated
PYTHON_PACKAGES = "find /app /opt /usr -name '*.dist-info' | tar -c -T -"
DEBIAN_PACKAGES = r"dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\n'; . /etc/os-release; echo $VERSION_ID"
CADDY_MODULES = "command -v caddy >/dev/null && { caddy version; caddy build-info; } || true"
VALID = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()) and 1)
"""


def list_contents(what: str, image: str | None) -> Path:
    """Write what is in an image, or in its lock when there is none; the file."""
    document = json.loads(
        _python(image) if image else _tool("cyclonedx-py", "requirements", str(lock_of(what)), *FORMAT)
    )
    document["metadata"]["component"] = {
        "type": "container",
        "name": f"baal/{what}",
        "version": source.version(source.ROOT),
    }
    if image:
        document["components"] += [*_debian(image), *_caddy(image)]
    path = source.ROOT / "build" / f"sbom-{what}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    _tool("python", "-c", VALID, words=path.read_text())
    return path


def _python(image: str) -> str:
    """The Python packages of an image, with their licences and what needs what."""
    with tempfile.TemporaryDirectory(prefix="baal-packages-") as folder:
        with tarfile.open(fileobj=io.BytesIO(_inside(image, PYTHON_PACKAGES))) as archive:
            archive.extractall(folder, filter="data")
        paths = sorted({str(found.parent) for found in Path(folder).rglob("*.dist-info")})
        # cyclonedx-py asks an interpreter for its sys.path; this one answers with what was copied.
        interpreter = Path(folder) / "python"
        interpreter.write_text(f"#!/bin/sh\necho '{json.dumps(paths)}'\n")
        interpreter.chmod(0o700)
        return _tool("cyclonedx-py", "environment", str(interpreter), *FORMAT)


def _debian(image: str) -> Iterator[dict[str, str]]:
    *lines, release = _inside(image, DEBIAN_PACKAGES).decode().splitlines()
    for line in lines:
        name, version, architecture = line.split("\t")
        escaped = version.replace(":", "%3A").replace("+", "%2B").replace("~", "%7E")
        yield _component(name, version, f"pkg:deb/debian/{name}@{escaped}?arch={architecture}&distro=debian-{release}")


def _caddy(image: str) -> Iterator[dict[str, str]]:
    """Caddy and the Go modules that it is built of."""
    for number, line in enumerate(_inside(image, CADDY_MODULES).decode().splitlines()):
        words = line.split()
        if number == 0:
            name, version = "github.com/caddyserver/caddy/v2", words[0]
            yield _component(name, version, f"pkg:golang/{name}@{version}")
        elif words[:1] == ["dep"] and words[1] != "github.com/caddyserver/caddy/v2":
            yield _component(words[1], words[2], f"pkg:golang/{words[1]}@{words[2].replace('+', '%2B')}")


def _component(name: str, version: str, purl: str) -> dict[str, str]:
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}


def _inside(image: str, words: str) -> bytes:
    """What a shell command prints in a container of it."""
    command = ("docker", "run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", words)
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise Refused(f"{image} cannot be looked into: {done.stderr.decode().strip()[-300:]}")
    return done.stdout


def _tool(name: str, *arguments: str, words: str = "") -> str:
    command = (str(TOOLS / name), *arguments)
    done = subprocess.run(command, input=words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(f"{name} failed: {(done.stderr.strip() or 'it said nothing').splitlines()[-1]}")
    return done.stdout


def lock_of(what: str) -> Path:
    """What is installed into it."""
    return source.ROOT / "requirements" / f"{what}.lock"
