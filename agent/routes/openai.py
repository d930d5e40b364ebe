"""OpenAI's API: any client of it can use this agent, as a model of the agent's own name."""

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.response import Stream

from agent.completions.answer import Answer, Frame, frame
from agent.completions.asked import CompletionRequest, check, read
from agent.completions.chats import Chats
from agent.completions.pictures import MAX_BODY_BYTES
from agent.config import Live
from agent.errors import STATUSES, Refused
from agent.events import EventLog
from agent.protocol import EVENT_STREAM, Done, ErrorKind, Failed, Notice, Refusal, Restart, from_sse
from agent.refusals import envelope
from agent.settings import Settings

_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_STATUSES = STATUSES | {ErrorKind.NO_ALLOWANCE: 429, ErrorKind.TOO_LONG: 400}
"""As OpenAI answers the same; its clients make exceptions of them."""
_NAMELESS = "agent"


@get("/v1/models")
async def models(live: NamedDependency[Live]) -> dict[str, Any]:
    """List the one model there is: this agent."""
    return {"object": "list", "data": [_model(_name(live))]}


@get("/v1/models/{model_id:str}")
async def model(model_id: FromPath[str], live: NamedDependency[Live]) -> dict[str, Any]:
    """Tell of it by its id."""
    return _model(_known(model_id, live))


@post("/v1/chat/completions", status_code=200, request_max_body_size=MAX_BODY_BYTES)
async def complete(
    data: JSONBody[CompletionRequest],
    request: Request[Any, Any, Any],
    chats: NamedDependency[Chats],
    live: NamedDependency[Live],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """Run a turn: in the chat of `X-Baal-Chat` or `user`, else in one that is the request and nothing more."""
    name = _known(data.model, live)
    check(data)
    events = await _ask(data, request, chats)
    with_usage = bool(data.stream_options and data.stream_options.include_usage)
    shape = Frame(events.turn_id, name, with_usage=with_usage)
    answering = _Answering(chats, events, shape, settings.agent_keepalive_seconds)
    if not data.stream:
        return Response(await _unless_gone(request, answering.whole(), answering))
    # Before the status is sent: a turn that fails at once is an error, as OpenAI's clients expect it.
    frames = answering.frames()
    first = await _unless_gone(request, _next(frames), answering)
    return Stream(_after(first, frames), media_type=EVENT_STREAM, headers=_STREAM_HEADERS)


class _Answering:
    """One answer on its way to one client."""

    def __init__(self, chats: Chats, events: EventLog, shape: Frame, keepalive: float) -> None:
        self._chats = chats
        self._events = events
        self._shape = shape
        self._keepalive = keepalive

    async def whole(self) -> dict[str, Any]:
        """In one document; `Refused` if the turn failed."""
        answer = Answer()
        async for event in from_sse(self._events.follow(0, self._keepalive)):
            answer.feed(event)
            if isinstance(event, Failed):
                raise _refused(event)
            if isinstance(event, Done):
                return self._shape.whole(answer.text, event.usage)
        raise AssertionError  # every turn ends with one of them

    async def frames(self) -> AsyncIterator[bytes]:
        """As a stream; `Refused` if the turn fails before anything was sent."""
        answer, begun = Answer(), False
        try:
            async for event in from_sse(self._events.follow(0, self._keepalive)):
                if isinstance(event, Failed):
                    if not begun:
                        raise _refused(event)
                    yield _broken_off(event)
                elif isinstance(event, Done):
                    yield self._begin(begun) + self._piece(answer.finish()) + self._shape.end(event.usage)
                elif begun or not isinstance(event, Notice | Restart):
                    # Also for what has no text, such as a tool at work: something must come every 15 s.
                    yield self._begin(begun) + (self._piece(answer.feed(event)) or self._shape.delta())
                    begun = True
        finally:
            self.leave()

    def leave(self) -> None:
        """The client has all, or is gone."""
        self._chats.leave(self._events)

    def _begin(self, begun: bool) -> bytes:  # noqa: FBT001
        return b"" if begun else self._shape.delta(role="assistant", content="")

    def _piece(self, text: str) -> bytes:
        return self._shape.delta(content=text) if text else b""


async def _ask(data: CompletionRequest, request: Request[Any, Any, Any], chats: Chats) -> EventLog:
    chat_id = request.headers.get("x-baal-chat") or data.user
    if not chat_id:
        return await chats.ask_once(read(data, is_kept=False))
    return await chats.ask_kept(chat_id, read(data, is_kept=True), request.headers.get("idempotency-key"))


async def _unless_gone[T](request: Request[Any, Any, Any], work: Coroutine[Any, Any, T], answering: _Answering) -> T:
    """Its result, unless the client goes first: then nobody waits for the answer."""
    working, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            answering.leave()
            raise Refused(499, "client_gone", "The client went away before the answer was ready.")
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _next(frames: AsyncIterator[bytes]) -> bytes:
    return await anext(frames)


async def _after(first: bytes, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for each in frames:
        yield each


def _refused(event: Failed) -> Refused:
    return Refused(_STATUSES[event.kind], event.kind, event.text)


def _broken_off(event: Failed) -> bytes:
    return frame(envelope(_STATUSES[event.kind], Refusal(kind=event.kind, text=event.text)))


def _known(asked: str, live: Live) -> str:
    name = _name(live)
    if asked != name:
        text = f"The model `{asked[:200]}` does not exist here. This agent is `{name}`."
        raise Refused(404, "model_not_found", text, "model")
    return name


def _name(live: Live) -> str:
    """The agent's name as that of a model: small letters, and a dash for all that is neither letter nor digit."""
    name = unicodedata.normalize("NFKC", live.settings().agent_name).casefold()
    return re.sub(r"[\W_]+", "-", name).strip("-") or _NAMELESS


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "baal"}
