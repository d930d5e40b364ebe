"""The Telegram double for tests: start one in-process, or drive one that runs elsewhere, as people would."""

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import TypeAdapter

from tests.fakes.telegram import TOKEN, USERNAME, LoopbackServer, Server
from tests.fakes.telegram_state import Clock
from tests.fakes.telegram_views import (
    AnswerView,
    BotView,
    CallView,
    ChatView,
    Fault,
    FaultKind,
    Feature,
    MessageView,
    PressKind,
    PressView,
    UserView,
    WaitView,
)  # fmt: skip
from tests.fakes.telegram_wire import Command

MESSAGES = TypeAdapter(list[MessageView])
CALLS = TypeAdapter(list[CallView])
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Reading the certificates of all authorities takes as long as a test, and nobody here speaks TLS."""
MARGIN = 5.0
"""Seconds that an HTTP request may take longer than what it waits for."""


class NothingCame(AssertionError):
    """What a test waited for did not come; the text shows the chat so far and the last refused requests."""


class CannotDo(AssertionError):
    """The double says that a person cannot do this: no such button, message or chat."""


class TelegramSim:
    """A client of the /sim API of a double at `url`."""

    def __init__(self, url: str, *, token: str = TOKEN) -> None:
        self.url = url
        self.token = token
        self._http = httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, verify=_NO_TLS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def ask(self, verb: str, path: str, **request: Any) -> Any:
        """One call of the control API: its JSON."""
        answer = await self._http.request(verb, f"/sim{path}", **request)
        if answer.is_error:
            raise CannotDo(f"{verb} /sim{path}: {answer.json().get('detail', answer.text)}")
        return answer.json()

    # -- people and groups

    async def user(
        self,
        id: int | None = None,  # noqa: A002 - the field's word
        name: str = "Victor",
        *,
        username: str = "",
        language: str = "en",
        started: bool = True,
    ) -> "SimUser":
        """A new person. Not `started`: the bot cannot write to them before they wrote to it."""
        body = {"id": id, "first_name": name, "username": username, "language_code": language, "started": started}
        view = UserView.model_validate(await self.ask("POST", "/users", json=body))
        return SimUser(self, view.id, view.first_name)

    async def group(
        self, title: str, *, by: "SimUser", members: Iterable["SimUser"] = (), admin: bool = False, forum: bool = False
    ) -> int:
        """A supergroup with the bot in it: its chat id, for `user.send(..., chat=…)`."""
        body = {"title": title, "by": by.id, "bot_is_admin": admin, "is_forum": forum}
        chat = ChatView.model_validate(await self.ask("POST", "/groups", json=body))
        for member in members:
            await self.ask("POST", f"/groups/{chat.id}/join", json={"user_id": member.id})
        return chat.id

    async def kick_bot(self, group: int, *, by: "SimUser") -> None:
        await self.ask("POST", f"/groups/{group}/kick", json={"user_id": by.id})

    async def chat(self, chat_id: int) -> ChatView:
        return ChatView.model_validate(await self.ask("GET", f"/chats/{chat_id}"))

    async def bot(self) -> BotView:
        return BotView.model_validate(await self.ask("GET", "/bot"))

    async def call(self, method: str, **parameters: Any) -> Any:
        """Call the Bot API by hand, as the bot: the whole JSON answer, refusals too."""
        answer = await self._http.post(f"/bot{self.token}/{method}", json=parameters, timeout=60)
        return answer.json()

    # -- what the bot asked

    async def outbox(self, method: str = "", *, chat: int | None = None, after: int = 0) -> list[CallView]:
        """Every request so far, oldest first; `after` is the number of the last one already seen."""
        query = {"method": method, "chat_id": "" if chat is None else str(chat), "after": after}
        return CALLS.validate_python(await self.ask("GET", "/outbox", params=query))

    async def refusals(self) -> list[CallView]:
        """The requests that were refused: a good test ends with none."""
        return CALLS.validate_python(await self.ask("GET", "/outbox", params={"refused": True}))

    # -- what may go wrong

    async def fault(
        self,
        kind: FaultKind,
        method: str = "",
        *,
        chat: int | None = None,
        times: int = 1,
        retry_after: int = 1,
        seconds: float = 60,
    ) -> None:
        """The next `times` calls of this method in this chat fail so; leave either out to mean any."""
        chat_id = "" if chat is None else str(chat)
        fault = Fault(kind=kind, method=method, chat_id=chat_id, times=times, retry_after=retry_after, seconds=seconds)
        await self.ask("POST", "/faults", json=fault.model_dump(mode="json"))

    async def clear_faults(self) -> None:
        await self.ask("DELETE", "/faults")

    async def switch_off(self, feature: Feature, *, status: int = 404) -> None:
        """This server does not have the feature: its methods answer 404 or 501."""
        await self.ask("POST", "/switch", json={"feature": feature, "status": status})

    async def switch_on(self, feature: Feature) -> None:
        await self.ask("POST", "/switch", json={"feature": feature, "status": None})

    async def lose_file(self, file_id: str) -> None:
        """Telegram no longer has it: the bot cannot fetch it."""
        await self.ask("DELETE", f"/files/{file_id}")

    async def content(self, file_id: str) -> bytes:
        """What a person gets who saves the file."""
        return (await self._http.get(f"/sim/files/{file_id}")).raise_for_status().content

    async def strict_rate(self, *, on: bool = True) -> None:
        await self.ask("POST", "/rate", json={"strict": on})

    async def pass_time(self, seconds: float) -> None:
        """Move the double's clock: drafts (30 s), queries (60 s) and updates (24 h) expire."""
        await self.ask("POST", "/clock", json={"seconds": seconds})


