"""Send a chat what an agent made: fetched from the agent piece by piece, sent from disk, a picture where it is one."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from telegram import InputFile, Message, ReplyParameters
from telegram.error import BadRequest, TimedOut
from telegram.ext import ExtBot

from agent.protocol import MAX_FILE_BYTES
from bot.errors import AgentBusy, AgentHeld, AgentOffline, AgentRefused, FileLost
from bot.telegram.limiter import Priority
from bot.telegram.render import clipped
from bot.telegram.spool import spool, write
from bot.telegram.transport import NOT_SENT

log = logging.getLogger(__name__)

MAX_PHOTO_BYTES = 10_000_000
MAX_CAPTION_UNITS = 1024
MAX_NAME_CHARS = 200
PICTURES = frozenset({"image/jpeg", "image/png", "image/webp"})
PAUSES = (0.5, 2.0, 5.0)
"""Seconds between the tries to have a file from its agent."""
READ_SECONDS, SLOWEST = 60.0, 200_000
"""Patience with Telegram once it has a file; and bytes a second at which sending one is still waited for."""
QUOTED = str.maketrans({'"': "'", "\\": "_", "/": "_"})
"""A name is sent between quotes."""
CLOSED = "chat not found"

OpenFile = Callable[[str], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""An agent's file by its id: its content, piece by piece."""


@dataclass(frozen=True, slots=True)
class AgentFile:
    """A file as the agent tells of it; `open` has it. Its name and caption are not to be trusted."""

    name: str
    media_type: str
    size: int
    open: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]
    caption: str = ""

    @property
    def is_picture(self) -> bool:
        """One that Telegram shows, if it can read it."""
        return self.media_type in PICTURES and self.size <= MAX_PHOTO_BYTES


def why_not(size: int) -> str | None:
    """The key of the text that says why Telegram takes no file of so many bytes; None if it does."""
    if size > MAX_FILE_BYTES:
        return "relay-file-too-large"
    return None if size else "relay-file-empty"


class FileSender:
    """Sends agents' files, in answers and unasked. They are in `folder` meanwhile; None: the system's for such."""

    def __init__(self, bot: ExtBot[Any], *, folder: Path | None = None, pauses: tuple[float, ...] = PAUSES) -> None:
        self._bot = bot
        self._folder = folder
        self._pauses = pauses

    async def send(
        self,
        chat_id: int,
        file: AgentFile,
        *,
        reply: ReplyParameters | None = None,
        thread_id: int | None = None,
        silent: bool = True,
    ) -> int:
        """The id of its message. `FileLost` where the agent does not have it or Telegram does not take it.

        What says nothing about the file passes: Telegram out of reach, or a chat that is closed to the bot.
        """
        if key := why_not(file.size):
            raise FileLost(key)
        with await spool(self._folder) as target:
            await self._fetch(file, target)
            content = _input(Path(target.name), file.name)
            options: dict[str, Any] = {
                "caption": _caption(file.caption),
                "reply_parameters": reply,
                "message_thread_id": thread_id,
                "disable_notification": silent,
                "rate_limit_args": Priority.FINAL,
                "read_timeout": READ_SECONDS,
                "write_timeout": READ_SECONDS + file.size / SLOWEST,
            }
            try:
                return (await self._send(chat_id, file, content, options)).message_id
            except BadRequest as error:
                if CLOSED in str(error).lower():
                    raise
                raise FileLost("relay-file-lost") from error
            except TimedOut as error:
                # It may have arrived. Again and again, the chat would fill with it.
                if NOT_SENT in str(error):
                    raise
                raise FileLost("relay-file-lost") from error

    async def _send(self, chat_id: int, file: AgentFile, content: InputFile, options: dict[str, Any]) -> Message:
        if file.is_picture:
            try:
                return await self._bot.send_photo(chat_id, content, **options)
            except BadRequest as error:
                if CLOSED in str(error).lower():
                    raise
                # Too long, too flat, or no picture at all: it goes as it is.
        return await self._bot.send_document(chat_id, content, **options)

    async def _fetch(self, file: AgentFile, target: IO[bytes]) -> None:
        for pause in (*self._pauses, None):
            try:
                return await _copy(file, target)
            except AgentRefused as error:
                raise FileLost("relay-file-lost") from error
            except (AgentOffline, AgentBusy, AgentHeld) as error:
                if pause is None:
                    raise FileLost("relay-file-lost") from error
                await asyncio.sleep(pause)
        return None


async def _copy(file: AgentFile, target: IO[bytes]) -> None:
    target.seek(0)
    target.truncate()
    size = 0
    async with file.open() as pieces:
        async for piece in pieces:
            size += len(piece)
            if size > MAX_FILE_BYTES:
                raise FileLost("relay-file-too-large")
            await write(target, piece)
    if not size:
        raise FileLost("relay-file-empty")
    await write(target, b"")


def emptied(folder: Path) -> Path:
    """The folder without what a bot that was killed has left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _input(path: Path, name: str) -> InputFile:
    # Read by our transport while it is sent, and not before: many may be on their way at once.
    return InputFile(cast("IO[bytes]", path), filename=_name(name), read_file_handle=False)


def _name(name: str) -> str:
    printable = "".join(char if char.isprintable() else "_" for char in name.translate(QUOTED))
    return printable.strip()[-MAX_NAME_CHARS:] or "file"


def _caption(text: str) -> str | None:
    if len(text.encode("utf-16-le", "replace")) <= 2 * MAX_CAPTION_UNITS:
        return text or None
    return clipped(text, MAX_CAPTION_UNITS - 1) + "…"
