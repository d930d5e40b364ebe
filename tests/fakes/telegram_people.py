"""What people do in their Telegram clients, and the updates that come of it."""

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.telegram_entities import Formatted, user_text
from tests.fakes.telegram_state import Chat, ChatKind, File, Message, Reach, User, World
from tests.fakes.telegram_views import PressKind, PressView
from tests.fakes.telegram_wire import InlineButton

PAYLOAD = re.compile(r"[A-Za-z0-9_-]{1,64}")
MOST_IN_ALBUM = 10
CHAT_INSTANCE = "-3141592653589793238"


class Impossible(Exception):
    """A person cannot do that: there is no such chat, message or button."""


def make_user(world: World, user: User, *, started: bool) -> User:
    """A new person; a used id or username is refused."""
    if user.id in world.users:
        raise Impossible(f"there is already a user with id {user.id}")
    world.add_user(user, started=started)
    world.publish("users", user.id, dict)
    return user


def person(world: World, user_id: int) -> User:
    if user_id not in world.users:
        raise Impossible(f"there is no user {user_id}; create one with POST /sim/users")
    return world.users[user_id]


def chat_of(world: World, chat_id: int) -> Chat:
    if chat_id not in world.chats:
        raise Impossible(f"there is no chat {chat_id}")
    return world.chats[chat_id]


def message_of(chat: Chat, message_id: int) -> Message:
    message = chat.messages.get(message_id)
    if message is None or message.deleted:
        raise Impossible(f"there is no message {message_id} in chat {chat.id}")
    return message


def write(world: World, user: User, chat: Chat, text: str, *, reply_to: int | None = None) -> list[Message]:
    """Type and send; like Telegram's clients, a text over 4096 units goes out in pieces."""
    bodies = [user_text(piece) for piece in _pieces(text)]
    if not any(body.text for body in bodies):
        raise Impossible("clients do not send an empty message")
    return [_say(world, user, chat, body, reply_to=reply_to) for body in bodies if body.text]


def _pieces(text: str) -> list[str]:
    # 2048 characters can never be more than 4096 units; only texts with many emoji are cut earlier than needed.
    size = 4096 if text.isascii() or max(text, default="") <= "\uffff" else 2048
    return [text[at : at + size] for at in range(0, len(text), size)]


def send_file(world: World, user: User, chat: Chat, file: File, caption: str, *, album: str = "") -> Message:
    extra = {"media_group_id": album} if album else {}
    return _say(world, user, chat, user_text(caption), file=file, extra=extra)


def send_album(world: World, user: User, chat: Chat, files: list[File], caption: str) -> list[Message]:
    """Several files as one: a message and an update each, the caption under the first, as clients do."""
    if not 2 <= len(files) <= MOST_IN_ALBUM:
        raise Impossible(f"an album has 2 to {MOST_IN_ALBUM} files, not {len(files)}")
    album = f"1{world.next_change():017}"
    captions = [caption, *[""] * (len(files) - 1)]
    return [send_file(world, user, chat, file, words, album=album) for file, words in zip(files, captions, strict=True)]


def lose_file(world: World, file_id: str) -> None:
    """Telegram no longer has it."""
    if file_id not in world.files:
        raise Impossible(f"there is no file {file_id}")
    world.gone_files.add(file_id)


def send_sticker(world: World, user: User, chat: Chat, emoji: str) -> Message:
    file = world.keep_file(kind="sticker", name="sticker.webp", mime="image/webp", content=b"RIFF")
    sticker = {
        **file.wire(), "width": 512, "height": 512, "is_animated": False, "is_video": False, "type": "regular",
        "emoji": emoji,
    }  # fmt: skip
    return _say(world, user, chat, Formatted(""), extra={"sticker": sticker})


def _say(
    world: World, user: User, chat: Chat, body: Formatted, *, reply_to: int | None = None, **content: Any
) -> Message:
    _require_member(chat, user)
    target = message_of(chat, reply_to) if reply_to else None
    _unblock(world, chat, user)
    message = world.post(chat, user, body, reply_to=target, **content)
    if _reaches_bot(world, message):
        world.updates.add("message", chat.id, message.wire())
    return message


def _require_member(chat: Chat, user: User) -> None:
    if user.id not in chat.members:
        raise Impossible(f"user {user.id} is not in chat {chat.id}")


