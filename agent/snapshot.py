"""Everything that makes an agent what it is, in one archive: taken while turns go on, put in place of what is here.

Both ways it lies on the disk first: what is sent does not change while a slow receiver takes it, and what is received
replaces nothing before every byte of it was checked. A restore that dies in the middle is done again at the start.

A hand-over is silence, so only what has changed since an earlier snapshot goes then (a delta: the whole database, and
the files that are not as they were), and sealing only counts and lists.
"""

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from agent import archive, inventory, listing, log
from agent.archive import BadArchive, Contents
from agent.bases import Base, Bases
from agent.errors import Refused
from agent.inventory import Inventory
from agent.listing import BadListing
from agent.mode import Standing
from agent.packing import MAX_BYTES, OTHER_BASE, NotPacked, Packer
from agent.protocol import Manifest, Mode, Part
from agent.store import READABLE_FROM, SCHEMA_VERSION, Store
from agent.workspace import Runner

_CHUNK = 1 << 20
_OTHER_BASE = "This snapshot goes with files that are not here, or not any more. Send a whole one."


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot in a file, which is the caller's to remove."""

    path: Path
    manifest: Manifest


class Snapshots:
    """Takes them and puts them back, one at a time."""

    def __init__(self, folder: Path, store: Store, runner: Runner, standing: Standing, release: str) -> None:
        """`folder` is the agent's own."""
        self._stuck = ""
        self._store = store
        self._packer = Packer(runner)
        self._standing = standing
        self._release = release
        self._bases = Bases(folder / "bases")
        self._folder = folder / "snapshots"
        self._received = self._folder / "received.tar"
        self._busy = asyncio.Lock()

    @property
    def trouble(self) -> str:
        """Why the state of this agent is not what it should be; empty if nothing is wrong."""
        damage = self._store.damage
        damaged = f"The database was damaged ({damage}) and set aside. Restore a snapshot." if damage else ""
        return " ".join(filter(None, [damaged, self._stuck]))

    async def take(self, base: str = "") -> Taken:
        """Make one of what is now; where the mark `base` is known, without the files that are as they were then."""
        async with self._busy:
            path = self._new_file()
            try:
                return Taken(path, await self._write(path, self._bases.find(base)))
            except BaseException:
                path.unlink(missing_ok=True)
                raise

    async def describe(self) -> Manifest:
        """Say what one would hold, without making it."""
        copy, listed = self._new_file(), self._new_file()
        try:
            async with asyncio.TaskGroup() as both:
                counted = both.create_task(asyncio.to_thread(self._count, copy))
                files = both.create_task(self._packer.digest(listed))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            copy.unlink(missing_ok=True)
            listed.unlink(missing_ok=True)
        held, database = counted.result()
        return self._manifest(held, listing.fingerprint(database, files.result()))

    async def receive(self, chunks: AsyncIterable[bytes]) -> Manifest:
        """Put another agent's state in place of this one's; `Refused` says why not, and then nothing has changed."""
        async with self._busy:
            self._require_standby()
            path = self._new_file()
            database = path.with_suffix(".db.part")
            try:
                await _save(path, chunks)
                contents = await self._inspect(path, database)
                self._require_standby()
                self._require_base(contents.manifest)
                self._bases.let_go()
                path.replace(self._received)  # from here on it is done, also after a crash
                await self._put_in_place(contents, database)
            finally:
                path.unlink(missing_ok=True)
                database.unlink(missing_ok=True)
            return contents.manifest

    async def recover(self) -> None:
        """At the start: finish a restore that was cut off, and remove what else was left."""
        async with self._busy:
            for left in self._folder.glob("*.part"):
                left.unlink()
            if self._received.exists():
                log.warning("restore goes on")
                contents = await asyncio.to_thread(archive.inspect, self._received)
                database = self._new_file()
                await asyncio.to_thread(archive.extract, self._received, contents.database, database)
                await self._put_in_place(contents, database)

    def let_go(self) -> None:
        """What was restored may change from now on: no delta goes with it any more."""
        self._bases.let_go()

    def _require_standby(self) -> None:
        if self._standing.mode is not Mode.STANDBY:
            text = f"This agent is {self._standing.mode}. Only one that stands by takes a snapshot."
            raise Refused(409, "not_standby", text)

    def _require_base(self, manifest: Manifest) -> None:
        if manifest.base and manifest.base != self._bases.held:
            raise Refused(409, "other_base", _OTHER_BASE)

    def _new_file(self) -> Path:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return self._folder / f"{uuid4().hex}.part"

    # --- taking

    def _count(self, copy: Path) -> tuple[Inventory, str]:
        """What the database holds, and its SHA-256."""
        self._store.copy_to(copy)
        return inventory.take(copy), _sha256(copy)

    async def _write(self, path: Path, base: Base | None) -> Manifest:
        copy = path.with_suffix(".db.part")
        begun = self._bases.now()
        try:
            await asyncio.to_thread(self._store.copy_to, copy)
            held = await asyncio.to_thread(inventory.take, copy)
            with path.open("wb") as file:
                database = await asyncio.to_thread(archive.begin, file, copy)
                workspace = await self._packer.pack(file, base)
                file.flush()
                found = _list_of(path)
                mark = await asyncio.to_thread(self._bases.keep, path, found, begun)
                digest = await asyncio.to_thread(listing.digest, path, found)
                manifest = self._manifest(
                    held,
                    listing.fingerprint(database.sha256, digest),
                    (database, workspace),
                    mark=mark,
                    base=base.mark if base else "",
                )
                archive.finish(file, manifest)
        finally:
            copy.unlink(missing_ok=True)
        return manifest

    def _manifest(
        self, held: Inventory, fingerprint: str, parts: tuple[Part, ...] = (), *, mark: str = "", base: str = ""
    ) -> Manifest:
        return Manifest(
            schema_version=SCHEMA_VERSION,
            readable_from=READABLE_FROM,
            release=self._release,
            # Of a sealed agent it is the same however often it is asked.
            created=self._standing.since if self._standing.mode is Mode.SEALED else time.time(),
            mode=self._standing.mode,
            epoch=self._standing.epoch,
            last_turn=held.last_turn,
            counts=held.counts,
            parts=parts,
            fingerprint=fingerprint,
            mark=mark,
            base=base,
        )

    # --- putting in place

    async def _inspect(self, path: Path, database: Path) -> Contents:
        """Look at all of it; its database is then in a file of its own."""
        try:
            contents = await asyncio.to_thread(archive.inspect, path)
            _check_schema(contents.manifest)
            await asyncio.to_thread(archive.extract, path, contents.database, database)
            await asyncio.to_thread(_check_database, database, contents.manifest)
        except BadArchive as error:
            raise Refused(422, "bad_snapshot", f"This is no snapshot that can be restored: {error}.") from error
        return contents

    async def _put_in_place(self, contents: Contents, database: Path) -> None:
        self._stuck = "A snapshot was received and is not in place yet."
        await self._restore_files(contents)
        self._store.replace_with(database)
        self._received.unlink()
        self._bases.hold(contents.manifest.mark)
        self._stuck = ""
        log.info(
            "snapshot restored", last_turn=contents.manifest.last_turn, rows=sum(contents.manifest.counts.values())
        )

    async def _restore_files(self, contents: Contents) -> None:
        output = await self._packer.restore(self._received, contents)
        if output.result.code == OTHER_BASE:
            self._received.unlink()
            self._stuck = ""
            raise Refused(409, "other_base", _OTHER_BASE)
        if output.result.code:
            self._stuck = f"A snapshot could not be put in place: {output.result.text or 'its files were refused'}."
            log.warning("snapshot not restored", reason=self._stuck)
            raise Refused(507, "no_room", f"{self._stuck} Make room and start this agent again, or send another one.")


