"""/export and /import: an agent's whole state to its owner as a file, and back in place."""

import datetime as dt
import logging

from telegram import Document

from bot.errors import AgentError, AgentRefused, FileLost, Refused
from bot.log import line
from bot.store.models import Agent
from bot.store.records import Import
from bot.telegram import media
from bot.telegram.commands import agents
from bot.telegram.context import Context
from bot.telegram.keyboards import DANGER, SUCCESS, Verb, button, rows
from bot.telegram.screen import Screen, draw

log = logging.getLogger(__name__)


async def export(context: Context) -> None:
    """/export: the file of their agent, or which one."""
    mine = await context.services.agents.owned(context.user.id)
    if len(mine) == 1:
        await send(context, mine[0])
        return
    if not mine:
        await context.send(await agents.overview(context))
        return
    lines = [[button(agent.name, Verb.EXPORT, agent.id or 0)] for agent in mine]
    back = button(context.say.plain("back"), Verb.LIST)
    await context.send(Screen(context.say("export-which"), rows(*lines, [back])))


async def send(context: Context, agent: Agent) -> None:
    """⬇: pack it and send it; a message says so meanwhile, and goes or says why not."""
    if agent.ready_at is None:
        await context.tell("export-nothing", name=agent.name)
        return
    progress = await context.send(Screen(context.say("export-packing", name=agent.name)))
    caption, today = context.say.plain("export-caption", name=agent.name), dt.datetime.now(dt.UTC).date()
    try:
        await context.services.parcels.send(context.chat.id, agent, caption=caption, today=today)
    except Refused as refusal:
        why = context.say(refusal.hint, name=agent.name, **refusal.values)
    except (FileLost, AgentError) as error:
        log.warning(line("agent not exported", agent=agent.id, why=error))
        why = context.say("export-failed", name=agent.name)
    else:
        await context.drop(progress)
        return
    await draw(context.services.bot, context.chat.id, progress, Screen(why))


async def import_(context: Context) -> None:
    """/import: the next file is it; or the one that the command replies to."""
    if not await context.services.agents.owned(context.user.id):
        make = button(context.say.plain("create"), Verb.CREATE, style=SUCCESS)
        await context.send(Screen(context.say("import-without-agent"), rows([make])))
        return
    replied = context.message.reply_to_message
    if replied and replied.document:
        await take(context, replied.document)
        return
    await context.services.imports.want(context.user.id)
    await context.tell("import-send")


async def is_answer(context: Context) -> bool:
    """Whether a message brings the file that was asked for."""
    return context.message.document is not None and await context.services.imports.is_wanted(context.user.id)


async def take(context: Context, document: Document) -> None:
    """Look at the file, and ask whose state it shall become."""
    size = document.file_size or 0
    if size > media.MAX_BYTES:
        raise Refused("import-too-large", size=f"{size / 1024**2:.1f}")
    try:
        found = await context.services.parcels.look(document.file_id)
    except FileLost as error:
        await context.tell(error.hint, name=document.file_name or context.say.plain("import-file"))
        return
    messages = found.counts.get("message", 0)
    await context.services.imports.keep(context.user.id, document.file_id, created=found.created, messages=messages)
    mine = await context.services.agents.owned(context.user.id)
    lines = [[button(context.say.plain("import-into", name=agent.name), Verb.IMPORT, agent.id or 0)] for agent in mine]
    text = context.say("import-choose", made=_day(found.created), messages=messages)
    await context.send(Screen(text, rows(*lines, [button(context.say.plain("cancel"), Verb.IMPORT_CANCEL)])))


async def ask(context: Context, agent: Agent) -> None:
    """♻ with an agent: ask before what it knows is replaced."""
    waiting = await _waiting(context)
    text = context.say("import-sure", name=agent.name, made=_day(waiting.created), messages=waiting.messages)
    keyboard = rows(
        [
            button(context.say.plain("import-now"), Verb.IMPORT_NOW, agent.id or 0, style=DANGER),
            button(context.say.plain("keep-it"), Verb.IMPORT_CANCEL),
        ],
        [button(context.say.plain("export-first"), Verb.EXPORT, agent.id or 0)],
    )
    await context.show(Screen(text, keyboard))


async def now(context: Context, agent: Agent) -> None:
    """♻ for good. Pressed again when it is done, it shows the agent."""
    waiting = await context.services.imports.get(context.user.id)
    if waiting is None:
        await agents.show_card(context, agent)
        return
    await context.show(Screen(context.say("import-working", name=agent.name)))
    again = rows([button(context.say.plain("try-again"), Verb.IMPORT_NOW, agent.id or 0)])
    try:
        await context.services.parcels.put(agent.id or 0, waiting.file_id)
    except AgentRefused as error:
        log.warning(line("import refused", agent=agent.id, why=error))
        await context.show(Screen(context.say("import-refused", name=agent.name, reason=error.text)))
    except (AgentError, FileLost) as error:
        log.warning(line("import failed", agent=agent.id, why=error))
        await context.show(Screen(context.say("import-failed", name=agent.name), again))
    else:
        await context.services.imports.drop(context.user.id)
        manage = button(context.say.plain("manage"), Verb.CARD, agent.id or 0)
        await context.show(Screen(context.say("import-done", name=agent.name), rows([manage])))


async def cancel(context: Context) -> None:
    """✖: the file is not used."""
    await context.services.imports.drop(context.user.id)
    await context.show(Screen(context.say("import-cancelled")))


async def _waiting(context: Context) -> Import:
    waiting = await context.services.imports.get(context.user.id)
    if waiting is None:
        raise Refused("import-gone")
    return waiting


def _day(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M")
