"""The methods of the Bot API that the product and its tests use."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.fakes import telegram_wire as wire
from tests.fakes.telegram_entities import Formatted, read_text, utf16_length
from tests.fakes.telegram_keyboards import check_keyboard
from tests.fakes.telegram_pictures import check_picture
from tests.fakes.telegram_refusals import bad_request, not_modified, query_is_too_old
from tests.fakes.telegram_state import CALLBACK_LIFETIME, DRAFT_LIFETIME, Chat, Draft, File, Message, World, require
from tests.fakes.telegram_views import AnswerView

MAX_TEXT = 4096
MAX_CAPTION = 1024
MAX_RICH_BYTES = 32_768
MAX_UPLOAD = 50 * 1024 * 1024
MAX_PHOTO = 10 * 1024 * 1024
MAX_DOWNLOAD = 20 * 1024 * 1024
DELETABLE = 48 * 3600
ACTIONS = frozenset({
    "typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice", "upload_document",
    "choose_sticker", "find_location", "record_video_note", "upload_video_note",
})  # fmt: skip
EMOJI = frozenset(re.findall(r"\S+", """
👍 👎 ❤ 🔥 🥰 👏 😁 🤔 🤯 😱 🤬 😢 🎉 🤩 🤮 💩 🙏 👌 🕊 🤡 🥱 🥴 😍 🐳 ❤️‍🔥
🌚 🌭 💯 🤣 ⚡ 🍌 🏆 💔 🤨 😐 🍓 🍾 💋 🖕 😈 😴 😭 🤓 👻 👨‍💻 👀 🎃 🙈 😇 😨
🤝 ✍ 🤗 🫡 🎅 🎄 ☃ 💅 🤪 🗿 🆒 💘 🙉 🦄 😘 💊 🙊 😎 👾 🤷‍♂️ 🤷 🤷‍♀️ 😡
"""))  # fmt: skip
COMMAND = re.compile(r"[a-z0-9_]{1,32}")

type Result = Any
"""What stands under "result": any JSON value."""


# -- the bot itself


def get_me(world: World, _call: wire.NoParameters) -> Result:
    name = world.profile.names.get("", world.bot.first_name)
    return world.bot.wire() | {
        "first_name": name,
        "can_join_groups": True,
        "can_read_all_group_messages": False,
        "supports_inline_queries": False,
        "can_connect_to_business": False,
        "has_main_web_app": False,
    }


def yes(_world: World, _call: wire.NoParameters) -> Result:
    return True


async def get_updates(world: World, call: wire.GetUpdates) -> Result:
    world.updates.allow(call.allowed_updates)
    return await world.updates.poll(offset=call.offset, limit=call.limit, timeout=call.timeout)


# -- sending


def send_message(world: World, call: wire.SendMessage) -> Result:
    chat = world.chat(call.chat_id)
    body = read_text(call.text, call.parse_mode, call.entities)
    require(body.text, bad_request("message text is empty"))
    require(utf16_length(body.text) <= MAX_TEXT, bad_request("message is too long"))
    return _post(world, chat, call, body)


def send_document(world: World, call: wire.SendDocument) -> Result:
    return _send_file(world, call, kind="document", sent=call.document, limit=MAX_UPLOAD)


def send_photo(world: World, call: wire.SendPhoto) -> Result:
    return _send_file(world, call, kind="photo", sent=call.photo, limit=MAX_PHOTO)


def _send_file(world: World, call: wire.Captioned, *, kind: str, sent: wire.Upload | str, limit: int) -> Result:
    chat = world.chat(call.chat_id)
    body = _caption(call.caption, call.parse_mode, call.caption_entities)
    known = _known_file(world, kind, sent)
    if isinstance(sent, wire.Upload):
        require(len(sent.content) <= limit, bad_request("file is too big"))
        require(sent.content, bad_request("file must be non-empty"))
        if kind == "photo":
            check_picture(sent.content)
    options = _options(chat, call)
    file = known or _stored(world, kind, sent)
    return world.post(chat, world.bot, body, file=file, **options).wire()


def _known_file(world: World, kind: str, sent: wire.Upload | str) -> File | None:
    if isinstance(sent, wire.Upload):
        return None
    require(sent, bad_request(f"there is no {kind} in the request"))
    file = world.files.get(sent)
    if file is None:
        raise bad_request("wrong file identifier/HTTP URL specified")
    return file


def _stored(world: World, kind: str, sent: wire.Upload | str) -> File:
    assert isinstance(sent, wire.Upload)  # a known file was taken before
    return world.keep_file(kind=kind, name=sent.name or kind, mime=sent.mime, content=sent.content)


def _caption(text: str, parse_mode: str, entities: tuple[wire.Entity, ...] | None) -> Formatted:
    body = read_text(text, parse_mode, entities)
    require(utf16_length(body.text) <= MAX_CAPTION, bad_request("message caption is too long"))
    return body


def _post(world: World, chat: Chat, call: wire.Sending, body: Formatted, **content: Any) -> Result:
    return world.post(chat, world.bot, body, **content, **_options(chat, call)).wire()


def _options(chat: Chat, call: wire.Sending) -> dict[str, Any]:
    """What every send method has: keyboard, reply, topic; checked before anything is stored."""
    markup = call.reply_markup if isinstance(call.reply_markup, wire.InlineKeyboard) else None
    return {
        "markup": check_keyboard(markup, private=chat.is_private),
        "reply_to": _reply_target(chat, call),
        "thread_id": _topic(chat, call.message_thread_id),
    }


def _reply_target(chat: Chat, call: wire.Sending) -> Message | None:
    reply = call.reply_parameters
    target_id = reply.message_id if reply else call.reply_to_message_id
    if target_id is None:
        return None
    target = chat.messages.get(target_id)
    if target and not target.deleted:
        return target
    lenient = reply.allow_sending_without_reply if reply else call.allow_sending_without_reply
    require(lenient, bad_request("message to be replied not found"))
    return None


def _topic(chat: Chat, thread_id: int | None) -> int | None:
    require(thread_id is None or thread_id in chat.topics, bad_request("message thread not found"))
    return thread_id


# -- rich messages: one text under a name, kept as it came


def send_rich_message(world: World, call: wire.SendRich) -> Result:
    chat = world.chat(call.chat_id)
    rich = _rich(call.rich_message)
    return _post(world, chat, call, Formatted(_rich_text(rich)), rich=rich)


def _rich(content: dict[str, Any] | None) -> dict[str, Any]:
    if not content or not _rich_text(content):
        raise bad_request("rich message is empty")
    require(len(_rich_text(content).encode()) <= MAX_RICH_BYTES, bad_request("rich message is too long"))
    return content


def _rich_text(content: dict[str, Any]) -> str:
    return str(content.get("markdown") or content.get("html") or content.get("blocks") or "")


def send_rich_message_draft(world: World, call: wire.SendRichDraft) -> Result:
    body = Formatted(_rich_text(_rich(call.rich_message)))
    return _draft(world, call, body, draft_id=call.draft_id, can_stop=call.can_stop, keep=call.keep_on_stop)


def send_message_draft(world: World, call: wire.SendDraft) -> Result:
    body = read_text(call.text, call.parse_mode, call.entities)
    require(utf16_length(body.text) <= MAX_TEXT, bad_request("message is too long"))
    return _draft(world, call, body, draft_id=call.draft_id, can_stop=call.can_stop, keep=call.keep_on_stop)


def _draft(world: World, call: wire.ToChat, body: Formatted, *, draft_id: int, can_stop: bool, keep: bool) -> Result:
    chat = world.chat(call.chat_id)
    require(chat.is_private, bad_request("message drafts can be sent only to private chats"))
    require(draft_id != 0, bad_request("draft_id must be non-zero"))
    thread_id = _topic(chat, call.message_thread_id)
    world.draft(chat, Draft(draft_id, body, can_stop, keep, thread_id, world.clock.now() + DRAFT_LIFETIME))
    return True


# -- editing and deleting


def edit_message_text(world: World, call: wire.EditText) -> Result:
    message = _editable(world, call)
    if call.rich_message is not None:
        rich = _rich(call.rich_message)
        return _edit(world, message, Formatted(_rich_text(rich)), call.reply_markup, rich=rich)
    body = read_text(call.text, call.parse_mode, call.entities)
    require(body.text, bad_request("message text is empty"))
    require(utf16_length(body.text) <= MAX_TEXT, bad_request("MESSAGE_TOO_LONG"))
    require(message.file is None, bad_request("there is no text in the message to edit"))
    return _edit(world, message, body, call.reply_markup, rich=None)


def edit_message_caption(world: World, call: wire.EditCaption) -> Result:
    message = _editable(world, call)
    require(message.file, bad_request("there is no caption in the message to edit"))
    body = _caption(call.caption, call.parse_mode, call.caption_entities)
    return _edit(world, message, body, call.reply_markup, rich=None)


def edit_message_reply_markup(world: World, call: wire.EditMarkup) -> Result:
    message = _editable(world, call)
    return _edit(world, message, message.body, call.reply_markup, rich=message.rich)


def _editable(world: World, call: wire.OfMessage) -> Message:
    chat = world.chat(call.chat_id)
    require(call.message_id, bad_request("message identifier is not specified"))
    message = world.message(chat, call.message_id, missing="message to edit not found")
    require(message.sender is world.bot and not message.extra, bad_request("message can't be edited"))
    return message


def _edit(
    world: World, message: Message, body: Formatted, markup: wire.InlineKeyboard | None, *, rich: dict[str, Any] | None
) -> Result:
    keyboard = check_keyboard(markup, private=message.chat.is_private)
    same = (message.body, message.markup, message.rich) == (body, keyboard, rich)
    require(not same, not_modified())
    message.body, message.markup, message.rich = body, keyboard, rich
    message.edits += 1
    message.edited = world.time()
    world.show(message)
    return message.wire()


def delete_message(world: World, call: wire.OfMessage) -> Result:
    chat = world.chat(call.chat_id)
    message = world.message(chat, call.message_id, missing="message to delete not found")
    _check_deletable(world, message)
    _delete(world, message)
    return True


def delete_messages(world: World, call: wire.DeleteMessages) -> Result:
    chat = world.chat(call.chat_id)
    require(1 <= len(call.message_ids) <= 100, bad_request("message identifiers are not specified"))
    found = [chat.messages[message_id] for message_id in call.message_ids if message_id in chat.messages]
    for message in found:
        _check_deletable(world, message)
    for message in found:
        _delete(world, message)
    return True


def _check_deletable(world: World, message: Message) -> None:
    own = message.sender is world.bot or message.chat.is_private or message.chat.bot_is_admin
    fresh = world.time() - message.date < DELETABLE
    require(own and fresh, bad_request("message can't be deleted"))


def _delete(world: World, message: Message) -> None:
    message.deleted = True
    if message.id in message.chat.pinned:
        message.chat.pinned.remove(message.id)
    world.show(message)


def pin_chat_message(world: World, call: wire.PinMessage) -> Result:
    chat = world.chat(call.chat_id)
    message = world.message(chat, call.message_id, missing="message to pin not found")
    allowed = chat.is_private or chat.bot_is_admin
    require(allowed, bad_request("not enough rights to manage pinned messages in the chat"))
    if message.id not in chat.pinned:
        chat.pinned.append(message.id)
        world.publish("pinned", chat.id, lambda: chat.pinned)
    return True


def unpin_chat_message(world: World, call: wire.OfMessage) -> Result:
    chat = world.chat(call.chat_id)
    target = call.message_id or (chat.pinned[-1] if chat.pinned else 0)
    require(target in chat.pinned, bad_request("message to unpin not found"))
    chat.pinned.remove(target)
    world.publish("pinned", chat.id, lambda: chat.pinned)
    return True


def unpin_all_chat_messages(world: World, call: wire.OfChat) -> Result:
    chat = world.chat(call.chat_id)
    chat.pinned.clear()
    world.publish("pinned", chat.id, lambda: chat.pinned)
    return True


# -- quick signs


def answer_callback_query(world: World, call: wire.AnswerCallback) -> Result:
    callback = world.callbacks.get(call.callback_query_id)
    if callback is None or callback.answer.done() or callback.created + CALLBACK_LIFETIME < world.clock.now():
        raise query_is_too_old()
    require(utf16_length(call.text) <= 200, bad_request("MESSAGE_TOO_LONG"))
    answer = AnswerView(text=call.text, alert=call.show_alert, url=call.url)
    callback.answer.set_result(answer)
    shown = {"user_id": callback.user.id, **answer.model_dump()}
    world.publish("answer", callback.message.chat.id, lambda: shown)
    return True


def send_chat_action(world: World, call: wire.ChatAction) -> Result:
    chat = world.chat(call.chat_id)
    _topic(chat, call.message_thread_id)
    require(call.action in ACTIONS, bad_request("wrong parameter action in request"))
    world.act(chat, call.action)
    return True


def set_message_reaction(world: World, call: wire.SetReaction) -> Result:
    chat = world.chat(call.chat_id)
    message = world.message(chat, call.message_id, missing="message to react not found")
    reactions = call.reaction or ()
    require(len(reactions) <= 1, bad_request("REACTIONS_TOO_MANY"))
    for reaction in reactions:
        require(reaction.type == "emoji" and reaction.emoji in EMOJI, bad_request("REACTION_INVALID"))
    if reactions:
        message.reactions[world.bot.id] = reactions[0].emoji or ""
    else:
        message.reactions.pop(world.bot.id, None)
    world.show(message)
    return True


# -- files


def get_file(world: World, call: wire.GetFile) -> Result:
    require(call.file_id, bad_request("file_id not specified"))
    file = world.files.get(call.file_id)
    if file is None:
        raise bad_request("invalid file_id")
    require(call.file_id not in world.gone_files, bad_request("wrong file_id or the file is temporarily unavailable"))
    require(file.size <= MAX_DOWNLOAD, bad_request("file is too big"))
    return file.wire() | {"file_path": file.path}


# -- chats


def get_chat(world: World, call: wire.OfChat) -> Result:
    chat = world.chat(call.chat_id)
    pinned = chat.messages.get(chat.pinned[-1]) if chat.pinned else None
    full = {
        "accent_color_id": 0,
        "max_reaction_count": 11,
        "accepted_gift_types": {
            "unlimited_gifts": False,
            "limited_gifts": False,
            "unique_gifts": False,
            "premium_subscription": False,
            "gifts_from_channels": False,
        },
    }
    return chat.wire() | full | ({"pinned_message": pinned.wire()} if pinned else {})


def get_chat_member(world: World, call: wire.OfMember) -> Result:
    chat = world.chat(call.chat_id)
    if call.user_id == world.bot.id:
        return {"status": "member", "user": world.bot.wire()}
    user = world.users.get(call.user_id)
    if user is None:
        raise bad_request("PARTICIPANT_ID_INVALID")
    return {"status": "member" if user.id in chat.members else "left", "user": user.wire()}


def leave_chat(world: World, call: wire.OfChat) -> Result:
    chat = world.chat(call.chat_id)
    require(not chat.is_private, bad_request("chat member status can't be changed in private chats"))
    chat.members.discard(world.bot.id)
    return True


def create_forum_topic(world: World, call: wire.CreateTopic) -> Result:
    chat = world.chat(call.chat_id)
    require(chat.is_forum, bad_request("the chat is not a forum"))
    require(1 <= utf16_length(call.name) <= 128, bad_request("TOPIC_TITLE_EMPTY"))
    created = world.post(chat, world.bot, Formatted(""), extra={"forum_topic_created": {"name": call.name}})
    chat.topics[created.id] = call.name
    return {"message_thread_id": created.id, "name": call.name, "icon_color": call.icon_color or 7322096}


# -- profile


def set_my_commands(world: World, call: wire.SetCommands) -> Result:
    require(len(call.commands) <= 100, bad_request("BOT_COMMANDS_TOO_MUCH"))
    for command in call.commands:
        require(COMMAND.fullmatch(command.command.removeprefix("/")), bad_request("BOT_COMMAND_INVALID"))
        described = 1 <= utf16_length(command.description) <= 256
        require(described, bad_request("BOT_COMMAND_DESCRIPTION_INVALID"))
    scope = _scope(world, call.scope)
    world.profile.commands[scope, call.language_code] = call.commands
    _menu_changed(world)
    return True


def get_my_commands(world: World, call: wire.ScopedCommands) -> Result:
    commands = world.profile.commands.get((_scope(world, call.scope), call.language_code), ())
    return [command.model_dump(exclude_none=True) for command in commands]


def delete_my_commands(world: World, call: wire.ScopedCommands) -> Result:
    world.profile.commands.pop((_scope(world, call.scope), call.language_code), None)
    _menu_changed(world)
    return True


def _scope(world: World, scope: wire.CommandScope | None) -> str:
    if scope is None:
        return "default"
    if not scope.type.startswith("chat"):
        return scope.type
    chat = world.known_chat(scope.chat_id or "")
    return f"chat_member:{chat.id}:{scope.user_id}" if scope.type == "chat_member" else f"{scope.type}:{chat.id}"


def _menu_changed(world: World) -> None:
    world.publish("menu", 0, dict)


def set_chat_menu_button(world: World, call: wire.SetMenuButton) -> Result:
    chat_id = world.chat(call.chat_id).id if call.chat_id else None
    world.profile.menu_buttons[chat_id] = call.menu_button or wire.MenuButton(type="default")
    _menu_changed(world)
    return True


def get_chat_menu_button(world: World, call: wire.GetMenuButton) -> Result:
    buttons = world.profile.menu_buttons
    chat_id = world.chat(call.chat_id).id if call.chat_id else None
    button = buttons.get(chat_id) or buttons.get(None) or wire.MenuButton(type="default")
    return button.model_dump(exclude_none=True)


def set_my_name(world: World, call: wire.SetName) -> Result:
    return _set_text(world.profile.names, call.language_code, call.name, limit=64)


def get_my_name(world: World, call: wire.InLanguage) -> Result:
    return {"name": world.profile.names.get(call.language_code, world.bot.first_name)}


def set_my_description(world: World, call: wire.SetDescription) -> Result:
    return _set_text(world.profile.descriptions, call.language_code, call.description, limit=512)


def get_my_description(world: World, call: wire.InLanguage) -> Result:
    return {"description": world.profile.descriptions.get(call.language_code, "")}


def set_my_short_description(world: World, call: wire.SetShortDescription) -> Result:
    return _set_text(world.profile.short_descriptions, call.language_code, call.short_description, limit=120)


def get_my_short_description(world: World, call: wire.InLanguage) -> Result:
    return {"short_description": world.profile.short_descriptions.get(call.language_code, "")}


def _set_text(texts: dict[str, str], language: str, text: str, *, limit: int) -> Result:
    require(utf16_length(text) <= limit, bad_request("text is too long"))
    texts[language] = text
    return True


# -- the table


@dataclass(slots=True, frozen=True)
class Method:
    name: str
    parameters: type[wire.Strict]
    run: Callable[[World, Any], Result | Awaitable[Result]]


TABLE = (
    Method("getMe", wire.NoParameters, get_me),
    Method("logOut", wire.NoParameters, yes),
    Method("close", wire.NoParameters, yes),
    Method("getUpdates", wire.GetUpdates, get_updates),
    Method("sendMessage", wire.SendMessage, send_message),
    Method("sendDocument", wire.SendDocument, send_document),
    Method("sendPhoto", wire.SendPhoto, send_photo),
    Method("sendRichMessage", wire.SendRich, send_rich_message),
    Method("sendRichMessageDraft", wire.SendRichDraft, send_rich_message_draft),
    Method("sendMessageDraft", wire.SendDraft, send_message_draft),
    Method("editMessageText", wire.EditText, edit_message_text),
    Method("editMessageCaption", wire.EditCaption, edit_message_caption),
    Method("editMessageReplyMarkup", wire.EditMarkup, edit_message_reply_markup),
    Method("deleteMessage", wire.OfMessage, delete_message),
    Method("deleteMessages", wire.DeleteMessages, delete_messages),
    Method("pinChatMessage", wire.PinMessage, pin_chat_message),
    Method("unpinChatMessage", wire.OfMessage, unpin_chat_message),
    Method("unpinAllChatMessages", wire.OfChat, unpin_all_chat_messages),
    Method("answerCallbackQuery", wire.AnswerCallback, answer_callback_query),
    Method("sendChatAction", wire.ChatAction, send_chat_action),
    Method("setMessageReaction", wire.SetReaction, set_message_reaction),
    Method("getFile", wire.GetFile, get_file),
    Method("getChat", wire.OfChat, get_chat),
    Method("getChatMember", wire.OfMember, get_chat_member),
    Method("leaveChat", wire.OfChat, leave_chat),
    Method("createForumTopic", wire.CreateTopic, create_forum_topic),
    Method("setMyCommands", wire.SetCommands, set_my_commands),
    Method("getMyCommands", wire.ScopedCommands, get_my_commands),
    Method("deleteMyCommands", wire.ScopedCommands, delete_my_commands),
    Method("setChatMenuButton", wire.SetMenuButton, set_chat_menu_button),
    Method("getChatMenuButton", wire.GetMenuButton, get_chat_menu_button),
    Method("setMyName", wire.SetName, set_my_name),
    Method("getMyName", wire.InLanguage, get_my_name),
    Method("setMyDescription", wire.SetDescription, set_my_description),
    Method("getMyDescription", wire.InLanguage, get_my_description),
    Method("setMyShortDescription", wire.SetShortDescription, set_my_short_description),
    Method("getMyShortDescription", wire.InLanguage, get_my_short_description),
)
