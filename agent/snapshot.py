"""Everything that makes an agent what it is, in one archive: taken while turns go on, put in place of what is here.

Both ways it lies on the disk first: what is sent does not change while a slow receiver takes it, and what is received
replaces nothing before every byte of it was checked. A restore that dies in the middle is done again at the start.
"""

import asyncio
import hashlib
import json
import sqlite3
import time
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO
from uuid import uuid4

from agent import archive, log
from agent.archive import BadArchive, Contents
from agent.errors import Refused
from agent.mode import Standing
from agent.protocol import Manifest, Mode, Part
from agent.sandbox.wire import Request
from agent.store import READABLE_FROM, SCHEMA_VERSION, Store
from agent.workspace import Runner

MAX_BYTES = 4_000_000_000
PACK_SECONDS = 600.0
_PROGRAM = resources.files("agent").joinpath("tools/workspace_archive.py").read_text()
_CHUNK = 1 << 20


class NotPacked(Exception):
    """The workspace could not be read, or not be written; the text says how it ended."""


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
        self._runner = runner
        self._standing = standing
        self._release = release
        self._folder = folder / "snapshots"
        self._received = self._folder / "received.tar"
        self._busy = asyncio.Lock()

    @property
    def trouble(self) -> str:
        """Why the state of this agent is not what it should be; empty if nothing is wrong."""
        damage = self._store.damage
        damaged = f"The database was damaged ({damage}) and set aside. Restore a snapshot." if damage else ""
        return " ".join(filter(None, [damaged, self._stuck]))

    async def take(self) -> Taken:
        """Make one of what is now."""
        async with self._busy:
            path = self._new_file()
            try:
                return Taken(path, await self._write(path))
            except BaseException:
                path.unlink(missing_ok=True)
                raise

    async def receive(self, chunks: AsyncIterable[bytes]) -> Manifest:
        """Put another agent's state in place of this one's; `Refused` says why not, and then nothing has changed."""
        async with self._busy:
            self._require_standby()
            path = self._new_file()
            try:
                await _save(path, chunks)
                contents = await self._inspect(path)
                self._require_standby()
                path.replace(self._received)  # from here on it is done, also after a crash
            finally:
                path.unlink(missing_ok=True)
            await self._put_in_place(contents)
            return contents.manifest

    async def recover(self) -> None:
        """At the start: finish a restore that was cut off, and remove what else was left."""
        async with self._busy:
            for left in self._folder.glob("*.part"):
                left.unlink()
            if self._received.exists():
                log.warning("restore goes on")
                await self._put_in_place(await asyncio.to_thread(archive.inspect, self._received))

    def _require_standby(self) -> None:
        if self._standing.mode is not Mode.STANDBY:
            text = f"This agent is {self._standing.mode}. Only one that stands by takes a snapshot."
            raise Refused(409, "not_standby", text)

    def _new_file(self) -> Path:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return self._folder / f"{uuid4().hex}.part"

    # --- taking

    async def _write(self, path: Path) -> Manifest:
        copy = path.with_suffix(".db.part")
        try:
            await asyncio.to_thread(self._store.copy_to, copy)
            counts, last_turn = await asyncio.to_thread(_facts, copy)
            with path.open("wb") as file:
                database = await asyncio.to_thread(archive.begin, file, copy)
                workspace = await self._pack(file)
                parts = (database, workspace) if workspace.size else (database,)
                manifest = self._manifest(counts, last_turn, parts)
                archive.finish(file, manifest)
        finally:
            copy.unlink(missing_ok=True)
        return manifest

    async def _pack(self, file: IO[bytes]) -> Part:
        digest, size = hashlib.sha256(), 0

        def take(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            if size > MAX_BYTES:
                raise NotPacked(f"the workspace has more than {MAX_BYTES} bytes, holes in files counted")
            digest.update(piece)
            file.write(piece)

        ended = await self._runner.stream_out(self._request("pack"), take)
        if ended.code:
            raise NotPacked(ended.text or f"{ended.ended}, exit code {ended.code}")
        return Part(name=archive.WORKSPACE, size=size, sha256=digest.hexdigest())

    def _manifest(self, counts: dict[str, int], last_turn: str | None, parts: tuple[Part, ...]) -> Manifest:
        return Manifest(
            schema_version=SCHEMA_VERSION,
            readable_from=READABLE_FROM,
            release=self._release,
            # Of a sealed agent it is the same however often it is asked.
            created=self._standing.since if self._standing.mode is Mode.SEALED else time.time(),
            mode=self._standing.mode,
            epoch=self._standing.epoch,
            last_turn=last_turn,
            counts=counts,
            parts=parts,
        )

    # --- putting in place

    async def _inspect(self, path: Path) -> Contents:
        try:
            contents = await asyncio.to_thread(archive.inspect, path)
            _check_schema(contents.manifest)
            await asyncio.to_thread(_check_database, path, contents)
        except BadArchive as error:
            raise Refused(422, "bad_snapshot", f"This is no snapshot that can be restored: {error}.") from error
        return contents

    async def _put_in_place(self, contents: Contents) -> None:
        self._stuck = "A snapshot was received and is not in place yet."
        await self._unpack(contents)
        database = self._received.with_suffix(".db.part")
        await asyncio.to_thread(archive.extract, self._received, contents.database, database)
        self._store.replace_with(database)
        self._received.unlink()
        self._stuck = ""
        log.info(
            "snapshot restored", last_turn=contents.manifest.last_turn, rows=sum(contents.manifest.counts.values())
        )

    async def _unpack(self, contents: Contents) -> None:
        chunks = _workspace_of(self._received, contents)
        output = await self._runner.stream_in(self._request("unpack"), chunks)
        if output.result.code:
            self._stuck = f"A snapshot could not be put in place: {output.result.text or 'its files were refused'}."
            log.warning("snapshot not restored", reason=self._stuck)
            raise Refused(507, "no_room", f"{self._stuck} Make room and start this agent again, or send another one.")

    def _request(self, operation: str) -> Request:
        return Request([self._runner.python, "-I", "-S", "-c", _PROGRAM, operation], seconds=PACK_SECONDS)


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


async def _workspace_of(path: Path, contents: Contents) -> AsyncIterator[bytes]:
    pieces = archive.read(path, contents.workspace)
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece
    yield archive.END


def _check_schema(manifest: Manifest) -> None:
    if manifest.readable_from > SCHEMA_VERSION:
        raise BadArchive(f"it can be read from schema {manifest.readable_from} on, and ours is {SCHEMA_VERSION}")


def _check_database(path: Path, contents: Contents) -> None:
    copy = path.with_suffix(".db.part")
    try:
        archive.extract(path, contents.database, copy)
        counts, last_turn = _facts(copy, check=True)
    except sqlite3.DatabaseError as error:
        raise BadArchive(f"its database is damaged ({error})") from error
    finally:
        copy.unlink(missing_ok=True)
    if (counts, last_turn) != (contents.manifest.counts, contents.manifest.last_turn):
        raise BadArchive("its database does not hold what the manifest counts")


def _facts(path: Path, *, check: bool = False) -> tuple[dict[str, int], str | None]:
    """Rows by table, and the newest turn, of a database file."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        if check and (found := database.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(json.dumps(found))
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        counts = {name: _count(database, name) for (name,) in sorted(names)}
        newest = database.execute("SELECT id FROM turn ORDER BY created DESC, rowid DESC LIMIT 1").fetchone()
    finally:
        database.close()
    return counts, newest[0] if newest else None


def _count(database: sqlite3.Connection, table: str) -> int:
    quoted = table.replace('"', '""')
    return int(database.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()[0])  # noqa: S608  a table's name
