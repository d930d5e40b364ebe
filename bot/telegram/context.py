"""What every handler of an update can use."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from telegram import CallbackQuery, Chat, Message, Update, User
from telegram.error import BadRequest, TelegramError
from telegram.ext import Application, CallbackContext, ExtBot

from bot.accounts.agents import Agents
from bot.accounts.chats import Chats
from bot.accounts.deleted import DeletedAgents
from bot.accounts.drafts import Drafts
from bot.accounts.edits import Edits
from bot.accounts.imports import Imports
from bot.accounts.libertai import LibertAI
from bot.accounts.limits import Limits
from bot.accounts.tools import ToolPolicy
from bot.accounts.users import Users
from bot.chat.offers import Offers
from bot.chat.turns import Turns
from bot.fleet.fleet import Fleet
from bot.fleet.money import Money
from bot.telegram.inbox import Inbox
from bot.telegram.parcels import Parcels
from bot.telegram.screen import Screen, draw, send
from bot.telegram.texts import Speech, Texts


@dataclass(frozen=True, slots=True)
class Services:
    """Built once by the composition root."""

    bot: ExtBot[Any]
    texts: Texts
    users: Users
    agents: Agents
    drafts: Drafts
    edits: Edits
    chats: Chats
    limits: Limits
    libertai: LibertAI
    tools: ToolPolicy
    turns: Turns
    offers: Offers
    fleet: Fleet
    inbox: Inbox
    wake: Callable[[int], None]
    """A turn of this chat was accepted."""
    dispatch: Callable[[Update], None]
    """Have an update handled again."""
    deleted: DeletedAgents
    imports: Imports
    parcels: Parcels
    money: Money
    idle_minutes: int = 0
    """After which agents fall asleep whose owners did not say otherwise; 0: never."""


class Context(CallbackContext[ExtBot[Any], None, None, Services]):
    """One update being handled: who wrote where, in which language, and the services."""

    def __init__(self, application: Application[Any, Any, Any, Any, Any, Any], **ids: int | None) -> None:
        super().__init__(application, **ids)
        self._update: Update | None = None

    @classmethod
    def from_update(cls, update: object, application: Application[Any, Any, Any, Any, Any, Any]) -> "Context":
        context = super().from_update(update, application)
        context.take(cast("Update", update))
        return context

    def take(self, update: Update) -> None:
        """This is the update being handled."""
        self._update = update

    @property
    def services(self) -> Services:
        return self.application.bot_data

    @property
    def incoming(self) -> Update:
        assert self._update is not None  # noqa: S101  set by from_update
        return self._update

    @property
    def user(self) -> User:
        assert self.incoming.effective_user is not None  # noqa: S101  the intake asks for nothing without one
        return self.incoming.effective_user

    @property
    def chat(self) -> Chat:
        assert self.incoming.effective_chat is not None  # noqa: S101  the intake asks for nothing without one
        return self.incoming.effective_chat

    @property
    def message(self) -> Message:
        assert self.incoming.message is not None  # noqa: S101  for handlers of messages
        return self.incoming.message

    @property
    def query(self) -> CallbackQuery:
        assert self.incoming.callback_query is not None  # noqa: S101  for handlers of buttons
        return self.incoming.callback_query

    @property
    def pressed_id(self) -> int | None:
        """The message whose button was pressed, if one was."""
        query = self.incoming.callback_query
        return query.message.message_id if query and query.message else None

    @property
    def say(self) -> Speech:
        """The person's language."""
        return self.services.texts.speak(self.user.language_code)

    async def show(self, screen: Screen) -> int:
        """In the message whose button was pressed, or else in a new one; its id."""
        return await draw(self.services.bot, self.chat.id, self.pressed_id, screen)

    async def send(self, screen: Screen) -> int:
        """In a new message; its id."""
        return await send(self.services.bot, self.chat.id, screen)

    async def drop(self, message_id: int) -> None:
        """Take a message of ours that is no longer true out of the chat."""
        with suppress(BadRequest):  # the person deleted it
            await self.services.bot.delete_message(self.chat.id, message_id)

    async def toast(self, text: str | None = None) -> None:
        """Answer the press of a button, so that it stops blinking; a text (200 characters) shows for a moment."""
        with suppress(TelegramError):  # "query is too old" comes within seconds; the press still counts
            await self.services.bot.answer_callback_query(self.query.id, text)

    async def tell(self, key: str, **values: str | int) -> None:
        """A text without buttons, in a new message."""
        await self.send(Screen(self.say(key, **values)))
