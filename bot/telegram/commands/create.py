"""/create and /cancel: the wizard's updates. First the draft is changed, once per update, then its message is drawn."""

import random
from collections.abc import Callable

from telegram import Document
from telegram.error import BadRequest

from bot.accounts.agents import Card
from bot.errors import Refused
from bot.store.models import Draft, DraftStep
from bot.telegram import wizard
from bot.telegram.context import Context
from bot.telegram.keyboards import Pressed, Verb, button, rows
from bot.telegram.screen import Screen, draw

MAX_FILE_BYTES = 100_000
"""Far more than the longest job."""
LONG_TEXT = 600
"""A text this long pushes the wizard's message out of sight: it moves below."""


async def create(context: Context) -> None:
    """/create: begin, or go on with the draft that is there, in a new message."""
    drafts, update_id = context.services.drafts, context.incoming.update_id
    draft = await drafts.get(context.user.id)
    if draft is None:
        await context.services.agents.check_limit(context.user.id)
        draft = Draft(user_id=context.user.id, chat_id=context.chat.id)
    elif draft.last_update_id < update_id and (draft.name or draft.job):
        await context.tell("wizard-resumed")
    if draft.last_update_id < update_id:
        draft.chat_id, draft.is_active = context.chat.id, True
        await drafts.save(draft, update_id=update_id)
    await redraw(context, draft, below=True)


async def cancel(context: Context) -> None:
    """/cancel: throw the draft away, and stop waiting for a key or a file."""
    chats = context.services.chats
    await context.services.edits.close(context.user.id)
    if await context.services.imports.is_wanted(context.user.id):
        await context.services.imports.drop(context.user.id)
        await context.tell("import-cancelled")
        return
    was_key_wanted = await chats.is_key_wanted(context.chat.id)
    await chats.want_key(context.chat.id, wanted=False)
    draft = await context.services.drafts.get(context.user.id)
    if draft is None:
        await context.tell("login-cancelled" if was_key_wanted else "wizard-nothing-to-cancel")
        return
    await context.services.drafts.drop(context.user.id)
    if draft.message_id:
        await draw(context.services.bot, draft.chat_id, draft.message_id, Screen(context.say("wizard-cancelled")))
    else:
        await context.tell("wizard-cancelled")


async def cancel_pressed(context: Context) -> None:
    """✖: throw the draft away."""
    await context.services.drafts.drop(context.user.id)
    again = rows([button(context.say.plain("create"), Verb.CREATE)])
    await context.show(Screen(context.say("wizard-cancelled"), again))


async def answer(context: Context, draft: Draft) -> None:
    """A message while the wizard waits for one."""
    message = context.message
    text = await job_text(context, message.document) if message.document else message.text
    if text is None:
        await context.tell("unsupported-here")
        return
    await change(context, draft, lambda: _take(draft, text, at=message.date.timestamp()))
    await redraw(context, draft, below=len(text) > LONG_TEXT or message.document is not None)
    wizard.check_job(draft.job)


async def suggest(context: Context, draft: Draft, _pressed: Pressed) -> None:
    """🎲: a name."""
    names = context.say.plain("suggested-names").split(", ")
    # Chosen by the update's number: handled again, it is the same name.
    name = random.Random(context.incoming.update_id).choice(names)  # noqa: S311  a name, not a secret
    await change(context, draft, lambda: wizard.answer_name(draft, name))
    await redraw(context, draft)


async def template(context: Context, draft: Draft, pressed: Pressed) -> None:
    """A ready-made job."""
    if pressed.argument in wizard.TEMPLATES:
        job = context.say.plain(f"job-{pressed.argument}")
        await change(context, draft, lambda: wizard.answer_job(draft, job, at=0))
    await redraw(context, draft)


async def choose_model(context: Context, draft: Draft, pressed: Pressed) -> None:
    """One of the offered models."""
    models = await context.services.libertai.models()
    await change(context, draft, lambda: wizard.choose_model(draft, pressed.argument, models))
    await redraw(context, draft)


async def go_to_step(context: Context, draft: Draft, pressed: Pressed) -> None:
    """◀ and ✏: ask a question again."""
    if pressed.argument in set(DraftStep):
        await change(context, draft, lambda: wizard.go_to(draft, DraftStep(pressed.argument)))
    await redraw(context, draft)


async def deploy(context: Context, draft: Draft | None, pressed: Pressed) -> bool:
    """🚀: make the agent and have it deployed, once however often it is pressed; False if the button is too old."""
    services, card = context.services, Card(context.chat.id, context.pressed_id or 0)
    if draft is None or draft.link != pressed.argument:
        agent = await services.agents.by_link(pressed.argument)
        return agent is not None and agent.owner_id == context.user.id
    if draft.step is not DraftStep.CHECK or wizard.next_step(draft) is not DraftStep.CHECK:
        await redraw(context, draft)
        return True
    agent = await services.agents.create(draft, card)
    await services.fleet.nudge(agent.id or 0)
    return True


async def change(context: Context, draft: Draft, work: Callable[[], object]) -> None:
    """Change the draft by this update, unless it did so before a crash."""
    if draft.last_update_id < context.incoming.update_id:
        work()
        draft.is_active = True
        await context.services.drafts.save(draft, update_id=context.incoming.update_id)


async def redraw(context: Context, draft: Draft, *, below: bool = False) -> None:
    """Bring the wizard's message up to date; `below`: in a new message, where the person is."""
    services = context.services
    # Only there the models are needed: a slow catalogue must not hold up the other steps.
    models = await services.libertai.models() if draft.step is DraftStep.MODEL else []
    screen = wizard.screen(draft, context.say, models)
    old = draft.message_id
    message_id = await draw(services.bot, draft.chat_id, None if below else old, screen)
    if message_id != old:
        draft.message_id = message_id
        await services.drafts.save(draft)
        if old is not None:
            await draw_away(context, draft.chat_id, old)


async def draw_away(context: Context, chat_id: int, message_id: int) -> None:
    """Take an outdated message out of the chat."""
    try:
        await context.services.bot.delete_message(chat_id, message_id)
    except BadRequest:
        return


def _take(draft: Draft, text: str, *, at: float) -> None:
    if wizard.continues_job(draft, at=at):
        wizard.extend_job(draft, text, at=at)
    elif draft.step is DraftStep.NAME:
        wizard.answer_name(draft, text)
    elif draft.step is DraftStep.JOB:
        wizard.answer_job(draft, text, at=at)
    else:
        raise Refused("wizard-press-a-button")


async def job_text(context: Context, document: Document) -> str | None:
    """What a text file says; `Refused` if it is none."""
    if (document.file_size or 0) > MAX_FILE_BYTES:
        raise Refused("job-too-long", length=document.file_size or 0, limit=wizard.MAX_JOB)
    if document.mime_type != "text/plain" and not (document.file_name or "").endswith(".txt"):
        raise Refused("job-not-text")
    file = await context.services.bot.get_file(document.file_id)
    try:
        return bytes(await file.download_as_bytearray()).decode()
    except UnicodeDecodeError:
        raise Refused("job-not-text") from None
