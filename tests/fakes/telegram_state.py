"""Everything that Telegram's servers remember: users, chats, messages, files, commands, queries, drafts."""

import asyncio
import re
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.fakes.telegram_entities import Formatted
from tests.fakes.telegram_pictures import dimensions
from tests.fakes.telegram_queue import UpdateQueue
from tests.fakes.telegram_refusals import Refused, bad_request, forbidden
from tests.fakes.telegram_views import (
    AnswerView,
    BotView,
    ChatView,
    DraftView,
    FileView,
    MenuView,
    MessageView,
    ReactionView,
    UserView,
)  # fmt: skip
from tests.fakes.telegram_wire import Command, InlineKeyboard, MenuButton

FIELDS_OF: dict[str, dict[str, int]] = {
    "document": {},
    "voice": {"duration": 1},
    "audio": {"duration": 1},
    "video": {"duration": 1, "width": 640, "height": 480},
    "animation": {"duration": 1, "width": 640, "height": 480},
    "video_note": {"duration": 1, "length": 240},
    "sticker": {},
}
"""What a file of each kind has beside its size and type."""
CONTENT = frozenset({"sticker", "media_group_id"})
"""Extra fields of what is no service message."""
NAMED = frozenset({"document", "audio", "video", "animation"})
DRAFT_LIFETIME = 30.0
TYPING_LIFETIME = 5.0
CALLBACK_LIFETIME = 60.0


class Clock:
    """Telegram's clock: the machine's, moved forward at will."""

    def __init__(self, start: float | None = None) -> None:
        self._ahead = 0.0 if start is None else start - time.time()

    def now(self) -> float:
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


class ChatKind(StrEnum):
    PRIVATE = "private"
    GROUP = "group"
    SUPERGROUP = "supergroup"


class Reach(StrEnum):
    """Whether the bot may write to a chat."""

    OPEN = "open"
    NEVER_SEEN = "never seen"
    BLOCKED = "blocked"
    KICKED = "kicked"
    DEACTIVATED = "deactivated"


@dataclass(slots=True)
class User:
    id: int
    first_name: str
    username: str = ""
    last_name: str = ""
    language_code: str = ""
    is_bot: bool = False

    def wire(self) -> dict[str, Any]:
        known = {"id": self.id, "is_bot": self.is_bot, "first_name": self.first_name}
        names = ("last_name", "username", "language_code")
        return known | {name: value for name in names if (value := getattr(self, name))}


@dataclass(slots=True, frozen=True)
class File:
    id: str
    kind: str
    name: str
    mime: str
    size: int
    content: bytes

    @property
    def path(self) -> str:
        ending = re.search(r"\.[A-Za-z0-9]{1,8}$", self.name)
        return f"{self.kind}s/{self.id}/file{ending[0] if ending else ''}"

    @property
    def unique_id(self) -> str:
        """The same for the same content, however often it is sent."""
        return f"AgAD{zlib.crc32(self.content):08x}{self.size:x}"

    def wire(self) -> dict[str, Any]:
        return {"file_id": self.id, "file_unique_id": self.unique_id, "file_size": self.size}

    def view(self) -> FileView:
        return FileView(kind=self.kind, file_id=self.id, name=self.name, mime=self.mime, size=self.size)


