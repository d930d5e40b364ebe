"""The /sim API: people write, press and leave; tests look, wait and break things."""

import asyncio
from pathlib import Path
from typing import Any

from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import UploadFile
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Stream

from tests.fakes import telegram_people as people
from tests.fakes.telegram_http import BotApi
from tests.fakes.telegram_hub import Hub, plain
from tests.fakes.telegram_state import FIELDS_OF, Chat, Message, User, World
from tests.fakes.telegram_views import (
    AnswerView,
    BotView,
    ChatView,
    Fault,
    Feature,
    MenuView,
    MessageView,
    PressView,
    UserView,
    WaitView,
)  # fmt: skip
from tests.fakes.telegram_wire import Strict, Upload

PAGE = Path(__file__).with_name("telegram_page.html")
FIRST_USER = 1001


class NewUser(Strict):
    """A person. Not started: the bot cannot write to them before they write to it."""

    id: int | None = None
    first_name: str = "Victor"
    last_name: str = ""
    username: str = ""
    language_code: str = "en"
    started: bool = True


class Words(Strict):
    """What a person types; no chat_id is their private chat."""

    text: str
    chat_id: int | None = None
    reply_to: int | None = None


class Sticker(Strict):
    emoji: str = "👍"
    chat_id: int | None = None


class Tap(Strict):
    """On a button: by its words or callback data, in one message or the newest that has it."""

    button: str
    message_id: int | None = None
    chat_id: int | None = None


class OpenedLink(Strict):
    link: str


class Block(Strict):
    blocked: bool = True


class Edited(Strict):
    message_id: int
    text: str
    chat_id: int | None = None


class Reacted(Strict):
    message_id: int
    emoji: str = ""
    chat_id: int | None = None


class NewGroup(Strict):
    title: str
    by: int
    bot_is_admin: bool = False
    is_forum: bool = False


class Who(Strict):
    user_id: int


class Switch(Strict):
    """status 404 or 501 takes the feature away; null brings it back."""

    feature: Feature
    status: int | None = 404


class RateMode(Strict):
    strict: bool


class Later(Strict):
    seconds: float


class Done(Strict):
    ok: bool = True


def _chat(world: World, user: User, chat_id: int | None) -> Chat:
    return people.chat_of(world, chat_id or user.id)


