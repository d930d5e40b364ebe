"""What a light agent is, as an archive of the real form, and back."""

import asyncio
import io
import time
from collections.abc import AsyncIterable
from pathlib import Path
from uuid import uuid4

from agent import archive, listing
from agent.archive import BadArchive, Contents
from agent.errors import Refused
from agent.listing import BLOCK
from agent.mode import Standing
from agent.protocol import Manifest, Mode, Part
from agent.snapshot import _OTHER_BASE
from agent.store import READABLE_FROM, SCHEMA_VERSION
from tests.chaos.light_disk import Disk, Faults

KEPT_MARKS = 4
EMPTY_LIST = b"\n" * (BLOCK - 20) + b"%019d\n" % BLOCK
"""Of a workspace with nothing in it."""


class LightSnapshots:
    """What `agent.snapshot.Snapshots` is to its neighbours."""

    trouble = ""

    def __init__(self, disk: Disk, standing: Standing, release: str, faults: Faults) -> None:
        self._disk = disk
        self._standing = standing
        self._release = release
        self._faults = faults
        self._marks: list[str] = []
        self._held = disk.folder / "held"
        self._busy = asyncio.Lock()

    def take(self, base: str = "") -> bytes:
        """The archive of what is now. Without files there is nothing that a delta could leave out."""
        mark = uuid4().hex
        content = self._archive(mark, base if base in self._marks else "")
        self._marks = [*self._marks, mark][-KEPT_MARKS:]
        return content

    async def describe(self) -> Manifest:
        """What one would hold."""
        path = self._new_file()
        try:
            path.write_bytes(self._archive("", ""))
            contents = archive.inspect(path)
        finally:
            path.unlink()
        return contents.manifest.model_copy(update={"parts": ()})

    async def receive(self, pieces: AsyncIterable[bytes]) -> Manifest:
        """Put it in place of what is here, or refuse it whole."""
        async with self._busy:
            self._require_standby()
            content = b"".join([piece async for piece in pieces])
            manifest, database = self._inspect(content)
            self._require_standby()
            if manifest.base and manifest.base != self._mark_held():
                raise Refused(409, "other_base", _OTHER_BASE)
            if self._faults.is_full:
                text = "A snapshot could not be put in place: its files were refused."
                again = "Make room and start this agent again, or send another one."
                raise Refused(507, "no_room", f"{text} {again}")
            self._disk.load(database)
            self._held.write_text(manifest.mark)
            return manifest

    def let_go(self) -> None:
        self._held.unlink(missing_ok=True)

    def _mark_held(self) -> str:
        return self._held.read_text() if self._held.exists() else ""

    def _require_standby(self) -> None:
        if self._standing.mode is not Mode.STANDBY:
            text = f"This agent is {self._standing.mode}. Only one that stands by takes a snapshot."
            raise Refused(409, "not_standby", text)

    def _new_file(self) -> Path:
        return self._disk.folder / f"{uuid4().hex}.part"

    def _inspect(self, content: bytes) -> tuple[Manifest, bytes]:
        path = self._new_file()
        try:
            path.write_bytes(content)
            contents = archive.inspect(path)
            database = b"".join(archive.read(path, contents.database))
            self._check(contents, database)
        except BadArchive as error:
            raise Refused(422, "bad_snapshot", f"This is no snapshot that can be restored: {error}.") from error
        finally:
            path.unlink()
        return contents.manifest, database

    def _check(self, contents: Contents, database: bytes) -> None:
        found = Disk(self._disk.folder)
        found.load(database)
        if (found.counts(), found.last_turn()) != (contents.manifest.counts, contents.manifest.last_turn):
            raise BadArchive("its database does not hold what the manifest counts")

    def _archive(self, mark: str, base: str) -> bytes:
        path, database = self._new_file(), self._new_file()
        content = io.BytesIO()
        try:
            database.write_bytes(self._disk.dump())
            held = archive.begin(content, database)
            start = content.tell()
            content.write(archive._header(archive.LIST, len(EMPTY_LIST)) + EMPTY_LIST)
            path.write_bytes(content.getvalue())
            found = listing.at_the_end(path)
            workspace = archive._copy(io.BytesIO(content.getvalue()[start:]), None, content.tell() - start)
            parts = (held, Part(name=archive.WORKSPACE, size=content.tell() - start, sha256=workspace))
            manifest = Manifest(
                schema_version=SCHEMA_VERSION,
                readable_from=READABLE_FROM,
                release=self._release,
                created=self._standing.since if self._standing.mode is Mode.SEALED else time.time(),
                mode=self._standing.mode,
                epoch=self._standing.epoch,
                last_turn=self._disk.last_turn(),
                counts=self._disk.counts(),
                parts=parts,
                fingerprint=listing.fingerprint(held.sha256, listing.digest(path, found)),
                mark=mark,
                base=base,
            )
            archive.finish(content, manifest)
        finally:
            path.unlink(missing_ok=True)
            database.unlink(missing_ok=True)
        return content.getvalue()
