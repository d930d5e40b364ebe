"""Make the messages of one answer look as they should: send what is new, edit what changed, leave the rest alone."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from telegram import InlineKeyboardMarkup, LinkPreviewOptions, ReplyParameters
from telegram.error import BadRequest
from telegram.ext import ExtBot

from bot.log import line
from bot.telegram.limiter import Priority
from bot.telegram.render import Chunk

log = logging.getLogger(__name__)

_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)  # it would blink with every edit
_UNCHANGED = "message is not modified"
_GONE = ("message to edit not found", "message can't be edited", "message_id_invalid")
_ALREADY_GONE = ("message to delete not found", "message can't be deleted")


class Journal(Protocol):
    """Where the Telegram messages of a turn's answer stand, in order, so that a restarted bot edits the same ones.

    A file that was sent with the answer stands there as its message id with a minus: it is never edited or deleted.
    The files stand in their order; 0 is one that could not be sent.
    """

    async def messages(self, turn_id: str) -> list[int]: ...
    async def record(self, turn_id: str, message_ids: list[int]) -> None: ...


@dataclass(frozen=True, slots=True)
class Page:
    """One message as it should look."""

    chunk: Chunk
    keyboard: InlineKeyboardMarkup | None = None


class Pages:
    """The messages of one turn's answer, as far as they are in the chat."""

    def __init__(
        self,
        bot: ExtBot[Any],
        journal: Journal,
        *,
        chat_id: int,
        turn_id: str,
        reply_to: int | None,
        recorded: list[int],
    ) -> None:
        self._bot = bot
        self._journal = journal
        self._chat_id = chat_id
        self._turn_id = turn_id
        self._reply_to = reply_to
        self._ids = [message_id for message_id in recorded if message_id > 0]
        self._files = [message_id for message_id in recorded if message_id <= 0]
        self._shown: list[Page | None] = [None] * len(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    async def show(self, pages: Sequence[Page], edits: Priority, sends: Priority) -> None:
        """Bring every page up to date. After an error the next call goes on from there."""
        for index, page in enumerate(pages):
            if index == len(self._ids):
                await self._send(page, sends)
            elif self._shown[index] != page:
                await self._edit(index, page, edits)

    async def cut(self, length: int) -> None:
        """Delete the messages that the final answer no longer needs."""
        while len(self._ids) > length:
            await self._delete(self._ids[-1])
            self._ids.pop()
            self._shown.pop()
            await self._record()

    async def attach(self, index: int, send: Callable[[ReplyParameters | None], Awaitable[int | None]]) -> None:
        """Have the file with this index sent after the messages, once; `send` answers None where it cannot be."""
        if index < len(self._files):
            return
        is_first = not self._ids and not any(self._files)
        message_id = await send(self._reply() if is_first else None)
        self._files.append(-(message_id or 0))
        await self._record()

    def lost(self) -> set[int]:
        """The indexes of files that could not be sent."""
        return {index for index, message_id in enumerate(self._files) if not message_id}

    async def _send(self, page: Page, priority: Priority) -> None:
        try:
            message_id = await self._send_once(page, priority)
        except BadRequest as error:
            if not page.chunk.entities:
                raise
            self._warn(error)
            message_id = await self._send_once(_bare(page), priority)
        self._ids.append(message_id)
        self._shown.append(page)
        await self._record()

    async def _edit(self, index: int, page: Page, priority: Priority) -> None:
        try:
            await self._edit_once(index, page, priority)
        except BadRequest as error:
            if _says(error, _UNCHANGED):
                pass
            elif _says(error, *_GONE):  # the person deleted it
                self._ids[index] = await self._send_once(page, Priority.FIRST, position=index)
                await self._record()
            elif page.chunk.entities:
                self._warn(error)
                return await self._edit(index, _bare(page), priority)
            else:
                raise
        self._shown[index] = page
        return None

    async def _send_once(self, page: Page, priority: Priority, position: int | None = None) -> int:
        is_first = (len(self._ids) if position is None else position) == 0
        message = await self._bot.send_message(
            self._chat_id,
            page.chunk.text,
            entities=page.chunk.entities,
            reply_markup=page.keyboard,
            link_preview_options=_NO_PREVIEW,
            disable_notification=not is_first,
            reply_parameters=self._reply() if is_first else None,
            rate_limit_args=priority,
        )
        return message.message_id

    async def _edit_once(self, index: int, page: Page, priority: Priority) -> None:
        await self._bot.edit_message_text(
            page.chunk.text,
            self._chat_id,
            self._ids[index],
            entities=page.chunk.entities,
            reply_markup=page.keyboard,
            link_preview_options=_NO_PREVIEW,
            rate_limit_args=priority,
        )

    async def _delete(self, message_id: int) -> None:
        try:
            await self._bot.delete_message(self._chat_id, message_id, rate_limit_args=Priority.FINAL)
        except BadRequest as error:
            if not _says(error, *_ALREADY_GONE):
                raise

    def _reply(self) -> ReplyParameters | None:
        if self._reply_to is None:
            return None
        return ReplyParameters(self._reply_to, allow_sending_without_reply=True)

    async def _record(self) -> None:
        await self._journal.record(self._turn_id, [*self._ids, *self._files])

    def _warn(self, error: BadRequest) -> None:
        log.warning(line("entities refused", turn=self._turn_id, why=error))


def _bare(page: Page) -> Page:
    return replace(page, chunk=Chunk(page.chunk.text, []))


def _says(error: BadRequest, *texts: str) -> bool:
    return any(text in str(error).lower() for text in texts)