class People(Controller):
    """What one person does."""

    path = "/sim/users"

    @get("/")
    async def users(self, world: NamedDependency[World]) -> list[UserView]:
        return [world.user_view(user) for user in world.users.values()]

    @post("/")
    async def create(self, data: JSONBody[NewUser], world: NamedDependency[World]) -> UserView:
        user_id = data.id or max([*world.users, FIRST_USER - 1]) + 1
        user = User(user_id, data.first_name, data.username, data.last_name, data.language_code)
        return world.user_view(people.make_user(world, user, started=data.started))

    @post("/{user_id:int}/send")
    async def send(
        self, user_id: FromPath[int], data: JSONBody[Words], world: NamedDependency[World]
    ) -> list[MessageView]:
        user = people.person(world, user_id)
        chat = _chat(world, user, data.chat_id)
        return [message.view() for message in people.write(world, user, chat, data.text, reply_to=data.reply_to)]

    @post("/{user_id:int}/sticker")
    async def sticker(
        self, user_id: FromPath[int], data: JSONBody[Sticker], world: NamedDependency[World]
    ) -> MessageView:
        user = people.person(world, user_id)
        return people.send_sticker(world, user, _chat(world, user, data.chat_id), data.emoji).view()

    @post("/{user_id:int}/file")
    async def file(
        self,
        user_id: FromPath[int],
        request: Request[Any, Any, Any],
        world: NamedDependency[World],
        *,
        kind: FromQuery[str] = "document",
        caption: FromQuery[str] = "",
        chat_id: FromQuery[int | None] = None,
        size: FromQuery[int | None] = None,
    ) -> MessageView:
        """A multipart upload named "file"; `size` claims more bytes than were sent."""
        user = people.person(world, user_id)
        upload = await _upload(request)
        if kind not in {"photo", *FIELDS_OF}:
            raise people.Impossible(f"people cannot send a {kind!r}")
        kept = world.keep_file(kind=kind, name=upload.name, mime=upload.mime, content=upload.content, size=size)
        return people.send_file(world, user, _chat(world, user, chat_id), kept, caption).view()

    @post("/{user_id:int}/album")
    async def album(
        self,
        user_id: FromPath[int],
        request: Request[Any, Any, Any],
        world: NamedDependency[World],
        *,
        caption: FromQuery[str] = "",
        chat_id: FromQuery[int | None] = None,
    ) -> list[MessageView]:
        """A multipart upload whose parts are the files: pictures go as photos, everything else as documents."""
        user = people.person(world, user_id)
        uploads = [
            await _read(part) for _, part in (await request.form()).multi_items() if isinstance(part, UploadFile)
        ]
        kept = [
            world.keep_file(kind=_kind(upload), name=upload.name, mime=upload.mime, content=upload.content)
            for upload in uploads
        ]
        sent = people.send_album(world, user, _chat(world, user, chat_id), kept, caption)
        return [message.view() for message in sent]

    @post("/{user_id:int}/press")
    async def press(self, user_id: FromPath[int], data: JSONBody[Tap], world: NamedDependency[World]) -> PressView:
        user = people.person(world, user_id)
        message, button = people.find_button(_chat(world, user, data.chat_id), data.button, data.message_id)
        return people.press(world, user, message, button)

    @post("/{user_id:int}/open")
    async def open(
        self, user_id: FromPath[int], data: JSONBody[OpenedLink], world: NamedDependency[World]
    ) -> MessageView:
        return people.open_link(world, people.person(world, user_id), data.link).view()

    @post("/{user_id:int}/edit")
    async def edit(self, user_id: FromPath[int], data: JSONBody[Edited], world: NamedDependency[World]) -> MessageView:
        user = people.person(world, user_id)
        return people.edit(world, user, _chat(world, user, data.chat_id), data.message_id, data.text).view()

    @post("/{user_id:int}/react")
    async def react(
        self, user_id: FromPath[int], data: JSONBody[Reacted], world: NamedDependency[World]
    ) -> MessageView:
        user = people.person(world, user_id)
        return people.react(world, user, _chat(world, user, data.chat_id), data.message_id, data.emoji).view()

    @post("/{user_id:int}/block")
    async def block(self, user_id: FromPath[int], data: JSONBody[Block], world: NamedDependency[World]) -> UserView:
        user = people.person(world, user_id)
        people.set_blocked(world, user, blocked=data.blocked)
        return world.user_view(user)

    @post("/{user_id:int}/deactivate")
    async def deactivate(self, user_id: FromPath[int], world: NamedDependency[World]) -> UserView:
        user = people.person(world, user_id)
        people.deactivate(world, user)
        return world.user_view(user)

    @post("/{user_id:int}/stop_draft")
    async def stop_draft(self, user_id: FromPath[int], world: NamedDependency[World]) -> Done:
        people.stop_draft(world, people.chat_of(world, people.person(world, user_id).id))
        return Done()


async def _upload(request: Request[Any, Any, Any]) -> Upload:
    sent = (await request.form()).get("file")
    if not isinstance(sent, UploadFile):
        raise people.Impossible('send the file as a multipart part named "file"')
    return await _read(sent)


async def _read(sent: UploadFile) -> Upload:
    return Upload(sent.filename, sent.content_type, await sent.read())


def _kind(upload: Upload) -> str:
    return "photo" if upload.mime.startswith("image/") else "document"


class Groups(Controller):
    path = "/sim/groups"

    @post("/")
    async def create(self, data: JSONBody[NewGroup], world: NamedDependency[World]) -> ChatView:
        by = people.person(world, data.by)
        group = people.make_group(
            world, title=data.title, by=by, bot_is_admin=data.bot_is_admin, is_forum=data.is_forum
        )
        return world.chat_view(group)

    @post("/{chat_id:int}/join")
    async def join(self, chat_id: FromPath[int], data: JSONBody[Who], world: NamedDependency[World]) -> ChatView:
        chat = people.chat_of(world, chat_id)
        people.join(world, people.person(world, data.user_id), chat)
        return world.chat_view(chat)

    @post("/{chat_id:int}/kick")
    async def kick(self, chat_id: FromPath[int], data: JSONBody[Who], world: NamedDependency[World]) -> ChatView:
        chat = people.chat_of(world, chat_id)
        people.kick_bot(world, people.person(world, data.user_id), chat)
        return world.chat_view(chat)


class Chats(Controller):
    """What stands in a chat now."""

    path = "/sim/chats"

    @get("/")
    async def chats(self, world: NamedDependency[World]) -> list[ChatView]:
        return [world.chat_view(chat).model_copy(update={"messages": []}) for chat in world.chats.values()]

    @get("/{chat_id:int}")
    async def chat(self, chat_id: FromPath[int], world: NamedDependency[World]) -> ChatView:
        return world.chat_view(people.chat_of(world, chat_id))

    @get("/{chat_id:int}/menu")
    async def menu(self, chat_id: FromPath[int], user_id: FromQuery[int], world: NamedDependency[World]) -> MenuView:
        return world.menu(people.chat_of(world, chat_id), people.person(world, user_id))

    @get("/{chat_id:int}/wait")
    async def wait(
        self,
        chat_id: FromPath[int],
        world: NamedDependency[World],
        *,
        contains: FromQuery[str] = "",
        button: FromQuery[str] = "",
        after: FromQuery[int] = 0,
        message_id: FromQuery[int] = 0,
        timeout: FromQuery[float] = 30.0,
    ) -> WaitView:
        """The newest message of the bot, changed after `after`, whose present text and buttons fit; or null."""
        chat = people.chat_of(world, chat_id)
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            found = _matching(chat, contains=contains, button=button, after=after, message_id=message_id)
            left = deadline - asyncio.get_running_loop().time()
            if found or left <= 0:
                return WaitView(message=found.view() if found else None)
            await world.changed(chat, left)


