"""/list, the agent card, /delete."""

import datetime as dt

from telegram import InlineKeyboardMarkup

from bot.accounts.agents import LINK_PREFIX, Card
from bot.errors import AgentError
from bot.store.models import SERVING, Agent, Phase, Wanted
from bot.telegram import idle, wizard
from bot.telegram.commands.start import enter
from bot.telegram.context import Context
from bot.telegram.keyboards import DANGER, SUCCESS, Pressed, Verb, button, rows
from bot.telegram.progress import kept, link, link_buttons
from bot.telegram.screen import Screen

PAGE_AGENTS = 8
"""What a phone shows without scrolling."""
STANDS = {
    Phase.RUNNING: ("🟢", "state-running"),
    Phase.UPDATING: ("🟢", "state-running"),
    Phase.DOZING: ("💤", "state-asleep"),
    Phase.ASLEEP: ("💤", "state-asleep"),
    Phase.FAILED: ("🔴", "state-failed"),
    Phase.DELETING: ("⚪", "state-deleting"),
}
"""A mark, and the key of the words for it; other phases are on the way to running."""


async def list_(context: Context) -> None:
    """/list: in a new message."""
    await context.send(await overview(context))


async def show_list(context: Context) -> None:
    """The list, in place of what was there."""
    await context.show(await overview(context))


async def turn_page(context: Context, pressed: Pressed) -> None:
    """Another part of a list too long for one."""
    await context.show(await overview(context, pressed.number or 0))