def _unblock(world: World, chat: Chat, user: User) -> None:
    """Writing to a bot starts or unblocks it."""
    if not chat.is_private or chat.reach is Reach.OPEN:
        return
    if chat.reach is Reach.BLOCKED:
        set_blocked(world, user, blocked=False)
    chat.reach = Reach.OPEN
    world.publish("users", chat.id, dict)


def _reaches_bot(world: World, message: Message) -> bool:
    """Privacy mode: in groups a bot that is no admin gets commands and replies to itself only."""
    chat = message.chat
    if chat.reach is Reach.KICKED:
        return False
    if chat.is_private or chat.bot_is_admin:
        return True
    to_bot = message.reply_to is not None and message.reply_to.sender is world.bot
    return to_bot or _is_command_for(world, message.body)


def _is_command_for(world: World, body: Formatted) -> bool:
    first = body.entities[0] if body.entities else None
    if first is None or first.type != "bot_command" or first.offset != 0:
        return False
    named = body.text[: first.length].partition("@")[2]
    return named.lower() in {"", world.bot.username.lower()}


def edit(world: World, user: User, chat: Chat, message_id: int, text: str) -> Message:
    message = message_of(chat, message_id)
    if message.sender is not user:
        raise Impossible("people edit their own messages only")
    message.body = user_text(text)
    message.edits += 1
    message.edited = world.time()
    world.show(message)
    if _reaches_bot(world, message):
        world.updates.add("edited_message", chat.id, message.wire())
    return message


def react(world: World, user: User, chat: Chat, message_id: int, emoji: str) -> Message:
    """Put a reaction under a message; an empty one takes it away."""
    message = message_of(chat, message_id)
    old = _reaction(message.reactions.pop(user.id, ""))
    if emoji:
        message.reactions[user.id] = emoji
    world.show(message)
    news = {"chat": chat.wire(), "message_id": message_id, "user": user.wire(), "date": world.time()}
    both = {"old_reaction": old, "new_reaction": _reaction(emoji)}
    world.updates.add("message_reaction", chat.id, news | both)
    return message


def _reaction(emoji: str) -> list[dict[str, str]]:
    return [{"type": "emoji", "emoji": emoji}] if emoji else []


# -- buttons and links


def find_button(chat: Chat, text: str, message_id: int | None) -> tuple[Message, InlineButton]:
    """The newest button with these words, else the newest that contains them."""
    messages = [message_of(chat, message_id)] if message_id else list(reversed(chat.messages.values()))
    shown = [
        (message, button)
        for message in messages
        if message.markup and not message.deleted
        for row in message.markup.inline_keyboard
        for button in row
    ]
    exact = (pair for pair in shown if text in {pair[1].text, pair[1].callback_data})
    containing = (pair for pair in shown if text and text in pair[1].text)
    found = next(exact, None) or next(containing, None)
    if found is None:
        there = ", ".join(f"[{button.text}]" for _, button in shown) or "none"
        raise Impossible(f"no button says {text!r}; the chat shows: {there}")
    return found


def press(world: World, user: User, message: Message, button: InlineButton) -> PressView:
    """Tap a button of an inline keyboard."""
    _require_member(message.chat, user)
    if button.disabled:
        raise Impossible(f"the button {button.text!r} is disabled")
    at, shown = world.last_change, message.view()
    kind, value = _effect(world, user, message, button)
    sent = open_link(world, user, value) if kind is PressKind.LINK and names_bot(world, value) else None
    return PressView(kind=kind, value=value, message=shown, at=at, sent=sent.view() if sent else None)


def _effect(world: World, user: User, message: Message, button: InlineButton) -> tuple[PressKind, str]:
    if button.callback_data is not None:
        return PressKind.CALLBACK, _query(world, user, message, button)
    if button.url is not None:
        return PressKind.LINK, button.url
    if button.copy_text is not None:
        return PressKind.COPY, button.copy_text.text
    query = button.switch_inline_query or button.switch_inline_query_current_chat
    return (PressKind.OTHER, "") if query is None else (PressKind.SWITCH, query)


def _query(world: World, user: User, message: Message, button: InlineButton) -> str:
    callback = world.ask(user, message, button.callback_data or "")
    content = {
        "id": callback.id,
        "from": user.wire(),
        "message": message.wire(),
        "chat_instance": CHAT_INSTANCE,
        "data": callback.data,
    }
    world.updates.add("callback_query", message.chat.id, content)
    return callback.id


