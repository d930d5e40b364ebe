"""Archives as agents make them."""

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Iterator

from agent.protocol import Manifest, Mode, Part

BLOCK = tarfile.BLOCKSIZE


def entry(name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.type, member.linkname = len(content), 0o600, kind, link
    return member.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % BLOCK)


def manifest(parts: tuple[Part, ...], last_turn: str | None = "t1", mode: Mode = Mode.ACTIVE) -> Manifest:
    return Manifest(
        schema_version=1,
        release="r1",
        created=1.0,
        mode=mode,
        epoch=1,
        last_turn=last_turn,
        counts={"turn": 1},
        parts=parts,
    )


def part(name: str, content: bytes) -> Part:
    return Part(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def archive(
    database: bytes = b"SQLite", workspace: bytes = b"", last_turn: str | None = "t1", mode: Mode = Mode.ACTIVE
) -> bytes:
    """`workspace`: tar entries."""
    parts = (part("agent.db", database), *([part("workspace", workspace)] if workspace else []))
    told = manifest(parts, last_turn, mode).model_dump_json().encode()
    return entry("agent.db", database) + workspace + entry("manifest.json", told) + bytes(2 * BLOCK)


def full() -> bytes:
    """Everything that a workspace may hold."""
    workspace = (
        entry("workspace/a", b"hello")
        + entry("workspace/folder", kind=tarfile.DIRTYPE)
        + entry("workspace/" + "long" * 50, b"x" * 700)
        + entry("workspace/Öl 🛢️", b"")
        + entry("workspace/manifest.json", b"{}")
        + entry("workspace/link", kind=tarfile.SYMTYPE, link="/etc/passwd")
    )
    return archive(b"SQLite" * 1000, workspace)


async def pieces(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def large(megabytes: int, piece: bytes) -> Iterator[bytes]:
    """An archive whose database is that piece (1 MiB) again and again, never whole in memory."""
    digest = hashlib.sha256()
    header = tarfile.TarInfo("agent.db")
    header.size = megabytes * len(piece)
    yield header.tobuf(tarfile.PAX_FORMAT)
    for _ in range(megabytes):
        digest.update(piece)
        yield piece
    told = manifest((Part(name="agent.db", size=header.size, sha256=digest.hexdigest()),))
    yield entry("manifest.json", told.model_dump_json().encode()) + bytes(2 * BLOCK)


def read_tar(content: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        return opened.getnames()


def read_database(content: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        held = opened.extractfile("agent.db")
        assert held
        return held.read()
