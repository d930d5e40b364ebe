"""The form of a snapshot: one tar archive of `agent.db`, the workspace, its list and, at its end, `manifest.json`.

The part of the workspace comes as tar blocks from behind the wall and goes there again; in here it is only looked
through. Its last block file is the list of all entries (`listing.py`), also of those that a delta leaves out; archives
of the first agents have none. All of this is files and hashes, and is called in a thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pydantic import ValidationError

from agent import listing
from agent.listing import BLOCK, Range
from agent.protocol import Manifest, Part

if TYPE_CHECKING:
    import tarfile

DATABASE, WORKSPACE, LIST, MANIFEST = "agent.db", "workspace", "workspace.list", "manifest.json"
MAX_MANIFEST_BYTES = 1_000_000
_CHUNK = 1 << 20
END = bytes(2 * BLOCK)
"""What ends a tar archive."""


class BadArchive(Exception):
    """It is not a snapshot that can be restored; the text says why."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Where in the archive everything is."""

    manifest: Manifest
    database: Range
    workspace: Range
    """The entries and their list."""
    entries: Range
    listing: Range | None


def begin(archive: IO[bytes], database: Path) -> Part:
    """Write the database at the archive's beginning."""
    size = database.stat().st_size
    archive.write(_header(DATABASE, size))
    with database.open("rb") as source:
        digest = _copy(source, archive, size)
    archive.write(bytes(-size % BLOCK))
    return Part(name=DATABASE, size=size, sha256=digest)


def finish(archive: IO[bytes], manifest: Manifest) -> None:
    """Write the manifest, and the archive's end."""
    said = manifest.model_dump_json().encode()
    archive.write(_header(MANIFEST, len(said)) + said + bytes(-len(said) % BLOCK) + END)


def inspect(path: Path) -> Contents:
    """Look through an archive and check every byte of it against its manifest; `BadArchive` says what is wrong."""
    import tarfile  # noqa: PLC0415 - idle agents do without

    try:
        with path.open("rb") as file:
            contents = _locate(file)
            _check(file, contents)
            _check_fingerprint(path, contents)
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise BadArchive(f"it is not a whole tar archive: {error}") from error
    return contents


def extract(path: Path, part: Range, target: Path) -> None:
    """Copy a part into a file of its own."""
    with target.open("wb") as file:
        for piece in read(path, part):
            file.write(piece)


def read(path: Path, part: Range) -> Iterator[bytes]:
    """A part in pieces."""
    with path.open("rb") as source:
        source.seek(part.start)
        yield from _pieces(source, part.size)


def _locate(file: IO[bytes]) -> Contents:
    database: Range | None = None
    found: Range | None = None
    start = end = 0
    import tarfile  # noqa: PLC0415 - loaded by then

    with tarfile.open(fileobj=file, mode="r:", errorlevel=2) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # or it keeps each of 100,000
            if database is None:
                if member.name != DATABASE or not member.isreg():
                    raise BadArchive(f"it begins with {member.name!r} and not with {DATABASE}")
                database = Range(member.offset_data, member.size)
                start = member.offset_data + member.size + -member.size % BLOCK
            elif member.name == MANIFEST:
                workspace = Range(start, member.offset - start)
                entries = Range(start, (end if found else member.offset) - start)
                return Contents(_manifest(archive, member), database, workspace, entries, found)
            elif found:
                raise BadArchive(f"it holds {member.name[:200]!r} after {LIST}")
            elif member.name == LIST and member.isreg():
                end, found = member.offset, Range(member.offset_data, member.size)
            else:
                _check_member(member)
    raise BadArchive(f"it ends without {MANIFEST}")


def _manifest(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Manifest:
    file = archive.extractfile(member)
    if file is None or member.size > MAX_MANIFEST_BYTES:
        raise BadArchive(f"its {MANIFEST} is no file, or too big")
    said = file.read()
    if len(said) != member.size:
        raise BadArchive(f"it ends in the middle of {MANIFEST}")
    try:
        return Manifest.model_validate_json(said)
    except ValidationError as error:
        raise BadArchive(f"its {MANIFEST} is none: {error.error_count()} fields are wrong") from error


def _check_member(member: tarfile.TarInfo) -> None:
    """Only what a workspace holds, and only below it."""
    words = member.name.split("/")
    if words[0] != WORKSPACE or ".." in words or "" in words[:-1] or "\0" in member.name:
        raise BadArchive(f"it holds {member.name[:200]!r}, which is outside of the workspace")
    if not (member.isreg() or member.isdir() or member.issym()):
        raise BadArchive(f"it holds {member.name[:200]!r}, which is neither file nor folder nor symbolic link")


def _check(file: IO[bytes], contents: Contents) -> None:
    found = {DATABASE: contents.database}
    if contents.workspace.size:
        found[WORKSPACE] = contents.workspace
    told = {part.name: part for part in contents.manifest.parts}
    if found.keys() != told.keys():
        raise BadArchive(f"its manifest tells of {sorted(told)}, and it holds {sorted(found)}")
    for name, part in found.items():
        file.seek(part.start)
        if (part.size, _copy(file, None, part.size)) != (told[name].size, told[name].sha256):
            raise BadArchive(f"{name} is not what the manifest says: it was altered or cut")


def _check_fingerprint(path: Path, contents: Contents) -> None:
    """That it has, together with what its base has, all that it tells of."""
    told = contents.manifest
    if contents.listing is None:
        if told.fingerprint or told.base:
            raise BadArchive(f"it has no {LIST}")
        return
    database = next(part.sha256 for part in told.parts if part.name == DATABASE)
    if listing.fingerprint(database, listing.digest(path, contents.listing)) != told.fingerprint:
        raise BadArchive(f"its {LIST} is not what the manifest says")


def _header(name: str, size: int) -> bytes:
    import tarfile  # noqa: PLC0415 - idle agents do without

    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member.tobuf(tarfile.PAX_FORMAT)


def _copy(source: IO[bytes], target: IO[bytes] | None, size: int) -> str:
    """Copy so many bytes; their SHA-256. `BadArchive` if there are fewer."""
    digest = hashlib.sha256()
    for piece in _pieces(source, size):
        digest.update(piece)
        if target is not None:
            target.write(piece)
    return digest.hexdigest()


def _pieces(source: IO[bytes], size: int) -> Iterator[bytes]:
    while size:
        piece = source.read(min(size, _CHUNK))
        if not piece:
            raise BadArchive("it ends too early")
        size -= len(piece)
        yield piece