def _matching(chat: Chat, *, contains: str, button: str, after: int, message_id: int) -> Message | None:
    for message in reversed(chat.messages.values()):
        named = message_id in {0, message.id}
        if named and message.changed > after and message.sender.is_bot and not message.deleted:
            shows = not button or any(button in shown.text for row in _rows(message) for shown in row)
            if shows and contains in message.body.text:
                return message
    return None


def _rows(message: Message) -> Any:
    return message.markup.inline_keyboard if message.markup else ()


class Workshop(Controller):
    """The bot's requests, and what may go wrong with them."""

    path = "/sim"

    @get("/bot")
    async def bot(self, world: NamedDependency[World]) -> BotView:
        return world.bot_view()

    @get("/callbacks/{callback_id:str}")
    async def callback(
        self, callback_id: FromPath[str], world: NamedDependency[World], timeout: FromQuery[float] = 30.0
    ) -> AnswerView | None:
        """The answer to a press, once it comes; null when none came in time."""
        if callback_id not in world.callbacks:
            raise people.Impossible(f"there is no callback query {callback_id}")
        answer = world.callbacks[callback_id].answer
        done, _ = await asyncio.wait([answer], timeout=timeout)
        return answer.result() if done and not answer.cancelled() else None

    @get("/outbox")
    async def outbox(
        self,
        api: NamedDependency[BotApi],
        *,
        method: FromQuery[str] = "",
        chat_id: FromQuery[str] = "",
        after: FromQuery[int] = 0,
        refused: FromQuery[bool] = False,
        newest: FromQuery[int] = 0,
    ) -> list[Any]:
        calls = api.outbox.calls(method=method, chat_id=chat_id, after=after, refused=refused)
        return [plain(call) for call in calls[-newest:]]

    @get("/faults")
    async def faults(self, api: NamedDependency[BotApi]) -> list[Fault]:
        return api.faults.listed()

    @post("/faults")
    async def add_fault(self, data: JSONBody[Fault], api: NamedDependency[BotApi]) -> Fault:
        api.faults.add(data)
        return data

    @delete("/faults", status_code=200)
    async def clear_faults(self, api: NamedDependency[BotApi]) -> Done:
        api.faults.clear()
        return Done()

    @post("/switch")
    async def switch(self, data: JSONBody[Switch], api: NamedDependency[BotApi]) -> Switch:
        api.switches.switch(data.feature, data.status)
        return data

    @post("/rate")
    async def rate(self, data: JSONBody[RateMode], api: NamedDependency[BotApi]) -> RateMode:
        api.limits.strict = data.strict
        return data

    @post("/clock")
    async def clock(self, data: JSONBody[Later], world: NamedDependency[World]) -> Later:
        """Let time pass: drafts, queries and updates expire."""
        world.clock.advance(data.seconds)
        return data

    @get("/files/{file_id:str}")
    async def file(self, file_id: FromPath[str], world: NamedDependency[World]) -> Response[bytes]:
        if file_id not in world.files:
            raise people.Impossible(f"there is no file {file_id}")
        file = world.files[file_id]
        # Never shown as a page of this origin: an uploaded HTML file is only ever downloaded.
        safe = {"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"}
        return Response(file.content, media_type=file.mime, headers=safe)

    @delete("/files/{file_id:str}", status_code=200)
    async def lose_file(self, file_id: FromPath[str], world: NamedDependency[World]) -> Done:
        """Telegram no longer has it."""
        people.lose_file(world, file_id)
        return Done()

    @get("/events")
    async def events(self, hub: NamedDependency[Hub]) -> Stream:
        return Stream(hub.listen(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


@get("/", media_type=MediaType.HTML)
async def page() -> str:
    """The chat page."""
    return await asyncio.to_thread(PAGE.read_text, encoding="utf-8")


def explain_impossible(_request: Request[Any, Any, Any], error: people.Impossible) -> Response[dict[str, str]]:
    return Response({"detail": str(error)}, status_code=409)