class TelegramDouble(TelegramSim):
    """A double in this process, on a free port: `async with TelegramDouble() as telegram: … telegram.url`."""

    def __init__(
        self,
        *,
        token: str = TOKEN,
        username: str = USERNAME,
        strict_rate: bool = False,
        clock: Clock | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.server = Server(token=token, username=username, clock=clock)
        self.server.api.limits.strict = strict_rate
        self.username = username
        self._token = token
        self._host = host

    async def __aenter__(self) -> Self:
        server = LoopbackServer(self.server, host=self._host)
        self._uvicorn = server
        self._serving = asyncio.create_task(server.serve_quietly())
        first: list[asyncio.Future[Any]] = [server.ready, self._serving]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        super().__init__(server.ready.result(), token=self._token)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        self._uvicorn.leave()
        await self._serving


@dataclass(slots=True, frozen=True)
class Press:
    """A button that was tapped."""

    sim: TelegramSim
    view: PressView

    @property
    def message_id(self) -> int:
        return self.view.message.id

    @property
    def copied(self) -> str:
        """What a copy button put on the clipboard."""
        assert self.view.kind is PressKind.COPY, f"this button does not copy, it is a {self.view.kind} button"
        return self.view.value

    async def answer(self, timeout: float = 30) -> AnswerView:
        """What answerCallbackQuery said, once it came."""
        assert self.view.kind is PressKind.CALLBACK, f"only callback buttons are answered, this is a {self.view.kind}"
        path = f"/callbacks/{self.view.value}"
        found = await self.sim.ask("GET", path, params={"timeout": timeout}, timeout=timeout + MARGIN)
        if found is None:
            raise NothingCame(f"the bot did not answer the press within {timeout} s\n{await _state(self)}")
        return AnswerView.model_validate(found)


async def _state(press: Press) -> str:
    return await transcript(press.sim, press.view.message.chat_id)


@dataclass(slots=True)
class SimUser:
    """A person at their Telegram client. Waiting looks at what changed since their last own action."""

    sim: TelegramSim
    id: int
    name: str
    _seen: dict[int, int] = field(default_factory=dict)

    async def send(self, text: str, *, chat: int | None = None, reply_to: int | None = None) -> MessageView:
        """Write; the last piece of a text too long for one message."""
        body = {"text": text, "chat_id": chat, "reply_to": reply_to}
        sent = MESSAGES.validate_python(await self.sim.ask("POST", f"/users/{self.id}/send", json=body))
        return self._did(sent[-1])

    async def sticker(self, emoji: str = "👍", *, chat: int | None = None) -> MessageView:
        return await self._do("sticker", emoji=emoji, chat_id=chat)

    async def upload(
        self,
        name: str,
        content: bytes,
        *,
        mime: str = "application/octet-stream",
        caption: str = "",
        kind: str = "document",
        size: int | None = None,
        chat: int | None = None,
    ) -> MessageView:
        """Send a document, photo, voice, audio, video, …; `size` claims more bytes than it has."""
        query = {"kind": kind, "caption": caption, "size": size, "chat_id": chat}
        params = {key: value for key, value in query.items() if value is not None}
        files = {"file": (name, content, mime)}
        sent = await self.sim.ask("POST", f"/users/{self.id}/file", params=params, files=files)
        return self._did(MessageView.model_validate(sent))

    async def album(
        self, *files: tuple[str, bytes, str], caption: str = "", chat: int | None = None
    ) -> list[MessageView]:
        """Send 2 to 10 files (name, content, media type) as one."""
        query = {"caption": caption, "chat_id": chat}
        params = {key: value for key, value in query.items() if value is not None}
        parts = [("file", file) for file in files]
        sent = await self.sim.ask("POST", f"/users/{self.id}/album", params=params, files=parts)
        messages = MESSAGES.validate_python(sent)
        self._did(messages[-1])
        return messages

    async def edit(self, message_id: int, text: str, *, chat: int | None = None) -> MessageView:
        return await self._do("edit", message_id=message_id, text=text, chat_id=chat)

    async def react(self, message_id: int, emoji: str, *, chat: int | None = None) -> MessageView:
        return await self._do("react", message_id=message_id, emoji=emoji, chat_id=chat)

    async def open(self, link: str) -> MessageView:
        """Follow t.me/<bot>?start=… and press START."""
        return await self._do("open", link=link)

    async def press(self, button: str, *, message_id: int | None = None, chat: int | None = None) -> Press:
        """Tap the newest button with (or containing) these words or this callback data."""
        body = {"button": button, "message_id": message_id, "chat_id": chat}
        try:
            pressed = await self.sim.ask("POST", f"/users/{self.id}/press", json=body)
        except CannotDo as error:
            raise CannotDo(f"{error}\n{await transcript(self.sim, chat or self.id)}") from None
        view = PressView.model_validate(pressed)
        self._seen[view.message.chat_id] = view.at
        return Press(self.sim, view)

    async def block(self, *, blocked: bool = True) -> None:
        await self.sim.ask("POST", f"/users/{self.id}/block", json={"blocked": blocked})

    async def deactivate(self) -> None:
        await self.sim.ask("POST", f"/users/{self.id}/deactivate")

    async def stop_draft(self) -> None:
        await self.sim.ask("POST", f"/users/{self.id}/stop_draft")

    async def wait_for(
        self,
        text: str = "",
        *,
        button: str = "",
        timeout: float = 30,
        chat: int | None = None,
        message_id: int = 0,
        anywhere: bool = False,
    ) -> MessageView:
        """The bot's newest message whose present text contains `text` (and that has `button`).

        It must have come or changed since this person's last action; `anywhere` takes older ones too.
        """
        chat_id = chat or self.id
        after = 0 if anywhere else self._seen.get(chat_id, 0)
        query = {"contains": text, "button": button, "after": after, "message_id": message_id, "timeout": timeout}
        path = f"/chats/{chat_id}/wait"
        found = WaitView.model_validate(await self.sim.ask("GET", path, params=query, timeout=timeout + MARGIN))
        if found.message is None:
            wanted = f"{text!r}" + (f" with button {button!r}" if button else "")
            raise NothingCame(f"no {wanted} for {self.name} in {timeout} s\n{await transcript(self.sim, chat_id)}")
        return found.message

    async def wait_whole(self, *, timeout: float = 30) -> MessageView:
        """The bot's newest message once it is not being written any more: an answer that grows has a Stop button."""
        async with asyncio.timeout(timeout):
            message = await self.wait_for(timeout=timeout)
            while any("Stop" in button.text for row in message.buttons for button in row):
                self._seen[message.chat_id] = message.changed
                message = await self.wait_for(timeout=timeout)
        return message

    async def messages(self, *, chat: int | None = None) -> list[MessageView]:
        """What the chat shows: deleted messages are gone."""
        view = await self.sim.chat(chat or self.id)
        return [message for message in view.messages if not message.deleted]

    async def chat(self) -> ChatView:
        """The private chat with all it has, deleted messages and drafts included."""
        return await self.sim.chat(self.id)

    async def commands(self, *, chat: int | None = None) -> list[Command]:
        """The command menu as this person sees it."""
        menu = await self.sim.ask("GET", f"/chats/{chat or self.id}/menu", params={"user_id": self.id})
        return [Command.model_validate(command) for command in menu["commands"]]

    async def transcript(self, *, chat: int | None = None) -> str:
        return await transcript(self.sim, chat or self.id)

    async def _do(self, action: str, **body: Any) -> MessageView:
        done = await self.sim.ask("POST", f"/users/{self.id}/{action}", json=body)
        return self._did(MessageView.model_validate(done))

    def _did(self, message: MessageView) -> MessageView:
        self._seen[message.chat_id] = message.changed
        return message


async def transcript(sim: TelegramSim, chat_id: int) -> str:
    """The chat as lines of text, then the last refused requests."""
    chat = await sim.chat(chat_id)
    lines = [f"--- chat {chat_id} so far:", *map(_line, chat.messages)]
    refused = [f"--- refused: {call.method} {call.status} {call.description}" for call in await sim.refusals()]
    return "\n".join([*lines, *refused[-5:]])


def _line(message: MessageView) -> str:
    notes = ["deleted"] if message.deleted else []
    notes += [f"edited {message.edits}x"] if message.edits else []
    notes += [reaction.emoji for reaction in message.reactions]
    notes += [f"file {message.file.name}"] if message.file else []
    notes += [message.service] if message.service else []
    buttons = " / ".join(" ".join(f"[{button.text}]" for button in row) for row in message.buttons)
    noted = f" ({', '.join(notes)})" if notes else ""
    return f"#{message.id} {message.name}{noted}: {message.text}" + (f"\n      {buttons}" if buttons else "")