def names_bot(world: World, link: str) -> bool:
    """Whether a link is one to this bot's private chat."""
    parts = urlsplit(link if "://" in link else f"https://{link}")
    if parts.scheme == "tg":
        domain = parse_qs(parts.query).get("domain", [""])[0]
        return parts.netloc == "resolve" and domain.lower() == world.bot.username.lower()
    names = {"t.me", "telegram.me", "www.t.me"}
    return parts.netloc.lower() in names and parts.path.strip("/").lower() == world.bot.username.lower()


def open_link(world: World, user: User, link: str) -> Message:
    """Open t.me/<bot>?start=X and press START."""
    if not names_bot(world, link):
        raise Impossible(f"{link} does not lead to t.me/{world.bot.username}")
    payload = parse_qs(urlsplit(link).query).get("start", [""])[0]
    if payload and not PAYLOAD.fullmatch(payload):
        raise Impossible(f"a start payload is 1-64 of A-Z a-z 0-9 _ -, not {payload!r}")
    return write(world, user, world.chats[user.id], f"/start {payload}".strip())[0]


# -- coming and going


def set_blocked(world: World, user: User, *, blocked: bool) -> None:
    chat = world.chats[user.id]
    old, new = ("member", "kicked") if blocked else ("kicked", "member")
    chat.reach = Reach.BLOCKED if blocked else Reach.OPEN
    world.updates.add("my_chat_member", chat.id, _membership(world, chat, user, old=old, new=new))
    world.publish("users", chat.id, dict)


def _membership(world: World, chat: Chat, by: User, *, old: str, new: str) -> dict[str, Any]:
    return {
        "chat": chat.wire(),
        "from": by.wire(),
        "date": world.time(),
        "old_chat_member": _member(world, old),
        "new_chat_member": _member(world, new),
    }


def _member(world: World, status: str) -> dict[str, Any]:
    until = {"until_date": 0} if status == "kicked" else {}
    rights = dict.fromkeys(_ADMIN_RIGHTS, True) if status == "administrator" else {}
    return {"status": status, "user": world.bot.wire(), **until, **rights}


_ADMIN_RIGHTS = (
    "can_be_edited", "is_anonymous", "can_manage_chat", "can_delete_messages", "can_manage_video_chats",
    "can_restrict_members", "can_promote_members", "can_change_info", "can_invite_users", "can_post_stories",
    "can_edit_stories", "can_delete_stories",
)  # fmt: skip


def make_group(world: World, *, title: str, by: User, bot_is_admin: bool, is_forum: bool) -> Chat:
    """A supergroup to which its maker adds the bot."""
    chat_id = -1_000_000_000_001 - sum(1 for chat in world.chats.values() if not chat.is_private)
    chat = Chat(chat_id, ChatKind.SUPERGROUP, title, members={by.id, world.bot.id})
    chat.bot_is_admin, chat.is_forum = bot_is_admin, is_forum
    world.chats[chat_id] = chat
    new = "administrator" if bot_is_admin else "member"
    world.updates.add("my_chat_member", chat_id, _membership(world, chat, by, old="left", new=new))
    world.publish("users", chat_id, dict)
    return chat


def join(world: World, user: User, chat: Chat) -> None:
    if user.id in chat.members:
        return
    chat.members.add(user.id)
    joined = world.post(chat, user, Formatted(""), extra={"new_chat_members": [user.wire()]})
    world.updates.add("message", chat.id, joined.wire())


def kick_bot(world: World, by: User, chat: Chat) -> None:
    chat.members.discard(world.bot.id)
    chat.reach = Reach.KICKED
    world.updates.add("my_chat_member", chat.id, _membership(world, chat, by, old="member", new="kicked"))


def deactivate(world: World, user: User) -> None:
    world.chats[user.id].reach = Reach.DEACTIVATED


def stop_draft(world: World, chat: Chat) -> None:
    """Press Stop under a streamed draft."""
    world.drafts(chat)
    draft = next((draft for draft in chat.drafts.values() if draft.can_stop), None)
    if draft is None:
        raise Impossible("no draft with a Stop button is shown")
    if not draft.keep_on_stop:
        del chat.drafts[draft.id]
    thread = {"message_thread_id": draft.thread_id} if draft.thread_id is not None else {}
    news = {"chat": chat.wire(), "draft_id": draft.id, **thread}
    world.updates.add("stopped_message_generation", chat.id, news)
    world.publish("drafts", chat.id, lambda: world.drafts(chat))
