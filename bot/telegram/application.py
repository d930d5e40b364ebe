"""PTB's application without its updater: updates come from the inbox, in order, and are ticked off when handled."""

import asyncio
import logging
import secrets

from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.constants import ParseMode
from telegram.error import TelegramError
from telegram.ext import Application, ApplicationHandlerStop, ContextTypes, ExtBot

from bot.log import line
from bot.settings import Settings
from bot.telegram.commands import register
from bot.telegram.context import Context, Services
from bot.telegram.conversation import Conversations
from bot.telegram.inbox import Inbox
from bot.telegram.intake import Intake
from bot.telegram.keyboards import callback_data
from bot.telegram.limiter import Limiter
from bot.telegram.notifier import TelegramNotifier
from bot.telegram.ordering import Lanes
from bot.telegram.transport import AiohttpRequest

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""How long handlers may go on after SIGTERM; running turns are left to the next start."""


def make_bot(settings: Settings) -> ExtBot[None]:
    """PTB's bot on our transport and limiter; not yet connected."""
    base = settings.telegram_api_base.rstrip("/")
    return ExtBot(
        settings.telegram_bot_token.get_secret_value(),
        base_url=f"{base}/bot",
        base_file_url=f"{base}/file/bot",
        request=AiohttpRequest(),
        get_updates_request=AiohttpRequest(),
        rate_limiter=Limiter(),
    )


class Front:
    """Everything that talks to Telegram: start, run, stop in order."""

    def __init__(
        self, services: Services, inbox: Inbox, conversations: Conversations, notifier: TelegramNotifier
    ) -> None:
        self._services = services
        self._inbox = inbox
        self._conversations = conversations
        self._notifier = notifier
        self._lanes: Lanes[Update] = Lanes("updates", self._handle)
        self._intake = Intake(services.bot, inbox, self.dispatch)
        self._application = self._make_application(services)
        self._broken: set[int] = set()

    async def run_until(self, stop: asyncio.Event) -> None:
        """Answer until `stop` is set or polling ends for good (a wrong token), then stop in order."""
        async with self._application:
            await self._start()
            polling = asyncio.create_task(self._intake.run(), name="intake")
            waiting = asyncio.create_task(stop.wait(), name="stop")
            try:
                await asyncio.wait({polling, waiting}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (polling, waiting):
                    task.cancel()
                await asyncio.gather(polling, waiting, return_exceptions=True)
                await self._stop()
            if not stop.is_set():
                await polling

    def dispatch(self, update: Update) -> None:
        """Have a stored update handled, behind those of the same chat."""
        chat = update.effective_chat
        self._lanes.put(chat.id if chat else 0, update)

    async def _start(self) -> None:
        await self._services.fleet.start()
        await self._notifier.start()
        await self._inbox.prune()
        await self._conversations.resume()
        log.info(line("answering", bot=self._services.bot.username))

    async def _stop(self) -> None:
        await self._lanes.drain(timeout=DRAIN_SECONDS)
        await self._conversations.stop()
        await self._services.fleet.stop()
        await self._notifier.stop()

    def _make_application(self, services: Services) -> Application:
        application = (
            Application.builder().bot(services.bot).updater(None).context_types(ContextTypes(context=Context)).build()
        )
        application.bot_data = services
        return application
