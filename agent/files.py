"""Files that come from people and go to them. They lie in the workspace; what is kept here is which is which."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4
from weakref import WeakValueDictionary

from agent import images
from agent.errors import Refused
from agent.file_names import safe_name
from agent.images import IMAGE_TYPES, Images, image_type
from agent.protocol import MAX_FILE_BYTES, MAX_ID_CHARS, Attachment, Role
from agent.store import Store
from agent.toolbox import ToolFailed
from agent.workspace import NoRoom, Runner, Unreachable, Workspace

RECEIVED = "received"
PIECE_BYTES = 4_000_000
_HEAD_BYTES = 16
_UNKNOWN = "application/octet-stream"
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS file (
    chat_id TEXT NOT NULL, id TEXT NOT NULL, folder TEXT NOT NULL, path TEXT NOT NULL, name TEXT NOT NULL,
    media_type TEXT NOT NULL, size INTEGER NOT NULL, received INTEGER NOT NULL, created REAL NOT NULL,
    PRIMARY KEY (chat_id, id));
CREATE INDEX IF NOT EXISTS file_by_place ON file (folder, path);
"""
# `folder` is whose it is (`Workspace.folder`), `path` is below that. `received`: it came from a person.


class Files:
    """The files of all chats."""

    def __init__(self, store: Store, runner: Runner, kept_images: Images) -> None:
        store.prepare(_SCHEMA)
        self.store = store
        self.runner = runner
        self.images = kept_images
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def of(self, role: Role, chat_id: str) -> "ChatFiles":
        """Those that who speaks in this chat may reach."""
        return ChatFiles(self, chat_id, Workspace.of(self.runner, role, chat_id))

    def lock(self, chat_id: str, file_id: str) -> asyncio.Lock:
        """Held while this file is written: the same one may be sent twice at the same time."""
        return self._locks.setdefault((chat_id, file_id), asyncio.Lock())

    def find(self, chat_id: str, file_id: str) -> tuple[str, Attachment] | None:
        """A file of a chat and the folder that its path is below."""
        row = self.store.execute(
            "SELECT folder, id, path, name, media_type, size FROM file WHERE chat_id = ? AND id = ?",
            (chat_id, file_id),
        ).fetchone()
        if row is None:
            return None
        return row[0], Attachment(id=row[1], path=row[2], name=row[3], media_type=row[4], size=row[5])

    async def open(self, chat_id: str, file_id: str) -> tuple[Attachment, AsyncIterator[bytes]]:
        """A file as it is now, and its bytes; `Refused` if it is not there, or is another chat's."""
        found = self.find(chat_id, file_id)
        if found is None:
            raise Refused(404, "not_found", "This chat has no such file.")
        folder, file = found
        reader = _Reader(Workspace(self.runner, folder), file.path)
        try:
            first = await reader.next()
        except Unreachable as failure:
            raise Refused(503, "unavailable", str(failure)) from failure
        except ToolFailed as failure:
            raise Refused(404, "not_found", f"This file is gone: {failure}") from failure
        return file.model_copy(update={"size": reader.size}), reader.from_first(first)

    def chats(self, beginning: str) -> list[str]:
        """The chats with files whose ids begin so."""
        rows = self.store.execute("SELECT DISTINCT chat_id FROM file WHERE chat_id GLOB ?", (f"{beginning}*",))
        return [row[0] for row in rows]

    async def erase(self, chat_id: str) -> None:
        """Remove what people sent in a chat, and forget its files; `ToolFailed` if that must be tried again."""
        rows = self.store.execute("SELECT folder, path FROM file WHERE chat_id = ? AND received = 1", (chat_id,))
        for folder, path in rows.fetchall():
            await Workspace(self.runner, folder).do("remove", path=path)
        self.forget(chat_id)

    def forget(self, chat_id: str) -> None:
        """Forget which files a chat has. They stay in the workspace."""
        self.store.execute("DELETE FROM file WHERE chat_id = ?", (chat_id,))
        self.images.forget(chat_id)


