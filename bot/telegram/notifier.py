"""Keep each open card as its agent's row is: coalesced on the way, always delivered at the end."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from telegram.error import BadRequest, Forbidden, TelegramError
from telegram.ext import ExtBot

from bot.accounts.agents import Agents, Card
from bot.accounts.users import Users
from bot.fleet.books import Books
from bot.log import line
from bot.store.models import Agent
from bot.telegram.progress import ENDS, Facts, progress
from bot.telegram.screen import Screen, draw
from bot.telegram.texts import Texts

log = logging.getLogger(__name__)

EDIT_SECONDS = 2.0
"""Between two edits of one card: screen readers, and Telegram's rates."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


class TelegramNotifier:
    """Implements `bot.fleet.notifier.Notifier`. What it has to show is in the rows, so that a restart shows it too."""

    def __init__(
        self,
        bot: ExtBot[Any],
        texts: Texts,
        agents: Agents,
        users: Users,
        books: Books,
        *,
        clock: Callable[[], float] = time.time,
        edit_seconds: float = EDIT_SECONDS,
    ) -> None:
        self._bot = bot
        self._texts = texts
        self._agents = agents
        self._users = users
        self._books = books
        self._clock = clock
        self._edit_seconds = edit_seconds
        self._news: dict[int, asyncio.Event] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Draw every card that has not shown how its wish ended."""
        for agent_id in await self._agents.open_cards():
            await self.show(agent_id)

    async def stop(self) -> None:
        """Leave open cards to the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def show(self, agent_id: int) -> None:
        """Redraw its card soon."""
        self._news.setdefault(agent_id, asyncio.Event()).set()
        if agent_id not in self._tasks:
            self._tasks[agent_id] = asyncio.create_task(self._keep(agent_id), name=f"card {agent_id}")

    async def _keep(self, agent_id: int) -> None:
        news, shown, pause = self._news[agent_id], None, FIRST_PAUSE_SECONDS
        try:
            while news.is_set():
                news.clear()
                agent = await self._agents.get(agent_id)
                if agent is None or not agent.card_open:
                    continue
                try:
                    shown = await self._draw(agent, shown)
                    pause = FIRST_PAUSE_SECONDS
                    if agent.phase not in ENDS:
                        await asyncio.sleep(self._edit_seconds)
                except TelegramError as error:
                    log.warning(line("card not drawn", agent=agent_id, why=type(error).__name__))
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                    news.set()
        except Exception:
            log.exception(line("card broke", agent=agent_id))
        finally:
            # No await since the news were seen to be over: what comes now finds either this task or none.
            del self._tasks[agent_id], self._news[agent_id]

    async def _draw(self, agent: Agent, shown: Screen | None) -> Screen:
        screen = await self._screen(agent)
        if screen != shown and agent.card_chat_id is not None:
            try:
                message_id = await draw(self._bot, agent.card_chat_id, agent.card_message_id, screen)
            except (Forbidden, BadRequest) as error:
                # They blocked the bot, or the chat is gone: nobody is there to be told, now or later.
                log.warning(line("card has no reader", agent=agent.id, why=error))
                message_id = agent.card_message_id or 0
            if message_id != agent.card_message_id:
                await self._agents.move_card(agent.id or 0, Card(agent.card_chat_id, message_id))
        if agent.phase in ENDS and agent.observed_generation == agent.generation:
            await self._agents.close_card(agent.id or 0, agent.generation)
        return screen

    async def _screen(self, agent: Agent) -> Screen:
        owner = await self._users.get(agent.owner_id)
        facts = Facts(
            username=self._bot.username,
            now=self._clock(),
            is_machine_gone=not await self._books.machines(agent.id or 0),
            stopped_at=await self._books.stopped_at(agent.id or 0),
        )
        return progress(agent, self._texts.speak(owner.language if owner else None), facts)
