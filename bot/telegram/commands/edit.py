"""✏️ 📝 🧠 on an agent's card: its owner gives it another name, job or model while it runs."""

from bot.errors import Refused
from bot.store.models import Agent, AgentField, Draft, DraftStep, Edit, Phase
from bot.telegram import wizard
from bot.telegram.commands import agents
from bot.telegram.commands.create import job_text
from bot.telegram.context import Context
from bot.telegram.keyboards import Pressed, Verb, button, rows
from bot.telegram.render import utf16_length
from bot.telegram.screen import Screen, draw

CUT_UNITS = wizard.PART_UNITS // 2
"""A text that a client has cut in two is at least this long (UTF-16): it looks for a good place, but not from far."""


async def ask_name(context: Context, agent: Agent) -> None:
    """✏️: the next message is its name."""
    await _ask(context, agent, AgentField.NAME, Screen(context.say("edit-ask-name", name=agent.name)))


async def ask_job(context: Context, agent: Agent) -> None:
    """📝: the next message is its job."""
    await _ask(context, agent, AgentField.JOB, _job_question(context, agent))


async def ask_model(context: Context, agent: Agent) -> None:
    """🧠: a button for each model."""
    models = await context.services.libertai.models()
    lines, prices = wizard.offer(models, agent.model, context.say, Verb.SWITCH)
    text = "\n".join([context.say("edit-ask-model", name=agent.name), *prices])
    await _ask(context, agent, AgentField.MODEL, Screen(text, rows(*lines)))


async def is_answer(context: Context, edit: Edit | None) -> bool:
    """Whether a plain message is what was asked for, or the rest of a job that was cut in two."""
    if edit is None or edit.field is AgentField.MODEL:
        return False
    is_again = edit.last_update_id == context.incoming.update_id
    return is_again or edit.is_open or _continues(context, edit)


async def answer(context: Context, edit: Edit) -> None:
    """A message with a name or a job."""
    agent = await _agent(context, edit.agent_id)
    message = context.message
    text = await job_text(context, message.document) if message.document else message.text
    if text is None:
        await context.tell("unsupported-here")
        return
    if edit.last_update_id < context.incoming.update_id:
        await _take(context, edit, agent, text)
    now = await context.services.edits.get(edit.user_id)
    if now and not now.is_open:
        await _show(context, edit)


async def switch(context: Context, pressed: Pressed) -> bool:
    """One of the offered models; False if nobody asked."""
    edit = await context.services.edits.get(context.user.id)
    if edit is None or edit.field is not AgentField.MODEL:
        return False
    agent = await _agent(context, edit.agent_id)
    models = await context.services.libertai.models()
    chosen = next((model.id for model in models if wizard.model_key(model.id) == pressed.argument), None)
    if chosen is None:
        await ask_model(context, agent)
        return True
    await _apply(context, edit, chosen)
    await _show(context, edit)
    return True


async def _ask(context: Context, agent: Agent, field: AgentField, screen: Screen) -> None:
    message_id = await context.show(_with_way_back(context, screen, agent.id or 0))
    edit = Edit(
        user_id=context.user.id,
        chat_id=context.chat.id,
        message_id=message_id,
        agent_id=agent.id or 0,
        field=field,
        before=getattr(agent, field.value),
    )
    await context.services.drafts.pause(context.user.id)
    await context.services.edits.begin(edit, context.incoming.update_id)


async def _take(context: Context, edit: Edit, agent: Agent, text: str) -> None:
    draft, at = Draft(user_id=edit.user_id, chat_id=edit.chat_id), context.message.date.timestamp()
    if edit.field is AgentField.NAME:
        wizard.answer_name(draft, text)
        await _apply(context, edit, draft.name)
    elif edit.is_open and _continues(context, edit):
        # The tail of a paste that was too long already, and said to be.
        await context.services.edits.apply(edit, agent.job, context.incoming.update_id, at=at, is_open=True)
    elif edit.is_open:
        wizard.answer_job(draft, text, at=at)
        # Of a short one nothing was cut off: what comes next, however soon, is for the agent.
        await _apply(context, edit, draft.job, at=at if utf16_length(text) >= CUT_UNITS else 0)
    else:
        draft.job = agent.job
        wizard.extend_job(draft, text, at=at)
        await _extend(context, edit, draft)


async def _extend(context: Context, edit: Edit, draft: Draft) -> None:
    """The rest of a job that was cut in two. If it is too long together, no part of it becomes the job."""
    try:
        wizard.check_job(draft.job)
    except Refused:
        await _take_back(context, edit, at=draft.job_at)
        raise
    await _apply(context, edit, draft.job, at=draft.job_at)


async def _take_back(context: Context, edit: Edit, *, at: float) -> None:
    """Its job is what it was, and the question is asked again."""
    await context.services.edits.apply(edit, edit.before, context.incoming.update_id, at=at, is_open=True)
    await context.services.fleet.configure(edit.agent_id)
    question = _with_way_back(context, _job_question(context, await _agent(context, edit.agent_id)), edit.agent_id)
    await draw(context.services.bot, edit.chat_id, edit.message_id, question)


def _job_question(context: Context, agent: Agent) -> Screen:
    return Screen(context.say("edit-ask-job", name=agent.name, job=wizard.shortened(agent.job)))


def _with_way_back(context: Context, screen: Screen, agent_id: int) -> Screen:
    lines = screen.keyboard.inline_keyboard if screen.keyboard else ()
    return Screen(screen.text, rows(*map(list, lines), [button(context.say.plain("back"), Verb.CARD, agent_id)]))


async def _apply(context: Context, edit: Edit, value: str, *, at: float = 0) -> None:
    await context.services.edits.apply(edit, value, context.incoming.update_id, at=at)


async def _show(context: Context, edit: Edit) -> None:
    """The card in place of the question, with what became of the answer."""
    is_told = await context.services.fleet.configure(edit.agent_id)
    agent = await _agent(context, edit.agent_id)
    card = await agents.card(context, agent)
    later = "edit-done-asleep" if agent.phase in {Phase.DOZING, Phase.ASLEEP} else "edit-done-later"
    told = context.say("edit-done" if is_told else later, name=agent.name)
    screen = Screen(f"{told}\n\n{card.text}", card.keyboard)
    await draw(context.services.bot, edit.chat_id, edit.message_id, screen)


async def _agent(context: Context, agent_id: int) -> Agent:
    mine = await context.services.agents.owned(context.user.id)
    agent = next((agent for agent in mine if agent.id == agent_id), None)
    if agent is None:
        await context.services.edits.close(context.user.id)
        raise Refused("agent-deleted")
    return agent


def _continues(context: Context, edit: Edit) -> bool:
    draft = Draft(user_id=0, chat_id=0, step=DraftStep.CHECK, job_at=edit.answered_at)
    return edit.field is AgentField.JOB and wizard.continues_job(draft, at=context.message.date.timestamp())
