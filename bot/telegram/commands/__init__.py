"""Which handler an update goes to: commands, buttons, messages; and how a refusal is told."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any

from telegram import Update
from telegram.ext import Application, CallbackQueryHandler, CommandHandler, MessageHandler, filters

from bot.accounts.users import Person
from bot.errors import Refused
from bot.store.models import Agent, Draft
from bot.telegram.commands import account, agents, choices, create, deleted, edit, idle, parcels, start, talk
from bot.telegram.context import Context
from bot.telegram.keyboards import Pressed, Verb, parse

Handler = Callable[[Context], Awaitable[None]]

COMMANDS: dict[str, Handler] = {
    "start": start.start,
    "help": start.help_,
    "manage": start.leave,
    "exit": start.leave,
    "create": create.create,
    "cancel": create.cancel,
    "list": agents.list_,
    "delete": agents.delete,
    "export": parcels.export,
    "import": parcels.import_,
    "login": account.login,
    "logout": account.logout,
    "account": account.account,
    "new": talk.new,
    "stop": talk.stop,
}
PLACES: dict[Verb, Handler] = {
    Verb.HOME: start.show_home,
    Verb.HOW: start.show_how,
    Verb.LEAVE: start.leave,
    Verb.CREATE: create.create,
    Verb.LIST: agents.show_list,
    Verb.BIN: deleted.show,
    Verb.ACCOUNT: account.show_account,
    Verb.LOGIN: account.ask_key,
    Verb.LOGOUT: account.logout,
    Verb.CANCEL: create.cancel_pressed,
    Verb.IMPORT_CANCEL: parcels.cancel,
}
OF_AGENTS: dict[Verb, Callable[[Context, Agent], Awaitable[None]]] = {
    Verb.CARD: agents.show_card,
    Verb.CHAT: agents.chat,
    Verb.DELETE: agents.ask_delete,
    Verb.DELETE_NOW: agents.delete_now,
    Verb.TRY_AGAIN: agents.try_again,
    Verb.EDIT_NAME: edit.ask_name,
    Verb.EDIT_JOB: edit.ask_job,
    Verb.EDIT_MODEL: edit.ask_model,
    Verb.IDLE: idle.ask,
    Verb.EXPORT: parcels.send,
    Verb.IMPORT: parcels.ask,
    Verb.IMPORT_NOW: parcels.now,
}
OF_DRAFTS: dict[Verb, Callable[[Context, Draft, Pressed], Awaitable[None]]] = {
    Verb.SUGGEST: create.suggest,
    Verb.TEMPLATE: create.template,
    Verb.MODEL: create.choose_model,
    Verb.STEP: create.go_to_step,
}
OF_MESSAGES: dict[Verb, Callable[[Context, Pressed], Awaitable[None]]] = {
    Verb.PAGE: agents.turn_page,
    Verb.UNDELETE: deleted.bring_back,
    Verb.STOP: talk.stop_pressed,
    Verb.RETRY: talk.retry_pressed,
    Verb.AGAIN: talk.again_pressed,
    Verb.CHOOSE: choices.choose,
}
OF_SETTINGS: dict[Verb, Callable[[Context, Pressed], Awaitable[bool]]] = {
    Verb.SWITCH: edit.switch,
    Verb.IDLE_SET: idle.choose,
}
"""They say themselves whether there was anything to act on."""
KEEPING = frozenset({Verb.SWITCH, Verb.STOP, Verb.RETRY, Verb.AGAIN, Verb.CHOOSE})
"""Buttons after which a question about an agent still waits for its answer."""


def register(application: Application[Any, Context, Any, Any, Any, Any]) -> None:
    """Tell PTB who handles what."""
    private = filters.ChatType.PRIVATE
    for name, handler in COMMANDS.items():
        allowed = private if name != "login" else filters.ALL
        told = _told(handler if handler is create.cancel else _over(handler))
        application.add_handler(CommandHandler(name, told, filters=allowed & filters.UpdateType.MESSAGE))
    application.add_handler(CallbackQueryHandler(_told(press)))
    application.add_handler(MessageHandler(private & filters.COMMAND, _told(start.help_)))
    # "Olga pinned a message" and the like want no answer.
    application.add_handler(MessageHandler(private & ~filters.StatusUpdate.ALL, _told(talk.message)))
    application.add_handler(MessageHandler(filters.COMMAND, _told(only_private)))


async def press(context: Context) -> None:
    """A button: answered first, so that it stops blinking, unless what it does has words for that; then done."""
    pressed = parse(context.query.data)
    if pressed is None or pressed.verb is not Verb.CHOOSE:
        await context.toast()
    if pressed is not None and pressed.verb not in KEEPING:
        await _change_the_subject(context)
    if pressed is None or not await _do(context, pressed):
        await context.tell("menu-old")
        await context.send(start.home(context.say))


async def only_private(context: Context) -> None:
    """A command in a group, unless it is another bot's."""
    command = (context.message.text or "").split(maxsplit=1)[0]
    _, _, addressee = command.partition("@")
    if addressee.lower() not in {"", context.services.bot.username.lower()}:
        return
    await context.tell("private-only", bot=context.services.bot.username)


async def _do(context: Context, pressed: Pressed) -> bool:
    """False if the button has nothing to act on any more."""
    if pressed.verb in PLACES:
        await PLACES[pressed.verb](context)
    elif pressed.verb in OF_MESSAGES:
        await OF_MESSAGES[pressed.verb](context, pressed)
    elif pressed.verb in OF_AGENTS:
        agent = await agents.owned(context, pressed)
        if agent is None:
            return pressed.verb is Verb.DELETE_NOW and await agents.is_deleted(context, pressed)
        await OF_AGENTS[pressed.verb](context, agent)
    elif pressed.verb in OF_SETTINGS:
        return await OF_SETTINGS[pressed.verb](context, pressed)
    else:
        draft = await context.services.drafts.get(context.user.id)
        if pressed.verb is Verb.DEPLOY:
            return await create.deploy(context, draft, pressed)
        if draft is None:
            return False
        await OF_DRAFTS[pressed.verb](context, draft, pressed)
    return True


def _over(handler: Handler) -> Handler:
    """After a command, the next message or file answers no question about an agent any more."""

    @wraps(handler)
    async def handle(context: Context) -> None:
        await _change_the_subject(context)
        await handler(context)

    return handle


async def _change_the_subject(context: Context) -> None:
    await context.services.edits.close(context.user.id)
    await context.services.imports.close(context.user.id)


def _told(handler: Handler) -> Callable[[Update, Context], Coroutine[Any, Any, None]]:
    """Meet the person first, and say in their words what they cannot have."""

    @wraps(handler)
    async def handle(_update: Update, context: Context) -> None:
        user = context.user
        await context.services.users.meet(Person(user.id, user.full_name, user.language_code or ""))
        try:
            await handler(context)
        except Refused as refusal:
            await context.tell(refusal.hint, **refusal.values)

    return handle
