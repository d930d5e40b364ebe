"""A screen is one message with its buttons: draw it by editing what is there, or by sending it anew."""

from dataclasses import dataclass
from typing import Any

from telegram import InlineKeyboardMarkup, LinkPreviewOptions
from telegram.constants import ParseMode
from telegram.error import BadRequest
from telegram.ext import ExtBot

UNCHANGED = "message is not modified"
NO_PREVIEW = LinkPreviewOptions(is_disabled=True)


@dataclass(frozen=True, slots=True)
class Screen:
    """Text as HTML, and its buttons."""

    text: str
    keyboard: InlineKeyboardMarkup | None = None


async def send(bot: ExtBot[Any], chat_id: int, screen: Screen) -> int:
    """Send it anew; the message's id."""
    message = await bot.send_message(
        chat_id, screen.text, parse_mode=ParseMode.HTML, reply_markup=screen.keyboard, link_preview_options=NO_PREVIEW
    )
    return message.message_id


async def draw(bot: ExtBot[Any], chat_id: int, message_id: int | None, screen: Screen) -> int:
    """Edit the message into it, or send it anew if there is no such message (any more); the message's id."""
    if message_id is None:
        return await send(bot, chat_id, screen)
    try:
        await bot.edit_message_text(
            screen.text,
            chat_id=chat_id,
            message_id=message_id,
            parse_mode=ParseMode.HTML,
            reply_markup=screen.keyboard,
            link_preview_options=NO_PREVIEW,
        )
    except BadRequest as error:
        if UNCHANGED not in str(error).lower():
            return await send(bot, chat_id, screen)
    return message_id
