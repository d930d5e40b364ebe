"""/start with and without a link, /help, and the buttons of the welcome."""

from telegram import BotCommand, BotCommandScopeChat, InlineKeyboardMarkup
from telegram.error import TelegramError

from bot.accounts.agents import LINK_PREFIX
from bot.store.models import Agent, Phase
from bot.telegram.context import Context
from bot.telegram.keyboards import SUCCESS, Verb, button, rows
from bot.telegram.screen import Screen
from bot.telegram.texts import Speech

HOME_COMMANDS = ("start", "create", "list", "account", "help")
TALK_COMMANDS = ("new", "stop", "manage", "list", "help")


async def start(context: Context) -> None:
    """Welcome, or enter the agent behind the link."""
    _, _, payload = (context.message.text or "").partition(" ")
    if not payload.strip():
        await context.send(home(context.say))
        return
    agent = await context.services.agents.by_link(payload.strip()) if payload.startswith(LINK_PREFIX) else None
    if agent is None:
        own = button(context.say.plain("create-own"), Verb.CREATE)
        await context.send(Screen(context.say("link-dead"), rows([own])))
        return
    await enter(context, agent)


async def help_(context: Context) -> None:
    """All commands."""
    await context.send(Screen(context.say("help"), home_keyboard(context.say)))


async def show_home(context: Context) -> None:
    """The welcome, in place of what was there."""
    await context.show(home(context.say))


async def show_how(context: Context) -> None:
    """How it works, in place of what was there."""
    back = [button(context.say.plain("back"), Verb.HOME)]
    await context.show(Screen(context.say("how-it-works"), rows(back)))


async def enter(context: Context, agent: Agent) -> None:
    """From now on this chat's plain messages go to the agent."""
    await context.services.chats.talk_to(context.chat.id, agent.id)
    await context.services.drafts.pause(context.user.id)
    say = context.say
    key = "owner-card" if agent.owner_id == context.user.id else "visitor-card"
    text = say(key, name=agent.name, model=agent.model)
    if agent.phase is Phase.FAILED:
        text = say("agent-failed" if agent.ready_at is None else "agent-broken", name=agent.name)
    elif agent.phase in {Phase.DOZING, Phase.ASLEEP}:
        text += "\n\n" + say("agent-asleep", name=agent.name)
    elif agent.ready_at is None:
        text = say("still-deploying", name=agent.name)
    await context.send(Screen(text, rows([button(say.plain("leave"), Verb.LEAVE)])))
    await set_menu(context, TALK_COMMANDS)


async def leave(context: Context) -> None:
    """/manage: from now on this chat's plain messages go nowhere."""
    agent_id = await context.services.chats.agent_id(context.chat.id)
    agent = await context.services.agents.get(agent_id) if agent_id else None
    if agent is None:
        await context.send(Screen(context.say("left-none"), home_keyboard(context.say)))
        return
    await context.services.chats.talk_to(context.chat.id, None)
    await context.send(Screen(context.say("left", name=agent.name), home_keyboard(context.say)))
    await set_menu(context, HOME_COMMANDS)


def home(say: Speech) -> Screen:
    """The welcome."""
    return Screen(say("welcome"), home_keyboard(say))


def home_keyboard(say: Speech) -> InlineKeyboardMarkup:
    """From here everything can be reached."""
    return rows(
        [
            button(say.plain("create"), Verb.CREATE, style=SUCCESS),
            button(say.plain("home-my-agents"), Verb.LIST),
        ],
        [button(say.plain("home-account"), Verb.ACCOUNT), button(say.plain("home-how"), Verb.HOW)],
    )


def menu(say: Speech, names: tuple[str, ...]) -> list[BotCommand]:
    """Commands for Telegram's menu."""
    return [BotCommand(name, say.plain(f"command-{name}")) for name in names]


async def set_menu(context: Context, names: tuple[str, ...]) -> None:
    """Fit this chat's command menu to what it is doing; a server without menus is none the worse for it."""
    try:
        await context.services.bot.set_my_commands(menu(context.say, names), scope=BotCommandScopeChat(context.chat.id))
    except TelegramError:
        return
