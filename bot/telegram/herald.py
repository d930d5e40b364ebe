"""Tell people what they are to be told: each notice once, as soon as Telegram takes it, also after a restart."""

import asyncio
import datetime as dt
import logging
from collections.abc import Sequence
from typing import Any

from telegram import InlineKeyboardMarkup, MessageEntity
from telegram.constants import MessageEntityType
from telegram.error import BadRequest, NetworkError, RetryAfter, TelegramError
from telegram.ext import ExtBot

from bot.accounts.agents import Agents
from bot.accounts.users import Users
from bot.fleet.notices import OPERATOR, Notices
from bot.log import line
from bot.store.models import Agent, Wanted
from bot.store.records import Notice
from bot.telegram.keyboards import Verb, button, rows
from bot.telegram.ordering import Lanes
from bot.telegram.render import Chunk, utf16_length
from bot.telegram.screen import NO_PREVIEW
from bot.telegram.texts import Speech, Texts

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
"""Between two looks at what waits: another process may have posted it, and Telegram may have come back."""


class Herald:
    """A loop over what waits, and a lane for each person: one who cannot be reached keeps nobody else waiting.

    Telegram has no idempotency key: a notice is told again if the bot dies before it has written down that it was.
    """

    def __init__(
        self,
        bot: ExtBot[Any],
        texts: Texts,
        notices: Notices,
        users: Users,
        agents: Agents,
        *,
        admins: Sequence[int] = (),
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._bot = bot
        self._texts = texts
        self._notices = notices
        self._users = users
        self._agents = agents
        self._admins = tuple(admins)
        self._look_seconds = look_seconds
        self._lanes: Lanes[Notice] = Lanes("notices", self._bring)
        self._begun: set[str] = set()
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Tell what was left, and what comes."""
        self._watching = asyncio.create_task(self._watch(), name="notices")

    async def stop(self) -> None:
        """Leave what was not told to the next start."""
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._lanes.drain(timeout=0)

    async def _watch(self) -> None:
        while True:
            self._notices.news.clear()
            try:
                await self._look()
            except Exception:
                log.exception("notices not looked for")
            try:
                async with asyncio.timeout(self._look_seconds):
                    await self._notices.news.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        for notice in await self._notices.waiting():
            if notice.user_id == OPERATOR:
                await self._share(notice)
            elif notice.id not in self._begun:
                self._begun.add(notice.id)
                self._lanes.put(notice.user_id, notice)

    async def _share(self, notice: Notice) -> None:
        # Also where there is nobody to be told: then the log has it.
        log.warning(line("notice to the operator", notice=notice.id, text=notice.text, facts=notice.facts))
        await self._notices.share(notice, self._admins)
        self._notices.news.set()

    async def _bring(self, notice: Notice) -> None:
        """What goes wrong with this one alone is logged, and it waits for a bot that was started anew."""
        try:
            await self._send(notice)
        except TelegramError as error:
            if isinstance(error, RetryAfter) or (isinstance(error, NetworkError) and not isinstance(error, BadRequest)):
                log.warning(line("notice not told yet", notice=notice.id, why=type(error).__name__))
                self._begun.discard(notice.id)
                return
            # They blocked the bot, or never wrote to it: nobody is there to be told, now or later.
            log.warning(line("notice has no reader", notice=notice.id, user=notice.user_id, why=error))
        # It stays among those that were begun: a look that is under way may have read it before.
        await self._notices.told(notice.id)

    async def _send(self, notice: Notice) -> None:
        user = await self._users.get(notice.user_id)
        say = self._texts.speak(user.language if user else None)
        agent = await self._agents.get(int(notice.facts["agent_id"])) if "agent_id" in notice.facts else None
        chunk, keyboard = worded(notice, say, agent), _keyboard(notice, say, agent)
        try:
            await self._send_once(notice.user_id, chunk, keyboard)
        except BadRequest as error:
            if not chunk.entities or "chat not found" in str(error).lower():
                raise
            log.warning(line("entities refused", notice=notice.id, why=error))
            await self._send_once(notice.user_id, Chunk(chunk.text, []), keyboard)

    async def _send_once(self, user_id: int, chunk: Chunk, keyboard: InlineKeyboardMarkup | None) -> None:
        await self._bot.send_message(
            user_id, chunk.text, entities=chunk.entities, reply_markup=keyboard, link_preview_options=NO_PREVIEW
        )


def worded(notice: Notice, say: Speech, agent: Agent | None) -> Chunk:
    """A notice in a person's words. Its time is shown by their own clock, or in UTC where a client cannot do that."""
    facts = {"at": notice.created_at} | notice.facts | ({"name": agent.name} if agent else {})
    moment = dt.datetime.fromtimestamp(facts.pop("at"), dt.UTC)
    is_today = moment.date() == dt.datetime.fromtimestamp(notice.created_at, dt.UTC).date()
    shown = say.plain("notice-time" if is_today else "notice-day", time=f"{moment:%H:%M}", day=f"{moment:%Y-%m-%d}")
    text = say.plain(notice.text, **facts, at=shown)
    begin = text.find(shown)
    if begin < 0:
        return Chunk(text, [])
    entity = MessageEntity(
        MessageEntityType.DATE_TIME,
        offset=utf16_length(text[:begin]),
        length=utf16_length(shown),
        unix_time=moment,
        date_time_format="t" if is_today else "dt",
    )
    return Chunk(text, [entity])


def _keyboard(notice: Notice, say: Speech, agent: Agent | None) -> InlineKeyboardMarkup | None:
    """The way to the agent's card, for its owner."""
    if agent is None or agent.owner_id != notice.user_id or agent.wanted is Wanted.DELETED:
        return None
    return rows([button(say.plain("manage"), Verb.CARD, agent.id or 0)])
