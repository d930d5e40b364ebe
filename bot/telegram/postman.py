"""Bring agents' letters to their chats."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from telegram import LinkPreviewOptions
from telegram.constants import MessageEntityType
from telegram.error import BadRequest, NetworkError, RetryAfter, TelegramError
from telegram.ext import ExtBot

from agent.protocol import Attachment
from bot.accounts.agents import Agents
from bot.accounts.users import Users
from bot.chat.letters import Letters
from bot.errors import FileLost
from bot.log import line
from bot.store.models import Letter, LetterState
from bot.telegram.files import AgentFile, FileSender, why_not
from bot.telegram.render import Chunk, one_line, plain, render, stack
from bot.telegram.texts import Texts

log = logging.getLogger(__name__)

_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
_HEADER_UNITS, _NAME_UNITS = 90, 100
_PAGE_UNITS, _PAGE_ENTITIES = 3_900, 98  # with the header within Telegram's limits


OpenAgentFile = Callable[[int, str, str], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""A file by agent, chat and its own id: its content, piece by piece."""


class Postman:
    """Delivers what waits for a chat, in order.

    Telegram has no idempotency key: a message whose answer got lost, or after which the bot died before it had written
    that down, is sent again. That is one message of a letter, not all of it.
    """

    def __init__(  # noqa: PLR0917  the services it stands between
        self,
        bot: ExtBot[Any],
        letters: Letters,
        agents: Agents,
        users: Users,
        texts: Texts,
        sender: FileSender,
        open_file: OpenAgentFile,
    ) -> None:
        self._bot = bot
        self._letters = letters
        self._agents = agents
        self._users = users
        self._texts = texts
        self._sender = sender
        self._open_file = open_file
        self._expected: set[int] = set()

    def expect(self, chat_id: int) -> None:
        """There are letters for this chat."""
        self._expected.add(chat_id)

    async def deliver(self, chat_id: int) -> bool:
        """Deliver them, if there are any; False if Telegram could not be reached: they wait."""
        if chat_id not in self._expected:
            return True
        self._expected.remove(chat_id)
        while letter := await self._letters.next(chat_id):
            if not await self._bring(letter):
                self._expected.add(chat_id)
                return False
        return True

    async def _bring(self, letter: Letter) -> bool:
        try:
            await self._send(letter)
        except TelegramError as error:
            if isinstance(error, RetryAfter) or (isinstance(error, NetworkError) and not isinstance(error, BadRequest)):
                log.warning(line("letter not delivered yet", agent=letter.agent_id, letter=letter.id, why=error))
                return False
            # They blocked the bot, or the chat is gone: nobody is there to be told, now or later.
            log.warning(line("letter dropped", agent=letter.agent_id, letter=letter.id, why=error))
            await self._letters.end(letter, LetterState.DROPPED)
        else:
            await self._letters.end(letter, LetterState.DELIVERED)
            log.info(line("letter delivered", agent=letter.agent_id, letter=letter.id))
        return True

    async def _send(self, letter: Letter) -> None:
        """Its messages, then its files; those that went out before are passed over."""
        agent = await self._agents.get(letter.agent_id)
        pages = _pages(agent.name if agent else "", letter.text)
        steps = [partial(self._send_page, letter.chat_id, page, is_first=not at) for at, page in enumerate(pages)]
        steps += [partial(self._send_file, letter, Attachment.model_validate(file)) for file in letter.files]
        for number, step in enumerate(steps):
            if number >= letter.sent:
                await _whole(self._do_and_note(letter, number, step))

    async def _do_and_note(self, letter: Letter, number: int, step: Callable[[], Awaitable[None]]) -> None:
        await step()
        await self._letters.sent(letter, number + 1)

    async def _send_file(self, letter: Letter, file: Attachment) -> None:
        opened = partial(self._open_file, letter.agent_id, str(letter.chat_id), file.id)
        try:
            await self._sender.send(letter.chat_id, AgentFile(file.name, file.media_type, file.size, opened))
        except FileLost as error:
            log.warning(line("file of a letter not sent", agent=letter.agent_id, letter=letter.id, why=error))
            user = await self._users.get(letter.chat_id)
            say = self._texts.speak(user.language if user else None).plain
            size, name = f"{file.size / 1e6:.1f}", one_line(file.name, _NAME_UNITS)
            key = why_not(file.size) or "relay-file-lost"
            await self._send_page(letter.chat_id, plain(say(key, name=name, size=size)), is_first=False)

    async def _send_page(self, chat_id: int, page: Chunk, *, is_first: bool) -> None:
        try:
            await self._send_once(chat_id, page, is_first=is_first)
        except BadRequest as error:
            if not page.entities or "chat not found" in str(error).lower():
                raise
            log.warning(line("entities refused", chat=chat_id, why=error))
            await self._send_once(chat_id, Chunk(page.text, []), is_first=is_first)

    async def _send_once(self, chat_id: int, page: Chunk, *, is_first: bool) -> None:
        await self._bot.send_message(
            chat_id,
            page.text,
            entities=page.entities,
            link_preview_options=_NO_PREVIEW,
            disable_notification=not is_first,
        )


async def _whole(step: Coroutine[Any, Any, None]) -> None:
    """Finish it also when the bot is told to stop in its middle."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _pages(name: str, text: str) -> list[Chunk]:
    """A letter's messages, the first under the agent's name."""
    chunks = render(text, units=_PAGE_UNITS, entities=_PAGE_ENTITIES)
    if not chunks:
        return []
    title = plain(one_line(f"{name} ·", _HEADER_UNITS), MessageEntityType.BOLD)
    return [stack([title, chunks[0]], "\n"), *chunks[1:]]
