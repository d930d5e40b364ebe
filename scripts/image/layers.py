"""What must not be in an image: secrets in any layer, its configuration or its history; loose rights in the result.

A file that a later layer removes is still in the layer that brought it, so each is read for secrets. Rights count as
the last layer leaves them.
"""

import json
import re
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any

from scripts.image.commands import Refused, output


@dataclass(frozen=True, slots=True)
class Secret:
    """A kind of secret: `sign` stands in all of them and is quickly searched for, `pattern` is sure.

    A `loose` one is sure in text only: it is not looked for in programs and libraries.
    """

    name: str
    sign: bytes
    pattern: re.Pattern[bytes]
    loose: bool = False

    def is_in(self, data: bytes) -> bool:
        """Whether one stands there."""
        return self.sign in data and self.pattern.search(data) is not None


SECRETS = (
    # With what follows the heading: programs that read keys have the heading alone in them.
    Secret(
        "a private key",
        b"PRIVATE KEY-----",
        re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=\s:,-]{60}"),
    ),
    Secret(
        "a Telegram bot token",
        b":AA",
        re.compile(rb"(?<![0-9])[0-9]{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"),
    ),
    Secret("a LibertAI key", b"LTAI_", re.compile(rb"LTAI_[A-Za-z0-9]{16,}")),
    Secret("an AWS key", b"AKIA", re.compile(rb"(?<![A-Z0-9])AKIA[A-Z2-7]{16}(?![A-Z0-9])")),
    Secret("a GitHub token", b"gh", re.compile(rb"(?<![A-Za-z0-9_])(gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{60,})")),
    Secret("a password in an address", b"://", re.compile(rb"\w://[\w.%-]+:(?!password@)[\w.%-]+@\w"), loose=True),
    Secret(
        "a secret in a variable",
        b"=",
        re.compile(rb"\b[A-Z_]*(?:KEY|TOKEN|SECRET|PASSWORD)=[^\s$\"'{]{8,}"),
        loose=True,
    ),
)
TEXTS = ("/app/", "/etc/")
FORBIDDEN = re.compile(r"(^|/)(\.env(\..+)?|\.git|\.netrc|\.pypirc|\.npmrc|id_(rsa|ecdsa|ed25519)|\.ssh|\.docker)(/|$)")
INSTALLER_SETTINGS = re.compile(r"(^|/)(pip\.conf|uv\.toml|\.?pydistutils\.cfg)$")
INDEX = re.compile(rb"(index|find-links|trusted-host).*=")
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be there. `where` is a path or a part of the image's description."""

    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(slots=True)
class Report:
    """What was read, and what was found."""

    layers: int = 0
    files: int = 0
    findings: list[Finding] = field(default_factory=list)


def scan(image: str) -> Report:
    """Read all of an image that this machine's Docker has."""
    report = Report()
    with _saved(image) as archive:
        rights: dict[str, int] = {}
        for layer in _layers(archive):
            report.layers += 1
            for entry in layer:
                report.files += 1
                report.findings += _in_file(layer, entry)
                _apply(rights, entry)
    report.findings += _loose(rights)
    report.findings += _described(image)
    return report


@contextmanager
def _saved(image: str) -> Iterator[tarfile.TarFile]:
    with tempfile.TemporaryFile() as file:
        done = subprocess.run(("docker", "save", image), stdout=file, stderr=subprocess.PIPE, check=False)
        if done.returncode:
            raise Refused(f"docker save {image}: {done.stderr.decode().strip()}")
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            yield archive


def _layers(archive: tarfile.TarFile) -> Iterator[tarfile.TarFile]:
    manifest = json.load(_file(archive, "manifest.json"))
    for name in manifest[0]["Layers"]:
        with tarfile.open(fileobj=_file(archive, name)) as layer:
            yield layer


def _file(archive: tarfile.TarFile, entry: str | tarfile.TarInfo) -> IO[bytes]:
    found = archive.extractfile(entry)
    if found is None:
        raise Refused(f"{entry} of a saved image is no file")
    return found


def _in_file(layer: tarfile.TarFile, entry: tarfile.TarInfo) -> Iterator[Finding]:
    path = _path(entry.name)
    if FORBIDDEN.search(path):
        yield Finding("must not be in an image", path)
    if not entry.isfile():
        return
    data = _file(layer, entry).read()
    if INSTALLER_SETTINGS.search(path) and INDEX.search(data):
        yield Finding("names a package index", path)
    yield from _secrets(data, path, is_text=path.startswith(TEXTS))


def _secrets(data: bytes, where: str, *, is_text: bool) -> Iterator[Finding]:
    return (Finding(kind.name, where) for kind in SECRETS if (is_text or not kind.loose) and kind.is_in(data))


def _apply(rights: dict[str, int], entry: tarfile.TarInfo) -> None:
    path = PurePosixPath(_path(entry.name))
    if path.name == OPAQUE:
        _forget_below(rights, str(path.parent))
    elif path.name.startswith(WHITEOUT):
        removed = str(path.with_name(path.name.removeprefix(WHITEOUT)))
        rights.pop(removed, None)
        _forget_below(rights, removed)
    elif entry.isfile() or entry.islnk():
        rights[str(path)] = stat.S_IFREG | entry.mode
    elif entry.isdir():
        rights[str(path)] = stat.S_IFDIR | entry.mode
    else:
        rights.pop(str(path), None)  # a link or device says nothing about rights


def _forget_below(rights: dict[str, int], folder: str) -> None:
    for path in [path for path in rights if path.startswith(folder.rstrip("/") + "/")]:
        del rights[path]


def _loose(rights: dict[str, int]) -> Iterator[Finding]:
    for path, mode in rights.items():
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            yield Finding(f"runs with the rights of its owner or group (mode {stat.S_IMODE(mode):o})", path)
        above = rights.get(str(PurePosixPath(path).parent), 0)
        is_sticky = (mode | above) & stat.S_ISVTX if stat.S_ISREG(mode) else mode & stat.S_ISVTX
        if mode & stat.S_IWOTH and not is_sticky:
            yield Finding(f"anybody may write to it (mode {stat.S_IMODE(mode):o})", path)


def _described(image: str) -> Iterator[Finding]:
    config: dict[str, Any] = json.loads(output("docker", "image", "inspect", "--format", "{{json .Config}}", image))
    told = {
        "docker history": output("docker", "history", "--no-trunc", "--format", "{{.CreatedBy}} {{.Comment}}", image),
        "its environment": "\n".join(config.get("Env") or []),
        "its labels": json.dumps(config.get("Labels")),
    }
    for where, words in told.items():
        yield from _secrets(words.encode(), where, is_text=True)


def _path(name: str) -> str:
    return "/" + name.removeprefix("./").strip("/")
