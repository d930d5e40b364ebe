"""PTB's application without its updater: updates come from the inbox, in order, and are ticked off when handled."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from telegram import Update
from telegram.error import BadRequest, Forbidden, InvalidToken, NetworkError, TelegramError
from telegram.ext import Application, CallbackContext, ContextTypes, ExtBot

from bot.chat.outbox import Outboxes
from bot.errors import BadSettings, DatabaseLost
from bot.log import line
from bot.settings import Settings
from bot.telegram.commands import register
from bot.telegram.commands.start import HOME_COMMANDS, menu
from bot.telegram.context import Context, Services
from bot.telegram.conversation import Conversations
from bot.telegram.herald import Herald
from bot.telegram.intake import Intake
from bot.telegram.keyboards import Verb, button, rows
from bot.telegram.limiter import Limiter
from bot.telegram.notifier import TelegramNotifier
from bot.telegram.ordering import Lanes
from bot.telegram.screen import Screen, send
from bot.telegram.transport import AiohttpRequest

log = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""How long handlers may go on after SIGTERM; running turns are left to the next start."""
TRIES = 5
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
REFUSED_TOKEN = "TELEGRAM_BOT_TOKEN is refused by Telegram; @BotFather shows the right one"  # noqa: S105  words about it


def make_bot(settings: Settings, limiter: Limiter, confirm: Callable[[], Awaitable[None]] | None = None) -> ExtBot[Any]:
    """PTB's bot on our transport and limiter; not yet connected. `confirm` as in the transport."""
    base = settings.telegram_api_base.rstrip("/")
    return ExtBot(
        settings.telegram_bot_token.get_secret_value(),
        base_url=f"{base}/bot",
        base_file_url=f"{base}/file/bot",
        request=AiohttpRequest(confirm=confirm),
        get_updates_request=AiohttpRequest(confirm=confirm),
        rate_limiter=limiter,
    )


class Updates:
    """The lane of a chat's updates: handle each, tick it off, and say so honestly when our side broke."""

    def __init__(self) -> None:
        self._lanes: Lanes[Update] = Lanes("updates", self._handle)
        self._errors: dict[int, Exception] = {}
        self._application: Application[Any, Any, Any, Any, Any, Any] | None = None

    def dispatch(self, update: Update) -> None:
        """Have a stored update handled, behind those of the same chat."""
        chat = update.effective_chat
        self._lanes.put(chat.id if chat else 0, update)

    async def drain(self) -> None:
        """Let handlers finish; what is left is in the inbox."""
        await self._lanes.drain(timeout=DRAIN_SECONDS)

    def serve(self, services: Services) -> Application[Any, Any, Any, Any, Any, Any]:
        """PTB's application around these services."""
        types: ContextTypes[Any, Any, Any, Any] = ContextTypes(context=Context)
        application = Application.builder().bot(services.bot).updater(None).context_types(types).build()
        application.bot_data = services
        application.add_error_handler(self._remember)
        register(application)
        self._application = application
        return application

    async def _handle(self, update: Update) -> None:
        assert self._application is not None  # noqa: S101  serve() comes before the first update
        services: Services = self._application.bot_data
        pause = FIRST_PAUSE_SECONDS
        for _ in range(TRIES):
            await self._application.process_update(update)
            error = self._errors.pop(update.update_id, None)
            if not _may_heal(error):
                break
            # Handlers may run again: what they changed is not changed twice, and drawn anew.
            await asyncio.sleep(pause)
            pause *= 2
        if error is None or isinstance(error, Forbidden):
            await services.inbox.done(update.update_id)
        elif isinstance(error, DatabaseLost):
            log.warning(line("update left to the next start", update=update.update_id))
        else:
            await self._own_up(services, update, error)

    async def _own_up(self, services: Services, update: Update, error: Exception) -> None:
        code = secrets.token_hex(2).upper()
        chat, user = update.effective_chat, update.effective_user
        log.error(line("update failed", update=update.update_id, chat=chat and chat.id, code=code), exc_info=error)
        await services.inbox.failed(update.update_id)
        if chat is None:
            return
        say = services.texts.speak(user.language_code if user else None)
        again = rows([button(say.plain("again"), Verb.AGAIN, update.update_id)])
        try:
            await send(services.bot, chat.id, Screen(say("broke", code=code), again))
        except TelegramError as failure:
            log.warning(line("person not told", chat=chat.id, code=code, why=type(failure).__name__))

    async def _remember(self, update: object, context: CallbackContext[Any, Any, Any, Any]) -> None:
        if isinstance(update, Update) and context.error is not None:
            self._errors[update.update_id] = context.error


class Front:
    """Everything that talks to Telegram: start, run, stop in order."""

    def __init__(
        self,
        services: Services,
        updates: Updates,
        conversations: Conversations,
        notifier: TelegramNotifier,
        outboxes: Outboxes,
        *,
        herald: Herald,
        lost: asyncio.Event,
    ) -> None:
        self._services = services
        self._updates = updates
        self._conversations = conversations
        self._notifier = notifier
        self._outboxes = outboxes
        self._herald = herald
        self._lost = lost
        self._application = updates.serve(services)
        self._intake = Intake(services.bot, services.inbox, updates.dispatch)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Self]:
        """With connections to Telegram, once it answers. `BadSettings` when it does not know the token."""
        try:
            await self._connect()
            yield self
        finally:
            await self._services.bot.shutdown()

    async def _connect(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._services.bot.initialize()
            except InvalidToken:
                raise BadSettings(REFUSED_TOKEN) from None
            except TelegramError as error:
                log.warning(line("telegram not reached", why=error, pause=pause))
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                return

    async def run_until(self, stop: asyncio.Event) -> None:
        """Answer until `stop` is set, then stop in order.

        `BadSettings` when Telegram does not know the token, `DatabaseLost` at once when that has happened: nothing can
        be written down any more.
        """
        async with self._application:
            await self._start()
            polling = asyncio.create_task(self._intake.run(), name="intake")
            ends = [polling, *(asyncio.create_task(event.wait()) for event in (stop, self._lost))]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            if self._lost.is_set():
                raise DatabaseLost("ended; started again, the bot goes on from the rows")
            await self._stop()
        if not polling.cancelled():
            try:
                polling.result()
            except InvalidToken:
                raise BadSettings(REFUSED_TOKEN) from None

    async def trouble(self) -> str:
        """What is wrong with the way from Telegram to us; empty if nothing is."""
        return self._intake.trouble()

    async def _start(self) -> None:
        await self._services.fleet.start()
        await self._notifier.start()
        await self._services.inbox.prune()
        await self._conversations.resume()
        await self._outboxes.start()
        await self._herald.start()
        await self._publish_menu()
        log.info(line("answering", bot=self._services.bot.username))

    async def _stop(self) -> None:
        await self._updates.drain()
        await self._herald.stop()
        await self._outboxes.stop()
        await self._conversations.stop()
        await self._services.fleet.stop()
        await self._notifier.stop()

    async def _publish_menu(self) -> None:
        try:
            await self._services.bot.set_my_commands(menu(self._services.texts.speak(None), HOME_COMMANDS))
        except TelegramError as error:
            log.warning(line("command menu not set", why=type(error).__name__))


def _may_heal(error: Exception | None) -> bool:
    return isinstance(error, NetworkError) and not isinstance(error, BadRequest)
