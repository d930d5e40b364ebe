"""Unmodified python-telegram-bot lives with the double."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from telegram import (
    BotCommandScopeChat,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    Message,
    ReactionTypeEmoji,
    ReplyParameters,
    Update,
)
from telegram.error import BadRequest, Conflict, EndPointNotFound, Forbidden, InvalidToken, NetworkError, RetryAfter
from telegram.ext import Application, CallbackQueryHandler, CommandHandler, MessageHandler, filters

from tests.fakes.telegram_client import TelegramDouble
from tests.fakes.telegram_pictures import png
from tests.fakes.telegram_views import FaultKind, Feature


def build(telegram: TelegramDouble) -> Application[Any, Any, Any, Any, Any, Any]:
    builder = Application.builder().token(telegram.token)
    return builder.base_url(f"{telegram.url}/bot").base_file_url(f"{telegram.url}/file/bot").build()


async def start(update: Update, context: Any) -> None:
    assert update.effective_message
    keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("🚀 Deploy", callback_data="v1|deploy|1", style="success")]])
    text = f"<b>Hi</b> {' '.join(context.args)}".strip()
    await update.effective_message.reply_text(text, parse_mode="HTML", reply_markup=keyboard)


async def echo(update: Update, context: Any) -> None:
    assert update.effective_message
    await update.effective_message.set_reaction("👀")
    await update.effective_chat.send_action("typing")  # type: ignore[union-attr]
    reply = ReplyParameters(update.effective_message.id)
    await update.effective_message.reply_text(update.effective_message.text or "no text", reply_parameters=reply)


async def press(update: Update, context: Any) -> None:
    query = update.callback_query
    assert query
    await query.answer("On it")
    await query.edit_message_text("Deploying")


@asynccontextmanager
async def echo_bot(telegram: TelegramDouble) -> AsyncIterator[Application[Any, Any, Any, Any, Any, Any]]:
    app = build(telegram)
    app.add_handler(CommandHandler("start", start))
    app.add_handler(CallbackQueryHandler(press))
    app.add_handler(MessageHandler(filters.ALL, echo))
    async with app:
        await app.start()
        assert app.updater
        await app.updater.start_polling(timeout=20, allowed_updates=Update.ALL_TYPES)
        yield app
        await app.updater.stop()
        await app.stop()


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramDouble]:
    async with TelegramDouble() as double:
        yield double


async def test_echo_bot_answers_commands_words_and_presses(telegram: TelegramDouble):
    user = await telegram.user(name="Olga", username="olga")
    async with echo_bot(telegram):
        await user.open("https://t.me/baal_demo_bot?start=agent_x1")
        card = await user.wait_for("Hi agent_x1", button="Deploy")
        pressed = await user.press("🚀 Deploy")
        answer = await pressed.answer()
        edited = await user.wait_for("Deploying")
        said = await user.send("héllo 😀")
        echoed = await user.wait_for("héllo 😀")
        shown = {message.id: message for message in await user.messages()}
    assert card.entities == [{"type": "bold", "offset": 0, "length": 2}]
    assert card.buttons[0][0].style == "success"
    assert (answer.text, edited.id, edited.edits, edited.buttons) == ("On it", card.id, 1, [])
    assert (echoed.reply_to, [reaction.emoji for reaction in shown[said.id].reactions]) == (said.id, ["👀"])
    assert await telegram.refusals() == []


async def test_every_kind_of_update_loads(telegram: TelegramDouble):
    user = await telegram.user(username="olga")
    await telegram.call("getUpdates", allowed_updates=[*Update.ALL_TYPES, "stopped_message_generation"])
    sent = await user.send("/start")
    await user.edit(sent.id, "edited")
    await user.react(sent.id, "👍")
    await user.sticker()
    for kind in ("document", "photo", "voice", "audio", "video", "video_note", "animation"):
        await user.upload("a.txt", b"text", mime="text/plain", kind=kind, caption="look")
    await user.album(("a.png", png(3, 2), "image/png"), ("b.txt", b"text", "text/plain"), caption="both")
    group = await telegram.group("Team", by=user, members=[await telegram.user(name="Ben")])
    await user.send("/ask", chat=group)
    markup = {"inline_keyboard": [[{"text": "Go", "callback_data": "go"}]]}
    await telegram.call("sendMessage", chat_id=user.id, text="x", reply_markup=markup)
    await user.press("Go")
    await telegram.call("sendMessageDraft", chat_id=user.id, draft_id=1, text="…", can_stop=True)
    await user.stop_draft()
    await user.block()
    await telegram.kick_bot(group, by=user)
    bot = build(telegram).bot
    raw = (await telegram.call("getUpdates"))["result"]
    updates = [Update.de_json(update, bot) for update in raw]
    assert [update.update_id for update in updates] == list(range(1, len(raw) + 1))
    unknown = [kind for update in updates for kind in update.api_kwargs]
    assert unknown == ["stopped_message_generation"]
    assert updates[0].message
    assert updates[0].message.parse_entities(["bot_command"]) != {}


async def test_files_go_both_ways(telegram: TelegramDouble):
    user = await telegram.user()
    sent = await user.upload("notes.txt", "naïve".encode(), mime="text/plain", caption="my notes")
    assert sent.file
    async with build(telegram).bot as bot:
        file = await bot.get_file(sent.file.file_id)
        content = bytes(await file.download_as_bytearray())
        message = await bot.send_document(
            user.id, b"# Answer", filename="answer.md", caption="<i>long</i>", parse_mode="HTML"
        )
        again = await bot.send_document(user.id, message.document.file_id)
        photo = await bot.send_photo(user.id, png(3, 2))
    assert content == "naïve".encode()
    assert message.document
    assert (message.document.file_name, message.document.file_size, message.caption) == ("answer.md", 8, "long")
    assert again.document == message.document
    assert photo.photo
    assert (photo.photo[-1].width, photo.photo[-1].height) == (3, 2)


async def test_profile_methods_are_taken(telegram: TelegramDouble):
    user = await telegram.user(language="de")
    async with build(telegram).bot as bot:
        await bot.set_my_commands([("start", "Begin")])
        await bot.set_my_commands([("start", "Anfangen")], language_code="de")
        general = await user.commands()
        await bot.set_my_commands([("stop", "Stop the answer")], scope=BotCommandScopeChat(user.id))
        special = await user.commands()
        await bot.set_my_description("An agent for everyone")
        await bot.set_chat_menu_button(user.id)
        described = await bot.get_my_description()
    assert [command.description for command in general + special] == ["Anfangen", "Stop the answer"]
    assert described.description == (await telegram.bot()).description == "An agent for everyone"


async def test_refusals_become_ptbs_errors(telegram: TelegramDouble, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PTB_TIMEDELTA", "1")  # without it, PTB warns at each RetryAfter that is made
    user, blocked = await telegram.user(), await telegram.user(name="Ben")
    await blocked.block()
    async with build(telegram).bot as bot:
        with pytest.raises(BadRequest, match="Message text is empty"):
            await bot.send_message(user.id, " ")
        with pytest.raises(Forbidden):
            await bot.send_message(blocked.id, "x")
        await telegram.fault(FaultKind.TOO_MANY_REQUESTS, "sendMessage", retry_after=7)
        with pytest.raises(RetryAfter, match="Retry in 0:00:07"):
            await bot.send_message(user.id, "x")
        await telegram.fault(FaultKind.SERVER_ERROR)
        with pytest.raises(NetworkError):
            await bot.send_message(user.id, "x")
        await bot.set_webhook("http://127.0.0.1:9/x")
        with pytest.raises(Conflict):
            await bot.get_updates()
        await bot.delete_webhook()


async def test_newer_methods_and_their_absence(telegram: TelegramDouble):
    user = await telegram.user()
    rich = {"chat_id": user.id, "rich_message": {"markdown": "# Title"}}
    async with build(telegram).bot as bot:
        sent: Message = await bot.do_api_request("sendRichMessage", api_kwargs=rich, return_type=Message)
        assert sent.api_kwargs["rich_message"] == {"markdown": "# Title"}
        assert await bot.send_message_draft(user.id, 5, "half an ans", api_kwargs={"can_stop": True})
        for feature in Feature:
            await telegram.switch_off(feature)
        with pytest.raises(EndPointNotFound):
            await bot.do_api_request("sendRichMessage", api_kwargs=rich, return_type=Message)
        with pytest.raises(InvalidToken):
            await bot.send_message_draft(user.id, 5, "x")
        with pytest.raises(InvalidToken):
            await bot.set_message_reaction(user.id, 1, ReactionTypeEmoji("👀"))
