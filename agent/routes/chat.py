"""Take turns from clients and stream their events back; stop one; forget a chat."""

from typing import Any

from litestar import Request, Response, delete, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.response import Stream

from agent.errors import STATUSES, Refused
from agent.events import EventLog
from agent.protocol import EVENT_STREAM, ChatReply, ChatRequest, Failed
from agent.reception import Reception
from agent.turns import Turns

_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@post("/chat", status_code=200)
async def chat(
    data: JSONBody[ChatRequest],
    request: Request[Any, Any, Any],
    reception: NamedDependency[Reception],
) -> Response[Any]:
    """Run a turn, or attach to it."""
    events = reception.take(data)
    if EVENT_STREAM not in request.headers.get("accept", ""):
        return Response(await _reply(events))
    return Stream(reception.frames(events, data.after), media_type=EVENT_STREAM, headers=_STREAM_HEADERS)


@post("/chat/{chat_id:str}/stop", status_code=200)
async def stop(chat_id: FromPath[str], turns: NamedDependency[Turns]) -> dict[str, bool]:
    """Stop the turn that runs in a chat."""
    return {"stopped": turns.stop(chat_id)}


@delete("/chat/{chat_id:str}")
async def forget(chat_id: FromPath[str], turns: NamedDependency[Turns]) -> Response[None]:
    """Erase a chat's history."""
    await turns.forget(chat_id)
    return Response(None, status_code=204)


async def _reply(events: EventLog) -> ChatReply:
    reply = await events.reply()
    if isinstance(reply.final, Failed):
        raise Refused(STATUSES[reply.final.kind], reply.final.kind, reply.final.text)
    return ChatReply(response=reply.text, turn_id=events.turn_id)
