"""The HTTP side of light agents, one request at a time: the real agent's door and words around what they do."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from litestar.types import Receive, Scope, Send
from pydantic import BaseModel, SecretStr

from agent import refusals
from agent.auth import Door, Key
from agent.errors import Refused
from agent.protocol import (
    EVENT_STREAM,
    ChatReply,
    ChatRequest,
    Config,
    Epoch,
    Mode,
    Refusal,
    Text,
    from_json,
    to_sse,
)
from tests.chaos.light_agent import LightAgent
from tests.chaos.light_disk import Faults

PIECE = 512

type Answer = tuple[int, BaseModel | dict[str, bool] | None]


@dataclass
class Call:
    """A request to an agent, and how to answer it."""

    agent: LightAgent
    faults: Faults
    scope: Any
    receive: Receive
    send: Send
    abort: Callable[[], None]

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(self.scope["query_string"].decode()).items()}

    def header(self, name: bytes) -> str:
        return next((value.decode() for field, value in self.scope["headers"] if field == name), "")

    async def pieces(self) -> Any:
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            yield message.get("body", b"")
            if not message.get("more_body"):
                return
            if self.faults.hangs_up:
                self.abort()

    async def read[T: BaseModel](self, model: type[T]) -> T:
        return model.model_validate_json(b"".join([piece async for piece in self.pieces()]))

    async def answer(self, status: int, body: Any = None) -> None:
        content = b"" if body is None else body.model_dump_json().encode() if isinstance(body, BaseModel) else None
        content = json.dumps(body).encode() if content is None else content
        await self.begin(status, "application/json")
        await self.send({"type": "http.response.body", "body": content, "more_body": False})

    async def begin(self, status: int, media_type: str) -> None:
        headers = [(b"content-type", media_type.encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, content: bytes, *, more: bool = True) -> None:
        await self.send({"type": "http.response.body", "body": content, "more_body": more})


async def serve(agent: LightAgent, faults: Faults, scope: Any, receive: Receive, send: Send) -> None:
    """Answer one request, whose path is the agent's own."""
    cycle: Any = send

    def abort() -> None:
        cycle.__self__.transport.abort()

    async def rooms(scope: Scope, receive: Receive, send: Send) -> None:
        await _dispatch(Call(agent, faults, scope, receive, send, abort))

    await Door(rooms, Key(SecretStr(agent.environment["AGENT_SECRET"])))(scope, receive, send)


async def _dispatch(call: Call) -> None:
    method, path = call.scope["method"], call.scope["path"]
    try:
        await _enter(call, method, path)
    except Refused as refused:
        refusal = Refusal(kind=refused.kind, text=refused.text)
        await call.answer(refused.status, refusals.body(path, refused.status, refusal))


async def _enter(call: Call, method: str, path: str) -> None:
    for room, pattern in ROOMS:
        if found := re.fullmatch(pattern, f"{method} {path}"):
            _require_writable(call.agent, method, path)
            await room(call, *map(unquote, found.groups()))
            return
    raise Refused(404, "not_found", "Not Found")


def _require_writable(agent: LightAgent, method: str, path: str) -> None:
    from agent.app import _WHEN_SEALED, _WHEN_STANDBY  # noqa: PLC0415  loads all of the real agent

    may = _WHEN_STANDBY if agent.standing.mode is Mode.STANDBY else _WHEN_SEALED
    if method != "GET" and not may.fullmatch(path):
        agent.standing.require_active()


async def _health(call: Call) -> None:
    key = Key(SecretStr(call.agent.environment["AGENT_SECRET"]))
    await call.answer(200, call.agent.health(known=key.opens(call.scope["headers"])))


async def _chat(call: Call) -> None:
    request = await call.read(ChatRequest)
    kept = call.agent.turns.submit(request)
    events = call.agent.events(request, kept)
    if EVENT_STREAM in call.header(b"accept"):
        await call.begin(200, EVENT_STREAM)
        async for line in events:
            await call.piece(to_sse(line))
        if not kept.is_over:
            call.abort()
            return
        await call.piece(b"", more=False)
        return
    said = [from_json(line) async for line in events]
    text = "".join(event.text for event in said if isinstance(event, Text))
    await call.answer(200, ChatReply(response=text, turn_id=request.turn_id or ""))


async def _stop(call: Call, _chat_id: str) -> None:
    await call.answer(200, {"stopped": False})


async def _forget(call: Call, chat_id: str) -> None:
    call.agent.turns.forget(chat_id)
    await call.answer(204)


async def _probe(call: Call) -> None:
    await call.answer(204)


async def _configure(call: Call) -> None:
    await call.answer(200, call.agent.configure(await call.read(Config)))


async def _config(call: Call) -> None:
    await call.answer(200, call.agent.configure(Config(version=call.agent.health(known=True).config_version or 0)))


async def _seal(call: Call) -> None:
    epoch = (await call.read(Epoch)).epoch
    await call.answer(200, await call.agent.handover.seal(epoch, float(call.query.get("seconds", "120"))))


async def _activate(call: Call) -> None:
    await call.agent.handover.activate((await call.read(Epoch)).epoch)
    await call.answer(204)


async def _take(call: Call) -> None:
    content = call.agent.snapshots.take(call.query.get("base", ""))
    await call.begin(200, "application/x-tar")
    for start in range(0, len(content), PIECE):
        await call.piece(content[start : start + PIECE])
        if call.faults.hangs_up:
            call.abort()
            return
    await call.piece(b"", more=False)


async def _restore(call: Call) -> None:
    await call.answer(200, await call.agent.snapshots.receive(call.pieces()))


async def _tick(call: Call) -> None:
    await call.answer(200, call.agent.tick())


async def _outbox(call: Call) -> None:
    await call.answer(200, call.agent.outbox())


async def _acknowledge(call: Call) -> None:
    await call.answer(204)


ROOMS: list[tuple[Callable[..., Awaitable[None]], str]] = [
    (_health, "GET /health"),
    (_chat, "POST /chat"),
    (_stop, "POST /chat/([^/]+)/stop"),
    (_forget, "DELETE /chat/([^/]+)"),
    (_probe, "POST /probe"),
    (_config, "GET /config"),
    (_configure, "PUT /config"),
    (_seal, "POST /seal"),
    (_activate, "POST /(?:activate|unseal)"),
    (_take, "GET /snapshot"),
    (_restore, "PUT /snapshot"),
    (_tick, "POST /tick"),
    (_outbox, "GET /outbox"),
    (_acknowledge, "POST /outbox/ack"),
]
