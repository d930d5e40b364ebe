"""An agent that says what a test tells it to, event by event, and the engine that "runs" it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, Request, Response, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Stream

from agent.protocol import (
    EVENT_STREAM,
    MAX_FILE_BYTES,
    Acknowledged,
    Attachment,
    ChatRequest,
    Epoch,
    Event,
    Final,
    Health,
    Letter,
    Mode,
    Outbox,
    Refusal,
    Role,
    to_json,
    to_sse,
)
from bot.machines.engine import Inspection, RunState, Spec
from bot.machines.provider import Place
from tests.fakes.libertai_serving import Serving

WAIT_SECONDS = 30


class AgentDouble:
    """Speaks the wire's side of agents. Every turn stays open until a test says its final event."""

    def __init__(self) -> None:
        self.spec: Spec | None = None
        self.asked: list[ChatRequest] = []
        self.letters: list[Letter] = []
        self._said: dict[str, list[Event]] = {}
        self._news = asyncio.Event()
        self._cuts = 0
        self.files: dict[tuple[str, str], bytes] = {}
        """Content by chat and id: what it was given, and what a test says that it made."""
        self.given: list[tuple[str, Attachment, Role]] = []
        """Every file that it was given, by chat."""
        self.refusals: list[tuple[int, Refusal]] = []
        """Status and body of the answers to the next files that it is given."""
        self.mode, self.epoch = Mode.STANDBY, 0
        files = [self._put_file(), self._get_file()]
        handlers = [self._health(), self._activate(), self._chat(), *files, self._tick(), self._ack()]
        self._serving = Serving(
            Litestar(handlers, openapi_config=None, logging_config=None, request_max_body_size=MAX_FILE_BYTES)
        )
        self.url = self._serving.url

    async def start(self) -> None:
        await self._serving.start()

    async def stop(self) -> None:
        self.cut()
        await self._serving.stop()

    def say(self, *events: Event) -> None:
        """In the newest turn; they are numbered here."""
        said = self._said[self.asked[-1].turn_id or ""]
        for event in events:
            said.append(event.model_copy(update={"seq": len(said) + 1}))
        self._tell()

    def cut(self) -> None:
        """End every stream in its middle."""
        self._cuts += 1
        self._tell()

    async def until_asked(self, times: int) -> ChatRequest:
        """Wait for that many requests for events, attaching again included; the last one."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.asked) < times:
                await self._news.wait()
        return self.asked[-1]

    async def until_acknowledged(self, up_to: int) -> None:
        """Wait until the letters up to this number are safe with the bot."""
        async with asyncio.timeout(WAIT_SECONDS):
            while any(letter.id <= up_to for letter in self.letters):
                await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _follow(self, request: ChatRequest) -> AsyncIterator[bytes]:
        said, seq, cuts = self._said[request.turn_id or ""], request.after, self._cuts
        while cuts == self._cuts:
            for event in said[seq:]:
                seq = event.seq
                yield to_sse(to_json(event))
                if isinstance(event, Final):
                    return
            if seq == len(said) and cuts == self._cuts:  # nothing came, and no cut, while the last one was sent
                await self._news.wait()

    def _health(self) -> Any:
        @get("/health")
        async def health() -> Health:
            assert self.spec is not None
            return Health(
                status="ok",
                agent_name=self.spec.name,
                release=self.spec.release,
                model=self.spec.model,
                mode=self.mode,
                epoch=self.epoch,
            )

        return health

    def _activate(self) -> Any:
        @post("/activate", status_code=204)
        async def activate(data: JSONBody[Epoch]) -> None:
            self.mode, self.epoch = Mode.ACTIVE, data.epoch

        return activate

    def _tick(self) -> Any:
        @post("/tick", status_code=200)
        async def tick() -> Outbox:
            return Outbox(letters=tuple(self.letters), next_due=None)

        return tick

    def _ack(self) -> Any:
        @post("/outbox/ack", status_code=204)
        async def ack(data: JSONBody[Acknowledged]) -> None:
            self.letters = [letter for letter in self.letters if letter.id > data.up_to]
            self._tell()

        return ack

    def _chat(self) -> Any:
        @post("/chat", status_code=200)
        async def chat(data: JSONBody[ChatRequest]) -> Stream:
            self.asked.append(data)
            self._said.setdefault(data.turn_id or "", [])
            self._tell()
            return Stream(self._follow(data), media_type=EVENT_STREAM)

        return chat

    def _put_file(self) -> Any:
        @put("/files/{chat_id:str}/{file_id:str}")
        async def put_file(
            request: Request[Any, Any, Any],
            chat_id: FromPath[str],
            file_id: FromPath[str],
            *,
            name: FromQuery[str],
            role: FromQuery[Role],
            media_type: FromQuery[str],
        ) -> Response[Attachment] | Response[Refusal]:
            content = b"".join([piece async for piece in request.stream()])
            if self.refusals:
                status, refusal = self.refusals.pop(0)
                return Response(refusal, status_code=status)
            path = f"inbox/{file_id}"
            kept = Attachment(id=file_id, name=name, media_type=media_type, size=len(content), path=path)
            self.given.append((chat_id, kept, role))
            self.files[chat_id, file_id] = content
            return Response(kept)

        return put_file

    def _get_file(self) -> Any:
        @get("/files/{chat_id:str}/{file_id:str}")
        async def get_file(chat_id: FromPath[str], file_id: FromPath[str]) -> Response[bytes] | Response[Refusal]:
            content = self.files.get((chat_id, file_id))
            if content is None:
                return Response(Refusal(kind="no_file", text="There is no such file."), status_code=404)
            return Response(content, media_type="application/octet-stream")

        return get_file


class AgentDoubleEngine:
    """An `Engine` on whose machines the double answers."""

    def __init__(self, agent: AgentDouble) -> None:
        self._agent = agent

    async def prepare(self, _place: Place) -> None:
        pass

    async def warm(self, _place: Place, _release: str) -> None:
        pass

    async def run(self, _place: Place, spec: Spec) -> str:
        self._agent.spec = spec
        return self._agent.url

    async def inspect(self, _place: Place) -> Inspection:
        spec = self._agent.spec
        if spec is None:
            return Inspection(RunState.ABSENT)
        return Inspection(RunState.RUNNING, spec.fingerprint(), self._agent.url)

    async def logs(self, _place: Place, _lines: int = 50) -> str:
        return ""

    async def remove(self, _place: Place) -> None:
        self._agent.spec = None

    async def wipe(self, _place: Place) -> None:
        self._agent.spec = None

    async def close(self) -> None:
        pass