async def pieces_of(path: Path) -> AsyncIterator[bytes]:
    """A file in pieces; it is removed at the end, also if nobody reads on."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, _CHUNK):
            yield piece
    finally:
        file.close()
        await asyncio.to_thread(path.unlink, missing_ok=True)


async def _save(path: Path, chunks: AsyncIterable[bytes]) -> None:
    size = 0
    with path.open("wb") as file:
        async for chunk in chunks:
            size += len(chunk)
            if size > MAX_BYTES:
                raise Refused(413, "too_large", f"A snapshot may have {MAX_BYTES} bytes.")
            await asyncio.to_thread(file.write, chunk)


def _list_of(path: Path) -> listing.Range:
    try:
        return listing.at_the_end(path)
    except BadListing as error:
        raise NotPacked(str(error)) from error


def _check_schema(manifest: Manifest) -> None:
    if manifest.readable_from > SCHEMA_VERSION:
        raise BadArchive(f"it can be read from schema {manifest.readable_from} on, and ours is {SCHEMA_VERSION}")


def _check_database(path: Path, told: Manifest) -> None:
    try:
        found = inventory.take(path, check=True)
    except sqlite3.DatabaseError as error:
        raise BadArchive(f"its database is damaged ({error})") from error
    if found != Inventory(told.counts, told.last_turn):
        raise BadArchive("its database does not hold what the manifest counts")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
