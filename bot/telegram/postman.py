"""Bring agents' letters to their chats."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from telegram import LinkPreviewOptions
from telegram.constants import MessageEntityType
from telegram.error import BadRequest, NetworkError, RetryAfter, TelegramError
from telegram.ext import ExtBot

from bot.accounts.agents import Agents
from bot.chat.letters import Letters
from bot.log import line
from bot.store.models import Letter, LetterState
from bot.telegram.render import Chunk, one_line, plain, render, stack

log = logging.getLogger(__name__)

_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
_HEADER_UNITS = 90
_PAGE_UNITS, _PAGE_ENTITIES = 3_900, 98  # with the header within Telegram's limits


class Postman:
    """Delivers what waits for a chat, in order.

    Telegram has no idempotency key: a message whose answer got lost, or after which the bot died before it had written
    that down, is sent again. That is one message of a letter, not all of it.
    """

    def __init__(self, bot: ExtBot[Any], letters: Letters, agents: Agents) -> None:
        self._bot = bot
        self._letters = letters
        self._agents = agents
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
        agent = await self._agents.get(letter.agent_id)
        for number, page in enumerate(_pages(agent.name if agent else "", letter.text)):
            if number >= letter.sent:
                await _whole(self._send_and_note(letter, number, page))

    async def _send_and_note(self, letter: Letter, number: int, page: Chunk) -> None:
        await self._send_page(letter.chat_id, page, is_first=number == 0)
        await self._letters.sent(letter, number + 1)

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
