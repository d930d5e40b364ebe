"""What a turn emits: numbered events, and how they are encoded."""

import json
from collections.abc import AsyncIterator, Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from agent.protocol.base import Model, ProtocolError


class Usage(Model):
    """What a turn cost. Tokens as the model server counted them; 0 where it did not say."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    tool_calls: int = 0
    milliseconds: int = 0


class ErrorKind(StrEnum):
    """Why a turn ended without its full answer."""

    NO_ALLOWANCE = "no_allowance"
    """The key's account has no allowance or credit left, or the key is blocked or expired."""
    BAD_KEY = "bad_key"
    """The model server does not know the key."""
    UNKNOWN_MODEL = "unknown_model"
    BUSY = "busy"
    """Overloaded or rate-limited, also after trying again."""
    UNREACHABLE = "unreachable"
    """The model server did not answer, or cut its stream, also after trying again."""
    BAD_REPLY = "bad_reply"
    """The model server answered something that is not a completion."""
    TOO_LONG = "too_long"
    """The conversation does not fit into the model's context."""
    INTERRUPTED = "interrupted"
    """The agent was restarted while the turn ran."""
    STOPPED = "stopped"
    """Somebody asked it to stop; the text so far stands."""
    INTERNAL = "internal"
    """A fault of the agent itself; its log has the turn id."""


class Text(Model):
    """A piece of the answer, to be appended."""

    type: Literal["text"] = "text"
    seq: int
    text: str


class Restart(Model):
    """The turn starts over: what `text` events said so far is void."""

    type: Literal["restart"] = "restart"
    seq: int


class Notice(Model):
    """Something the person should know while the turn goes on, for example that the model is being asked again.

    The last thing before `done`, it says why the answer ends where it does, for example at its length limit; asked to
    continue, the agent goes on from there.
    """

    type: Literal["notice"] = "notice"
    seq: int
    text: str


class ToolState(StrEnum):
    """How far a tool's call is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Tool(Model):
    """Something is being done for the answer. The same `id` comes again when it has ended. `label` is for people."""

    type: Literal["tool"] = "tool"
    seq: int
    id: str
    name: str
    label: str
    state: ToolState


class File(Model):
    """A file for the person: `GET /files/{chat_id}/{id}` has it."""

    type: Literal["file"] = "file"
    seq: int
    id: str
    name: str
    media_type: str
    size: int
    caption: str = ""


class Ask(Model):
    """A question with ready answers, which ends the answer of this turn. The one chosen comes as the next message."""

    type: Literal["ask"] = "ask"
    seq: int
    question: str
    options: tuple[str, ...]

    def in_words(self) -> str:
        """Where there are no buttons, and as the model finds it in the history."""
        return "\n".join([self.question, *(f"- {option}" for option in self.options)])


class Failed(Model):
    """The turn ended without its full answer. `text` is written for the person; it never holds an exception."""

    type: Literal["error"] = "error"
    seq: int
    kind: ErrorKind
    text: str
    retryable: bool


class Done(Model):
    """The turn ended with its full answer."""

    type: Literal["done"] = "done"
    seq: int
    usage: Usage = Usage()
    next_due: float | None = None
    """Unix time (seconds) at which this agent next wants to be woken, if it does."""


class KeepAlive(Model):
    """Nothing new; `seq` repeats the last number."""

    type: Literal["keepalive"] = "keepalive"
    seq: int


Event = Annotated[Text | Restart | Notice | Tool | File | Ask | Failed | Done | KeepAlive, Field(discriminator="type")]
Final = Failed | Done
_EVENT: TypeAdapter[Event] = TypeAdapter(Event, config=ConfigDict(defer_build=True))


def to_json(event: Event) -> str:
    """Encode an event as one line of ASCII.

    Not only for size: line splitters such as httpx's also split at U+2028 or U+0085, so that one odd character of a
    person would break a stream.
    """
    return json.dumps(event.model_dump(), separators=(",", ":"))


def to_sse(line: str) -> bytes:
    """Frame an encoded event for the stream."""
    return b"data: " + line.encode("ascii") + b"\n\n"


def from_json(line: str | bytes) -> Event:
    """Decode one event; `ProtocolError` if it is none."""
    try:
        return _EVENT.validate_json(line)
    except ValidationError as error:
        raise ProtocolError(f"not an event: {_reasons(error)}") from error


async def from_sse(chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """Decode a stream of raw bytes, however they are cut. Other SSE fields and comments are passed over."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for event in _events(lines):
            yield event


def _events(lines: list[bytes]) -> Iterator[Event]:
    for line in lines:
        if line.startswith(b"data:"):
            yield from_json(line[5:].strip())


def _reasons(error: ValidationError) -> str:
    problems: list[Any] = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems[:3])
