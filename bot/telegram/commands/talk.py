"""Plain messages to an agent, /new and /stop, and the buttons under an answer."""

from contextlib import suppress
from typing import cast

from telegram import Document, ReactionTypeEmoji
from telegram.error import BadRequest, TelegramError

from agent.protocol import MAX_MESSAGE_CHARS
from bot.chat.files import Incoming
from bot.chat.turns import Ask
from bot.errors import AgentError
from bot.store.models import Agent
from bot.telegram import media
from bot.telegram.commands import account, choices, create, edit, parcels
from bot.telegram.commands.start import home_keyboard
from bot.telegram.context import Context
from bot.telegram.keyboards import Pressed
from bot.telegram.screen import Screen

SEEN = ReactionTypeEmoji("👀")


async def message(context: Context) -> None:
    """Whatever is not a command: a key, an answer to the wizard, or words for the agent."""
    key = await context.services.inbox.key(context.incoming.update_id)
    if key is not None:
        await account.take_key(context, key)
        return
    changing = await context.services.edits.get(context.user.id)
    if changing is not None and await edit.is_answer(context, changing):
        await edit.answer(context, changing)
        return
    if await parcels.is_answer(context):
        await parcels.take(context, cast("Document", context.message.document))
        return
    draft = await context.services.drafts.get(context.user.id)
    if draft is not None and draft.is_active:
        await create.answer(context, draft)
        return
    await ask(context)


async def ask(context: Context) -> None:
    """Hand a message to the agent of this chat."""
    agent = await _agent(context)
    if agent is None:
        await context.send(Screen(context.say("not-talking"), home_keyboard(context.say)))
        return
    words, file = context.message.text or context.message.caption or "", media.incoming(context.message)
    if not words and not file:
        await context.tell("unsupported")
    elif len(words) > MAX_MESSAGE_CHARS:
        await context.tell("too-long-message", length=len(words), limit=MAX_MESSAGE_CHARS)
    elif file and file.size > media.MAX_BYTES:
        await _refuse(context, agent, words, file)
    else:
        await _accept(context, agent, words, file)


async def new(context: Context) -> None:
    """/new: the conversation starts over."""
    agent = await _agent(context)
    if agent is None:
        await context.send(Screen(context.say("not-talking"), home_keyboard(context.say)))
        return
    is_done = await context.services.turns.forget(context.chat.id, agent)
    await context.tell("forgotten" if is_done else "forgotten-later", name=agent.name)
    await choices.put_away(context)


async def stop(context: Context) -> None:
    """/stop: end the answer being written."""
    if not await _stop(context):
        await context.tell("nothing-to-stop")


async def stop_pressed(context: Context, pressed: Pressed) -> None:
    """⏹ under an answer. Where nothing is being written any more, the button is taken away."""
    if await _stop(context, pressed.argument):
        return
    with suppress(BadRequest):  # gone, or without a button already: the answer ended in this moment
        await context.services.bot.edit_message_reply_markup(context.chat.id, context.pressed_id, reply_markup=None)


async def retry_pressed(context: Context, pressed: Pressed) -> None:
    """⟳ under an answer that did not end well."""
    if await context.services.turns.retry(pressed.argument, context.chat.id):
        context.services.wake(context.chat.id)


async def again_pressed(context: Context, pressed: Pressed) -> None:
    """⟳ under «something broke on our side»: handle the saved update again."""
    saved = await context.services.inbox.again(pressed.number or 0, context.chat.id)
    if saved is None:
        await context.tell("nothing-to-retry")
        return
    context.services.dispatch(saved)


async def _refuse(context: Context, agent: Agent, words: str, file: Incoming) -> None:
    """Too large a file. In an album, what is written under it belongs to the other files."""
    await context.tell("file-too-large", name=file.name, size=f"{file.size / 1024**2:.1f}")
    if words and context.message.media_group_id:
        await _accept(context, agent, words, None)


async def _accept(context: Context, agent: Agent, words: str, file: Incoming | None) -> None:
    asked = Ask(
        agent=agent,
        chat_id=context.chat.id,
        user_id=context.user.id,
        message_id=context.message.message_id,
        message=words,
        update_id=context.incoming.update_id,
        file=file,
        album=context.message.media_group_id or "",
    )
    is_behind = await context.services.turns.count_open(context.chat.id) > 0
    if await context.services.turns.accept(asked):
        context.services.wake(context.chat.id)
        if is_behind:
            await _show_seen(context)
    await choices.put_away(context)


async def _show_seen(context: Context) -> None:
    try:
        await context.services.bot.set_message_reaction(context.chat.id, context.message.message_id, SEEN)
    except TelegramError:
        return  # an ornament; some servers have no reactions


async def _stop(context: Context, turn_id: str | None = None) -> bool:
    try:
        return await context.services.turns.stop(context.chat.id, turn_id)
    except AgentError:
        # It is down: nothing is being written, and the turn says so by itself.
        return False


async def _agent(context: Context) -> Agent | None:
    agent_id = await context.services.chats.agent_id(context.chat.id)
    return await context.services.agents.get(agent_id) if agent_id else None
