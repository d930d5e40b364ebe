"""The wire between the bot and an agent: requests, events, how they are encoded. The one module the bot may import.

Every turn emits events numbered from 1 (`seq`). A client that lost its connection asks again for the same `turn_id`
with `after` set to the last number it has seen, and receives the rest: a turn id names one run, however often it is
asked for.
"""

import json
from collections.abc import AsyncIterator, Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

VERSION = 1
"""Sent by both sides in `VERSION_HEADER`. A bot of version N also talks to agents of version N-1."""

VERSION_HEADER = "X-Baal-Protocol"
EVENT_STREAM = "text/event-stream"
KEEPALIVE_SECONDS = 15
"""A real event at least this often: the gateway before Aleph's machines drops SSE comments and cuts idle streams."""

MAX_MESSAGE_CHARS = 200_000
MAX_ID_CHARS = 128


class Model(BaseModel):
    """Base of everything on the wire: unknown fields are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Role(StrEnum):
    """Who speaks to the agent."""

    OWNER = "owner"
    VISITOR = "visitor"


class Person(Model):
    """The person behind a message, as far as the agent may know them."""

    id: str = Field(max_length=MAX_ID_CHARS)
    name: str = Field(default="", max_length=256)
    language: str = Field(default="", max_length=35)


class ChatRequest(Model):
    """Body of `POST /chat`. Only `message` and `chat_id` are required; without a `turn_id` the agent mints one.

    `after` is the last event number already seen (0: all). `retry` runs a turn again that ended `interrupted` or in a
    retryable error; the numbers of its events go on from where they stopped.
    """

    chat_id: str = Field(min_length=1, max_length=MAX_ID_CHARS)
    message: str = Field(min_length=1, max_length=MAX_MESSAGE_CHARS)
    turn_id: str | None = Field(default=None, min_length=1, max_length=MAX_ID_CHARS)
    role: Role = Role.VISITOR
    user: Person | None = None
    after: int = Field(default=0, ge=0)
    retry: bool = False


class ChatReply(Model):
    """Answer of `POST /chat` to a client that did not ask for an event stream."""

    response: str
    turn_id: str


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
    """Something the person should know while the turn goes on, for example that the model is being asked again."""

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


Event = Annotated[Text | Restart | Notice | Tool | Failed | Done | KeepAlive, Field(discriminator="type")]
Final = Failed | Done
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class Health(Model):
    """Answer of `GET /health`. Without the bearer secret the fields after `digest` are left out (null).

    `release` is what its deployer calls it; `version` and `revision` (git) are baked into the image, `digest` is the
    image's, as its engine knows it.
    """

    status: Literal["ok", "draining"]
    agent_name: str
    release: str
    protocol: int = VERSION
    version: str | None = None
    revision: str | None = None
    digest: str | None = None
    model: str | None = None
    running_turns: int | None = None
    next_due: float | None = None


class Refusal(Model):
    """Body of every 4xx and 5xx: a stable `kind` and a text that tells the caller what to do."""

    kind: str
    text: str


class ProtocolError(ValueError):
    """The other side sent something that is not of this protocol. The text says what, without the payload."""


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