async def overview(context: Context, page: int = 0) -> Screen:
    """Their agents, a button each; `page` counts from 0, and the last one stands for what is behind it."""
    say, agents = context.say, await context.services.agents.owned(context.user.id)
    make = [button(say.plain("create"), Verb.CREATE, style=SUCCESS)]
    if deleted := await context.services.deleted.of(context.user.id):
        make.append(button(say.plain("bin", count=len(deleted)), Verb.BIN))
    if not agents:
        return Screen(say("list-empty"), rows(make))
    pages = -(-len(agents) // PAGE_AGENTS)
    page = min(page, pages - 1)
    shown = agents[page * PAGE_AGENTS : (page + 1) * PAGE_AGENTS]
    lines = [[button(_line(context, agent), Verb.CARD, agent.id or 0)] for agent in shown]
    before = [button(say.plain("list-before"), Verb.PAGE, page - 1)] if page else []
    after = [button(say.plain("list-after"), Verb.PAGE, page + 1)] if page + 1 < pages else []
    text = say("list", count=len(agents), limit=context.services.agents.limit, page=page + 1, pages=pages)
    return Screen(text, rows(*lines, [*before, *after], make))


async def show_card(context: Context, agent: Agent) -> None:
    """The agent's card, in place of what was there."""
    await context.show(await card(context, agent))


async def card(context: Context, agent: Agent) -> Screen:
    """What can be done with an agent of one's own."""
    say, tools = context.say, await context.services.tools.known(agent.model)
    text = say(
        "card",
        name=agent.name,
        mark=_mark(agent),
        state=say.plain(_state(agent)),
        idle=idle.words(say, agent.idle_minutes, usual=context.services.idle_minutes),
        model=agent.model,
        release=agent.release,
        tools="unknown" if tools is None else "yes" if tools else "no",
        usage=await _usage(context, agent),
        costs=await _costs(context, agent),
        link=link(agent, context.services.bot.username),
        job=wizard.shortened(agent.job),
    )
    return Screen(text, _card_keyboard(context, agent))


async def chat(context: Context, agent: Agent) -> None:
    """💬: talk to it."""
    await enter(context, agent)


async def delete(context: Context) -> None:
    """/delete <link id>: ask whether they are sure; without an id: which one."""
    _, _, words = (context.message.text or "").partition(" ")
    if not words.strip():
        await context.send(await which(context))
        return
    payload = words.strip().rpartition("start=")[2]
    agent = await context.services.agents.by_link(payload.removeprefix(LINK_PREFIX))
    if agent is None or agent.owner_id != context.user.id:
        await context.tell("not-yours")
        return
    await context.send(sure(context, agent))


async def which(context: Context) -> Screen:
    """Their agents, and what to do to delete one."""
    screen = await overview(context)
    if not await context.services.agents.owned(context.user.id):
        return screen
    return Screen(f"{context.say('delete-which')}\n\n{screen.text}", screen.keyboard)


async def ask_delete(context: Context, agent: Agent) -> None:
    """🗑: ask whether they are sure, in place of what was there."""
    await context.show(sure(context, agent))


def sure(context: Context, agent: Agent) -> Screen:
    """Ask before what cannot be undone."""
    say, number = context.say, agent.id or 0
    keyboard = rows(
        [
            button(say.plain("delete-yes"), Verb.DELETE_NOW, number, style=DANGER),
            button(say.plain("keep-it"), Verb.CARD, number),
        ],
        [button(say.plain("export-first"), Verb.EXPORT, number)],
    )
    return Screen(say("confirm-delete", name=agent.name, kept=kept(agent)), keyboard)


async def delete_now(context: Context, agent: Agent) -> None:
    """🗑 for good: want it gone; the message becomes the card that shows it."""
    await context.services.agents.delete(agent.id or 0, Card(context.chat.id, context.pressed_id or 0))
    await context.services.fleet.nudge(agent.id or 0)


async def try_again(context: Context, agent: Agent) -> None:
    """⟳: deploy once more after a failure."""
    await context.services.agents.try_again(agent.id or 0, Card(context.chat.id, context.pressed_id or 0))
    await context.services.fleet.nudge(agent.id or 0)


async def owned(context: Context, pressed: Pressed) -> Agent | None:
    """The agent of a button, if it is theirs and not deleted."""
    mine = await context.services.agents.owned(context.user.id)
    return next((agent for agent in mine if agent.id == pressed.number), None)


async def is_deleted(context: Context, pressed: Pressed) -> bool:
    """The agent of a button was theirs, and its card tells or told how it went: the second press is done already."""
    agent = await context.services.agents.get(pressed.number or 0)
    return agent is not None and agent.owner_id == context.user.id and agent.wanted is Wanted.DELETED


async def _usage(context: Context, agent: Agent) -> str:
    """A line of what it did today; empty if it does not say so at once, for example because it is being set up."""
    if agent.phase not in SERVING:
        return ""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    try:
        spent = [each for each in (await context.services.turns.usage(agent, today)).days if each.day == today]
    except AgentError:
        return ""
    tokens = sum(each.prompt_tokens + each.completion_tokens for each in spent)
    return "\n" + context.say.plain("card-usage", turns=sum(each.turns for each in spent), tokens=tokens)


async def _costs(context: Context, agent: Agent) -> str:
    """A line of what its machines cost this month, and will; empty where machines cost nothing."""
    usage = await context.services.money.account(agent.id or 0)
    if not usage.credits_month and not usage.per_hour:
        return ""
    hours = round(usage.hours_month)
    facts = {"hours": hours, "credits": usage.credits_month, "forecast": usage.forecast}
    return "\n" + context.say.plain("card-costs", **facts)


def _card_keyboard(context: Context, agent: Agent) -> InlineKeyboardMarkup:
    say, number = context.say, agent.id or 0
    is_failed = agent.phase is Phase.FAILED
    first = (
        button(say.plain("try-again"), Verb.TRY_AGAIN, number)
        if is_failed
        else button(say.plain("chat"), Verb.CHAT, number, style=SUCCESS)
    )
    return rows(
        [first],
        [] if is_failed else link_buttons(agent, say, context.services.bot.username),
        [
            button(say.plain("card-name"), Verb.EDIT_NAME, number),
            button(say.plain("card-job"), Verb.EDIT_JOB, number),
            button(say.plain("card-model"), Verb.EDIT_MODEL, number),
        ],
        [button(say.plain("card-idle"), Verb.IDLE, number), button(say.plain("card-export"), Verb.EXPORT, number)],
        [button(say.plain("delete"), Verb.DELETE, number, style=DANGER), button(say.plain("back"), Verb.LIST)],
    )


def _line(context: Context, agent: Agent) -> str:
    say = context.say
    return say.plain("list-item", mark=_mark(agent), name=agent.name, state=say.plain(_state(agent)))


def _mark(agent: Agent) -> str:
    return STANDS[agent.phase][0] if agent.phase in STANDS else "🟡"


def _state(agent: Agent) -> str:
    if agent.phase in STANDS:
        return STANDS[agent.phase][1]
    return "state-waiting" if agent.ready_at is None else "state-returning"