@dataclass(frozen=True, slots=True)
class ChatFiles:
    """The files of one person in one chat."""

    files: Files
    chat_id: str
    workspace: Workspace

    async def receive(self, file_id: str, name: str, media_type: str, chunks: AsyncIterable[bytes]) -> Attachment:
        """Keep a file that a person sent, in the place of what had this id; `Refused` if that cannot be done."""
        if not _ID.fullmatch(file_id) or not 0 < len(self.chat_id) <= MAX_ID_CHARS:
            raise Refused(400, "bad_request", "The id of a file has letters, digits, - and _; at most 128.")
        inflow = _Inflow(chunks)
        async with self.files.lock(self.chat_id, file_id):
            try:
                path = await self._put(f"{RECEIVED}/{safe_name(name)}", self._own_path(file_id), inflow)
            except NoRoom as failure:
                raise Refused(507, "no_room", str(failure)) from failure
            except ToolFailed as failure:
                raise Refused(503, "unavailable", str(failure)) from failure
            return self._keep_received(file_id, safe_name(name), path, inflow.described(media_type), inflow)

    async def save(self, folder: str, name: str, media_type: str, data: bytes) -> Attachment:
        """Keep a file that the agent made, for the person to be shown; `ToolFailed` if that cannot be done."""
        inflow = _Inflow(_once(data))
        path = await self._put(f"{folder}/{safe_name(name)}", "", inflow)
        return self._keep(uuid4().hex, path, media_type, inflow.size)

    async def share(self, path: str) -> Attachment:
        """A file of the workspace for the person to be shown; `ToolFailed` if there is none, or it cannot be sent."""
        import mimetypes  # noqa: PLC0415 - reads the machine's lists

        found = json.loads(await self.workspace.do("stat", path=path))
        if not found["size"]:
            raise ToolFailed(f"{path} is empty, and an empty file cannot be sent.")
        if found["size"] > MAX_FILE_BYTES:
            limit = MAX_FILE_BYTES // 1_000_000
            raise ToolFailed(f"{path} has {found['size']} bytes; at most {limit} MB can be sent. Make it smaller.")
        media_type = mimetypes.guess_type(found["path"])[0] or _UNKNOWN
        return self._keep(uuid4().hex, found["path"], media_type, found["size"])

    def find(self, file_id: str) -> Attachment | None:
        """A file of this chat that lies in this person's folder."""
        found = self.files.find(self.chat_id, file_id)
        return found[1] if found and found[0] == self.workspace.folder else None

    def _own_path(self, file_id: str) -> str:
        file = self.find(file_id)
        return file.path if file else ""

    async def _put(self, path: str, replaces: str, inflow: "_Inflow") -> str:
        place = {"path": path, "replaces": replaces, "upload": uuid4().hex}
        try:
            written = json.loads(await self.workspace.give(inflow.frames(), **place))
        except ToolFailed:
            await self._discard(replaces or path, place["upload"])
            raise
        return str(written["path"])

    async def _discard(self, path: str, upload: str) -> None:
        """Remove what is left of a file whose program was killed, for its time or for the quota."""
        with suppress(ToolFailed):  # why the file did not arrive is what its sender should hear
            await self.workspace.do("discard", path=path, upload=upload)

    def _keep_received(self, file_id: str, name: str, path: str, media_type: str, inflow: "_Inflow") -> Attachment:
        # Whatever lay here before was removed by a tool; its id must not come to mean this file.
        self.files.store.execute(
            "DELETE FROM file WHERE folder = ? AND path = ? AND received = 1", (self.workspace.folder, path)
        )
        pictures = self.files.images
        if pictures.vision and inflow.image:
            pictures.keep(self.chat_id, file_id, media_type, bytes(inflow.kept), time.time())
        else:
            pictures.drop(self.chat_id, file_id)
        return self._keep(file_id, path, media_type, inflow.size, name=name, received=True)

    def _keep(
        self, file_id: str, path: str, media_type: str, size: int, *, name: str = "", received: bool = False
    ) -> Attachment:
        name = name or safe_name(path)
        self.files.store.execute(
            "INSERT OR REPLACE INTO file (chat_id, id, folder, path, name, media_type, size, received, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self.chat_id, file_id, self.workspace.folder, path, name, media_type, size, received, time.time()),
        )
        self.files.store.commit()
        return Attachment(id=file_id, name=name, media_type=media_type, size=size, path=path)


class _Inflow:
    """A file on its way in: framed for `in_workspace.py`, counted, and kept as long as it may be a small image."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self.size = 0
        self.kept = bytearray()
        self._chunks = chunks

    @property
    def image(self) -> str:
        """The media type of the image that it is, if it is one that models can be shown."""
        return image_type(bytes(self.kept[:_HEAD_BYTES])) if self.size <= images.MAX_BYTES else ""

    def described(self, claimed: str) -> str:
        """Its media type: for images what they are, not what they are said to be."""
        found = image_type(bytes(self.kept[:_HEAD_BYTES]))
        is_known = _MEDIA_TYPE.fullmatch(claimed) and claimed not in IMAGE_TYPES
        return found or (claimed if is_known else _UNKNOWN)

    async def frames(self) -> AsyncIterator[bytes]:
        """Each chunk after its length; `Refused` when it is too much."""
        async for chunk in self._chunks:
            self._count(chunk)
            if chunk:
                yield len(chunk).to_bytes(4, "big") + chunk
        yield bytes(4)

    def _count(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > MAX_FILE_BYTES:
            raise too_large()
        if self.size <= images.MAX_BYTES and (len(self.kept) < _HEAD_BYTES or image_type(bytes(self.kept[:16]))):
            self.kept += chunk
        else:
            del self.kept[_HEAD_BYTES:]


class _Reader:
    """A file on its way out, piece by piece, as long as it stays the same."""

    def __init__(self, workspace: Workspace, path: str) -> None:
        self.size = 0
        self._workspace = workspace
        self._path = path
        self._version = ""
        self._start = 0

    async def next(self) -> bytes:
        """The next piece; empty at the end."""
        asked = {"path": self._path, "start": self._start, "count": PIECE_BYTES, "version": self._version}
        answer = await self._workspace.take("piece", PIECE_BYTES + 1_000, **asked)
        head, _, data = answer.partition(b"\n")
        told = json.loads(head)
        self.size, self._version = told["size"], told["version"]
        self._start += len(data)
        return data

    async def from_first(self, data: bytes) -> AsyncIterator[bytes]:
        """This piece and all that follow."""
        yield data
        while data and self._start < self.size:
            data = await self.next()
            yield data


def too_large() -> Refused:
    """A file has too many bytes."""
    return Refused(413, "too_large", f"A file may have {MAX_FILE_BYTES // 1_000_000} MB. Send a smaller one.")


async def _once(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]