@dataclass(slots=True)
class Message:
    id: int
    chat: "Chat"
    sender: User
    date: int
    body: Formatted
    file: File | None = None
    markup: InlineKeyboard | None = None
    reply_to: "Message | None" = None
    thread_id: int | None = None
    rich: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields of service messages and stickers, as they go over the wire."""
    reactions: dict[int, str] = field(default_factory=dict)
    edits: int = 0
    edited: int = 0
    deleted: bool = False
    changed: int = 0

    def wire(self, *, with_reply: bool = True) -> dict[str, Any]:
        wire = {
            "message_id": self.id,
            "from": self.sender.wire(),
            "chat": self.chat.wire(),
            "date": self.date,
            **self._content(),
            **self.extra,
        }
        if self.edited:
            wire["edit_date"] = self.edited
        if self.markup:
            wire["reply_markup"] = self.markup.wire()
        if self.thread_id is not None:
            wire |= {"message_thread_id": self.thread_id, "is_topic_message": True}
        if with_reply and self.reply_to and not self.reply_to.deleted:
            wire["reply_to_message"] = self.reply_to.wire(with_reply=False)
        return wire

    def _content(self) -> dict[str, Any]:
        if self.rich is not None:
            return {"rich_message": self.rich}
        spans = [entity.wire() for entity in self.body.entities]
        if self.file is None:
            return {"text": self.body.text} | ({"entities": spans} if spans else {}) if self.body.text else {}
        caption = {"caption": self.body.text} if self.body.text else {}
        return _file_content(self.file) | caption | ({"caption_entities": spans} if spans else {})

    def view(self) -> MessageView:
        return MessageView.model_construct(
            id=self.id, chat_id=self.chat.id, user_id=self.sender.id, from_bot=self.sender.is_bot,
            name=self.sender.first_name, date=self.date, text=self.body.text,
            entities=[entity.wire() for entity in self.body.entities],
            buttons=[list(row) for row in self.markup.inline_keyboard] if self.markup else [],
            file=self.file.view() if self.file else None, rich=self.rich,
            reactions=[ReactionView(user_id=user, emoji=emoji) for user, emoji in self.reactions.items()],
            reply_to=self.reply_to.id if self.reply_to else None, thread_id=self.thread_id, edits=self.edits,
            deleted=self.deleted, service=next((key for key in self.extra if key not in CONTENT), ""),
            album=self.extra.get("media_group_id", ""),
            sticker=self.extra.get("sticker", {}).get("emoji", ""), changed=self.changed,
        )  # fmt: skip


def _file_content(file: File) -> dict[str, Any]:
    if file.kind == "photo":
        width, height = dimensions(file.content) or (640, 480)
        small = {"file_id": f"{file.id}s", "file_unique_id": f"{file.unique_id}s", "file_size": 1}
        large = {**file.wire(), "width": width, "height": height}
        # Telegram sends a smaller size only where there is one.
        sizes = [{**small, "width": 90, "height": max(1, 90 * height // width)}] if width > 90 else []
        return {"photo": [*sizes, large]}
    content = {**file.wire(), "mime_type": file.mime} | FIELDS_OF[file.kind]
    if file.kind in NAMED:
        content["file_name"] = file.name
    if file.kind == "video_note":
        del content["mime_type"]
    # An animation is also a document, for bots that do not know animations.
    also = {"document": {**file.wire(), "mime_type": file.mime, "file_name": file.name}}
    return {file.kind: content} | (also if file.kind == "animation" else {})


@dataclass(slots=True)
class Draft:
    id: int
    body: Formatted
    can_stop: bool
    keep_on_stop: bool
    thread_id: int | None
    expires: float

    def view(self) -> DraftView:
        return DraftView(
            draft_id=self.id,
            text=self.body.text,
            entities=[entity.wire() for entity in self.body.entities],
            can_stop=self.can_stop,
            expires=self.expires,
        )


@dataclass(slots=True)
class Chat:
    id: int
    kind: ChatKind
    title: str
    username: str = ""
    reach: Reach = Reach.OPEN
    members: set[int] = field(default_factory=set)
    bot_is_admin: bool = False
    is_forum: bool = False
    topics: dict[int, str] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)
    drafts: dict[int, Draft] = field(default_factory=dict)
    pinned: list[int] = field(default_factory=list)
    action: str = ""
    action_until: float = 0
    watchers: set[asyncio.Future[None]] = field(default_factory=set)

    @property
    def is_private(self) -> bool:
        return self.kind is ChatKind.PRIVATE

    def wire(self) -> dict[str, Any]:
        name = {"first_name": self.title} if self.is_private else {"title": self.title}
        forum = {"is_forum": True} if self.is_forum else {}
        return {"id": self.id, "type": self.kind.value, **name, **forum} | (
            {"username": self.username} if self.username else {}
        )


@dataclass(slots=True)
class Callback:
    id: str
    user: User
    message: Message
    data: str
    created: float
    answer: asyncio.Future[AnswerView]


@dataclass(slots=True)
class Profile:
    """What the set… methods changed, by language."""

    names: dict[str, str] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    short_descriptions: dict[str, str] = field(default_factory=dict)
    commands: dict[tuple[str, str], tuple[Command, ...]] = field(default_factory=dict)
    """By scope ("default", "chat:42", …) and language."""
    menu_buttons: dict[int | None, MenuButton] = field(default_factory=dict)
    """By private chat; None is everyone's."""


