"""The ready answers under a turn: one is pressed, or the person writes on instead."""

from contextlib import suppress

from telegram import Message
from telegram.constants import MessageLimit
from telegram.error import BadRequest

from bot.chat.turns import Ask
from bot.errors import Refused
from bot.store.models import Offer
from bot.telegram.choices import chosen_line
from bot.telegram.context import Context
from bot.telegram.inbox import UNSTORABLE
from bot.telegram.keyboards import MAX_DIGITS, Pressed
from bot.telegram.render import utf16_length
from bot.telegram.screen import NO_PREVIEW


async def choose(context: Context, pressed: Pressed) -> None:
    """A ready answer: from now on it is the person's next message to the agent that asked."""
    turn_id, _, index = pressed.argument.rpartition("|")
    chosen = int(index) if index.isdecimal() and len(index) <= MAX_DIGITS else None
    offer = await context.services.offers.find(turn_id, context.chat.id)
    words = offer.option(chosen) if offer else None
    if offer is None or chosen is None or words is None:
        await context.toast(context.say.plain("choice-over"))
    elif offer.user_id != context.user.id:
        await context.toast(context.say.plain("choice-not-yours"))
    elif await _answer(context, offer, chosen, words):
        await context.toast()
        await _mark(context, words)
    else:
        await _show_over(context, turn_id)


async def put_away(context: Context) -> None:
    """The person has gone on by writing: what was offered before is over, and its buttons go."""
    update_id = context.incoming.update_id
    closed = await context.services.offers.close(
        context.chat.id, context.user.id, before=update_id, by=_turn_id(update_id)
    )
    for turn_id in closed:
        messages = [message for message in await context.services.turns.messages(turn_id) if message > 0]
        if messages:
            await _take_buttons(context, messages[-1])


async def _answer(context: Context, offer: Offer, chosen: int, words: str) -> bool:
    """False if something else was answered before. Handled again after a crash, it is the same answer."""
    update_id = context.incoming.update_id
    agent = await context.services.agents.get(offer.agent_id)
    if agent is None or not await context.services.offers.claim(offer.turn_id, chosen, _turn_id(update_id)):
        return False
    asked = Ask(
        agent=agent,
        chat_id=context.chat.id,
        user_id=context.user.id,
        message_id=context.pressed_id or 0,
        message=UNSTORABLE.sub("\ufffd", words),
        update_id=update_id,
    )
    try:
        await context.services.turns.accept(asked)
    except Refused:
        await context.services.offers.release(offer.turn_id, asked.turn_id)
        await context.toast()
        raise
    context.services.wake(context.chat.id)
    return True


async def _show_over(context: Context, turn_id: str) -> None:
    """It is answered or past: say so, and have the message show it, should that have failed before."""
    offer = await context.services.offers.find(turn_id, context.chat.id)
    words = offer.option(offer.chosen) if offer else None
    await context.toast(context.say.plain("choice-made" if words else "choice-over"))
    if words:
        await _mark(context, words)
    else:
        await _take_buttons(context, context.pressed_id)


async def _mark(context: Context, words: str) -> None:
    """Put the answer in place of the buttons."""
    message = context.query.message
    if not isinstance(message, Message) or message.text is None:
        await _take_buttons(context, context.pressed_id)
        return
    if message.reply_markup is None:
        return  # marked already; the press comes from a screen that had not heard of it
    text = f"{message.text}\n\n{chosen_line(words)}"
    if utf16_length(text) > MessageLimit.MAX_TEXT_LENGTH:
        await _take_buttons(context, message.message_id)
        return
    with suppress(BadRequest):  # gone, or marked already
        await context.services.bot.edit_message_text(
            text, context.chat.id, message.message_id, entities=message.entities, link_preview_options=NO_PREVIEW
        )


async def _take_buttons(context: Context, message_id: int | None) -> None:
    with suppress(BadRequest):  # gone, or without buttons already
        await context.services.bot.edit_message_reply_markup(context.chat.id, message_id, reply_markup=None)


def _turn_id(update_id: int) -> str:
    return f"u{update_id}"
