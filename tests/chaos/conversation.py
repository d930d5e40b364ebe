"""Answer people's turns as the front end does: each chat's in order, one at a time, through the bot's own route."""

import asyncio
import logging
from contextlib import aclosing
from functools import partial

from agent import protocol
from bot.chat.turns import Turns
from bot.errors import AgentError
from bot.log import line
from bot.store.models import Turn
from tests.chaos.journal import Journal

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1


class Conversation:
    """All chats."""

    def __init__(self, turns: Turns, journal: Journal) -> None:
        self._turns = turns
        self._journal = journal
        self._chats: dict[int, asyncio.Task[None]] = {}

    async def look(self) -> None:
        """Begin to answer where nobody does."""
        for turn in await self._turns.open():
            if turn.chat_id not in self._chats:
                task = self._chats[turn.chat_id] = asyncio.create_task(self._answer_all(turn.chat_id))
                task.add_done_callback(partial(self._ended, turn.chat_id))

    def _ended(self, chat_id: int, task: asyncio.Task[None]) -> None:
        del self._chats[chat_id]
        if not task.cancelled() and (error := task.exception()):
            log.error(line("chat broke", chat=chat_id), exc_info=error)

    async def _answer_all(self, chat_id: int) -> None:
        while turn := await self._turns.next(chat_id):
            seen, is_answered = 0, False
            try:
                async with aclosing(self._turns.events(turn)) as events:
                    async for event in events:
                        if isinstance(event, protocol.Final):
                            seen, is_answered = event.seq, isinstance(event, protocol.Done)
            except AgentError as error:
                log.info(line("turn not answered", turn=turn.id, agent=turn.agent_id, why=error))
            await self._end(turn, seen, is_answered=is_answered)

    async def _end(self, turn: Turn, seen: int, *, is_answered: bool) -> None:
        if is_answered:
            # The person has the end of the answer, whatever the bot comes to write down.
            self._journal.note("answered", turn.id)
        await self._turns.finish(turn, answered=is_answered, is_charged=True, seen=seen)