class World:
    """One bot's Telegram."""

    def __init__(self, *, token: str, username: str, name: str, clock: Clock) -> None:
        self.token = token
        self.clock = clock
        bot_id = int(token.partition(":")[0])
        self.bot = User(id=bot_id, first_name=name, username=username, is_bot=True)
        self.updates = UpdateQueue(clock.now)
        self.profile = Profile()
        self.users: dict[int, User] = {}
        self.chats: dict[int, Chat] = {}
        self.files: dict[str, File] = {}
        self.gone_files: set[str] = set()
        """Ids of files that Telegram no longer has; people still see them."""
        self.callbacks: dict[str, Callback] = {}
        self.publish: Callable[[str, int, Callable[[], Any]], None] = _nobody_listens
        """Tells the page: kind of news, chat, and how to make its content (called only if somebody listens)."""
        self._last_message = 0
        self._last_change = 0
        self._last_file = 0
        self._last_callback = 0

    def time(self) -> int:
        """Unix seconds, as the wire wants them."""
        return int(self.clock.now())

    # -- chats

    def chat(self, chat_id: str) -> Chat:
        """The chat a caller named, if the bot may write there."""
        chat = self.known_chat(chat_id)
        match chat.reach:
            case Reach.BLOCKED:
                raise forbidden("bot was blocked by the user")
            case Reach.KICKED:
                raise forbidden(f"bot was kicked from the {chat.kind.value} chat")
            case Reach.DEACTIVATED:
                raise forbidden("user is deactivated")
        return chat

    def known_chat(self, chat_id: str) -> Chat:
        """The chat a caller named."""
        if not chat_id:
            raise bad_request("chat_id is empty")
        try:
            chat = self.chats.get(int(chat_id))
        except ValueError:
            chat = None
        if chat is None or chat.reach is Reach.NEVER_SEEN:
            raise bad_request("chat not found")
        return chat

    def add_user(self, user: User, *, started: bool) -> Chat:
        """A person, with the private chat that the bot sees once they wrote."""
        self.users[user.id] = user
        chat = self.chats.get(user.id)
        if chat is None:
            chat = Chat(user.id, ChatKind.PRIVATE, user.first_name, user.username, members={user.id})
            chat.reach = Reach.OPEN if started else Reach.NEVER_SEEN
            self.chats[user.id] = chat
        return chat

    # -- messages

    def message(self, chat: Chat, message_id: int, *, missing: str) -> Message:
        message = chat.messages.get(message_id)
        if message is None or message.deleted:
            raise bad_request(missing)
        return message

    def post(self, chat: Chat, sender: User, body: Formatted, **content: Any) -> Message:
        """A new message, shown at once."""
        self._last_message += 1
        message = Message(self._last_message, chat, sender, self.time(), body, **content)
        chat.messages[message.id] = message
        if sender.is_bot:
            chat.action = ""
            self._drop_drafts(chat)
        self.show(message)
        return message

    def show(self, message: Message) -> None:
        """Something about a message changed: number the change and wake who waits for it."""
        message.changed = self.next_change()
        self.wake(message.chat)
        self.publish("message", message.chat.id, message.view)

    def next_change(self) -> int:
        self._last_change += 1
        return self._last_change

    @property
    def last_change(self) -> int:
        return self._last_change

    def wake(self, chat: Chat) -> None:
        for watcher in chat.watchers:
            if not watcher.done():
                watcher.set_result(None)
        chat.watchers.clear()

    async def changed(self, chat: Chat, timeout: float) -> bool:
        """Wait for the next change in a chat; False when none came in time."""
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        chat.watchers.add(watcher)
        done, _ = await asyncio.wait([watcher], timeout=timeout)
        chat.watchers.discard(watcher)
        return bool(done)

    # -- what passes by: typing and drafts

    def act(self, chat: Chat, action: str) -> None:
        chat.action, chat.action_until = action, self.clock.now() + TYPING_LIFETIME
        self.publish("action", chat.id, lambda: action)

    def draft(self, chat: Chat, draft: Draft) -> None:
        chat.drafts[draft.id] = draft
        self.wake(chat)
        self.publish("drafts", chat.id, lambda: self.drafts(chat))

    def drafts(self, chat: Chat) -> list[DraftView]:
        """Those that did not expire yet."""
        now = self.clock.now()
        chat.drafts = {key: draft for key, draft in chat.drafts.items() if draft.expires > now}
        return [draft.view() for draft in chat.drafts.values()]

    def _drop_drafts(self, chat: Chat) -> None:
        if chat.drafts:
            chat.drafts = {}
            self.publish("drafts", chat.id, list)

    # -- files and queries

    def keep_file(self, *, kind: str, name: str, mime: str, content: bytes, size: int | None = None) -> File:
        self._last_file += 1
        file = File(f"F{self._last_file:06}", kind, name, mime, len(content) if size is None else size, content)
        self.files[file.id] = file
        return file

    def ask(self, user: User, message: Message, data: str) -> Callback:
        """A pressed button's query, waiting for its one answer."""
        self._last_callback += 1
        answer: asyncio.Future[AnswerView] = asyncio.get_running_loop().create_future()
        callback = Callback(str(4_000_000 + self._last_callback), user, message, data, self.clock.now(), answer)
        self.callbacks[callback.id] = callback
        return callback

    # -- views

    def chat_view(self, chat: Chat, user: User | None = None) -> ChatView:
        return ChatView(
            id=chat.id,
            kind=chat.kind.value,
            title=chat.title if not chat.is_private else self.bot.first_name,
            started=chat.reach is Reach.OPEN,
            action=chat.action if chat.action_until > self.clock.now() else "",
            drafts=self.drafts(chat),
            menu=self.menu(chat, user or self.users.get(chat.id)),
            pinned=chat.pinned,
            messages=[message.view() for message in chat.messages.values()],
        )

    def menu(self, chat: Chat, user: User | None) -> MenuView:
        button = self.profile.menu_buttons.get(chat.id) or self.profile.menu_buttons.get(None)
        url = button.web_app.url if button and button.web_app else ""
        return MenuView(commands=list(self.commands_for(chat, user)), web_app=url)

    def commands_for(self, chat: Chat, user: User | None) -> tuple[Command, ...]:
        """The narrowest scope that has commands wins, in the user's language before any."""
        language = user.language_code if user else ""
        for scope in _scopes(chat, user):
            for spoken in dict.fromkeys((language, "")):
                if found := self.profile.commands.get((scope, spoken)):
                    return found
        return ()

    def user_view(self, user: User) -> UserView:
        reach = self.chats[user.id].reach
        return UserView(
            id=user.id,
            first_name=user.first_name,
            last_name=user.last_name,
            username=user.username,
            language_code=user.language_code,
            started=reach is not Reach.NEVER_SEEN,
            blocked=reach is Reach.BLOCKED,
        )

    def bot_view(self) -> BotView:
        return BotView(
            id=self.bot.id,
            username=self.bot.username,
            name=self.profile.names.get("", self.bot.first_name),
            description=self.profile.descriptions.get("", ""),
            short_description=self.profile.short_descriptions.get("", ""),
        )

    def close(self) -> None:
        """End every wait: the server stops."""
        self.updates.end_poll()
        for chat in self.chats.values():
            self.wake(chat)
        for callback in self.callbacks.values():
            callback.answer.cancel()


def _nobody_listens(_kind: str, _chat_id: int, _content: Callable[[], Any]) -> None:
    return


def _scopes(chat: Chat, user: User | None) -> Iterable[str]:
    if chat.is_private:
        return (f"chat:{chat.id}", "all_private_chats", "default")
    member = (f"chat_member:{chat.id}:{user.id}",) if user else ()
    return (*member, f"chat:{chat.id}", "all_group_chats", "default")


def require(condition: object, refusal: Refused) -> None:
    """Guard of a method: refuse unless the condition holds."""
    if not condition:
        raise refusal
