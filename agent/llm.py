"""Ask the model server, by the openai package, and read its stream as it really comes.

Two detours around that package make a call 14 times cheaper: messages go in `extra_body`, which skips a walk through
each of them, and the stream is read as raw lines, which skips building a model object for each token. Its aiohttp
transport halves what is left.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from agent.calls import Call, Calls
from agent.errors import ModelFailed
from agent.protocol import ErrorKind
from agent.store import Message
from agent.thinking import Visible

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

CONNECT_SECONDS = 5
READ_SECONDS = 300
"""LibertAI sends nothing while it reads a long prompt."""
_MAX_STRAY_BYTES = 1_000_000
_NO_IMAGES: Mapping[str, str] = MappingProxyType({})
_HIDDEN = "\n[Images of this message that you are not shown any more: {count}.]"

# libertai-api's reasons of a 403; each means that the account cannot pay for this call.
_ALLOWANCE_CODES = frozenset(
    {"disabled", "expired", "key_monthly_limit", "no_credits", "extra_credit_cap", "liberclaw_limit"}
)
_CONTEXT_WORDS = ("exceed_context_size", "context length", "context size", "context_length_exceeded", "context window")
_FORBIDDEN = 403
_KINDS = {
    401: ErrorKind.BAD_KEY,
    402: ErrorKind.NO_ALLOWANCE,
    403: ErrorKind.BAD_KEY,
    404: ErrorKind.UNKNOWN_MODEL,
    408: ErrorKind.UNREACHABLE,
    413: ErrorKind.TOO_LONG,
    429: ErrorKind.BUSY,
    503: ErrorKind.BUSY,
    529: ErrorKind.BUSY,
}


@dataclass(slots=True)
class Completion:
    """What an answer told besides its text."""

    finish_reason: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    calls: list[Call] = field(default_factory=list)


class Llm:
    """One model on one OpenAI-compatible server, through one client with one connection pool."""

    def __init__(self, *, base_url: str, api_key: SecretStr, model: str, max_tokens: int) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._model = model
        self._max_tokens = max_tokens
        self._connecting: asyncio.Task[AsyncOpenAI] | None = None

    def connect(self) -> asyncio.Task[AsyncOpenAI]:
        """Begin to load the client, once: importing openai takes a second, which the open port need not wait for."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(asyncio.to_thread(self._client))
        return self._connecting

    async def close(self) -> None:
        """Close the connections."""
        if self._connecting is not None:
            client = await self._connecting
            await client.close()

    async def complete(
        self,
        system: str,
        messages: list[Message],
        say: Callable[[str], None],
        tools: Sequence[dict[str, Any]] = (),
        images: Mapping[str, str] = _NO_IMAGES,
    ) -> Completion:
        """Ask for the next message and say its visible text piece by piece; `ModelFailed` if it does not end well.

        `images` are the data: URLs of those images of the messages that the model is shown, by their ids.
        """
        client = await asyncio.shield(self.connect())
        reading = _Reading(say)
        async with _facts(), self._post(client, self._body(system, messages, tools, images)) as response:
            async for chunk in response.iter_bytes():
                reading.feed(chunk)
        return reading.end()

    def _post(self, client: AsyncOpenAI, body: dict[str, Any]) -> Any:
        return client.chat.completions.with_streaming_response.create(
            model=self._model, messages=[], stream=True, extra_body=body
        )

    def _body(
        self, system: str, messages: list[Message], tools: Sequence[dict[str, Any]], images: Mapping[str, str]
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "messages": [{"role": "system", "content": system}, *(_on_the_wire(each, images) for each in messages)],
            "max_tokens": self._max_tokens,
            "stream_options": {"include_usage": True},
        }
        return body | {"tools": list(tools)} if tools else body

    def _client(self) -> AsyncOpenAI:
        import httpx2  # noqa: PLC0415 - slow, and comes with openai
        import openai  # noqa: PLC0415 - a second of CPU

        # aiohttp's, at more than 1 MB. Images are; copying four of the largest to the socket takes some 10 ms.
        warnings.filterwarnings("ignore", "Sending a large body directly", ResourceWarning)
        return openai.AsyncOpenAI(
            base_url=self._base_url,
            api_key=self._api_key.get_secret_value(),
            # openai's own aiohttp transport: 40 % less CPU per turn than its default, most of it in reading chunks.
            http_client=openai.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=1000, keepalive_expiry=30)),
            max_retries=0,  # the loop asks again, and tells the person
            timeout=httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        )


def _on_the_wire(message: Message, images: Mapping[str, str]) -> dict[str, Any]:
    # Content is "" and never null beside tool calls: some chat templates print null as "None".
    content = _with_images(message, images) if message.images else message.text
    said: dict[str, Any] = {"role": message.speaker.value, "content": content}
    if message.calls:
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.calls
        ]
    if message.call_id:
        said["tool_call_id"] = message.call_id
    return said


def _with_images(message: Message, images: Mapping[str, str]) -> str | list[dict[str, Any]]:
    urls = [images[file_id] for file_id in message.images if file_id in images]
    hidden = len(message.images) - len(urls)
    text = message.text + (_HIDDEN.format(count=hidden) if hidden else "")
    if not urls:
        return text
    return [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]


@asynccontextmanager
async def _facts() -> AsyncIterator[None]:
    """Turn the libraries' errors into facts about the model server."""
    import aiohttp  # noqa: PLC0415 - loaded by then
    import httpx2  # noqa: PLC0415 - loaded by then
    import openai  # noqa: PLC0415 - loaded by then

    try:
        yield
    except openai.APIStatusError as error:
        raise _refusal(error) from error
    except (openai.APIError, httpx2.HTTPError, httpx2.StreamError, aiohttp.ClientError) as error:
        raise ModelFailed(ErrorKind.UNREACHABLE, type(error).__name__) from error


def _refusal(error: APIStatusError) -> ModelFailed:
    body = error.body
    code = body.get("code") if isinstance(body, dict) else None
    return ModelFailed(_kind(error.status_code, code, str(body)), f"HTTP {error.status_code}, code {code!r}")


def _kind(status: int, code: object, text: str) -> ErrorKind:
    if any(words in text.lower() for words in _CONTEXT_WORDS):
        return ErrorKind.TOO_LONG
    if status == _FORBIDDEN and code in _ALLOWANCE_CODES:
        return ErrorKind.NO_ALLOWANCE
    if status >= 500:  # noqa: PLR2004 - the HTTP statuses of servers' faults
        return _KINDS.get(status, ErrorKind.UNREACHABLE)
    return _KINDS.get(status, ErrorKind.BAD_REPLY)


class _Reading:
    """Reads one answer: a stream of events, or one JSON document from servers that do not stream."""

    __slots__ = ("_calls", "_completion", "_data_seen", "_line", "_say", "_stray", "_visible")

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._visible = Visible()
        self._completion = Completion()
        self._calls = Calls()
        self._line = b""
        self._stray = b""
        self._data_seen = False

    def feed(self, chunk: bytes) -> None:
        # Only at \n: the line readers of HTTP libraries also split at U+2028, which models do write.
        *lines, self._line = (self._line + chunk).split(b"\n")
        for line in filter(None, lines):
            self._read_line(line)

    def end(self) -> Completion:
        self._read_line(self._line)
        if not self._data_seen:
            self._read_document(self._stray)
        self._tell(self._visible.rest())
        if self._completion.finish_reason is None:
            # LibertAI's gateway ends a stream silently when a server behind it fails.
            raise ModelFailed(ErrorKind.UNREACHABLE, "the stream ended without a finish_reason")
        self._completion.calls = self._calls.finish()
        return self._completion

    def _read_line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data_seen = True
            payload = line[5:].strip()
            if payload and payload != b"[DONE]":
                self._read_document(payload)
        elif not self._data_seen and len(self._stray) < _MAX_STRAY_BYTES:
            self._stray += line

    def _read_document(self, payload: bytes) -> None:
        document = _parse(payload)
        if document.get("error") or document.get("detail"):
            raise _failure(document)
        for choice in _dicts(document.get("choices")):
            self._read_choice(choice)
        if isinstance(document.get("usage"), dict):
            self._read_usage(document["usage"])

    def _read_choice(self, choice: dict[str, Any]) -> None:
        # `reasoning_content` and `reasoning` are the model's thinking and stay unread.
        said = choice.get("delta") or choice.get("message")
        if isinstance(said, dict):
            self._read_said(said)
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            self._completion.finish_reason = reason

    def _read_said(self, said: dict[str, Any]) -> None:
        text = said.get("content")
        if text and isinstance(text, str):
            self._tell(self._visible.feed(text))
        for piece in _dicts(said.get("tool_calls")):
            self._calls.feed(piece)

    def _read_usage(self, usage: dict[str, Any]) -> None:
        details = usage.get("prompt_tokens_details")
        self._completion.prompt_tokens = _count(usage.get("prompt_tokens"))
        self._completion.completion_tokens = _count(usage.get("completion_tokens"))
        self._completion.cached_tokens = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0

    def _tell(self, text: str) -> None:
        if text:
            self._say(text)


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        document = json.loads(payload.decode())
    except (ValueError, RecursionError) as error:
        raise ModelFailed(ErrorKind.BAD_REPLY, "a line that is not JSON") from error
    if not isinstance(document, dict):
        raise ModelFailed(ErrorKind.BAD_REPLY, "a line that is not an object")
    return document


def _failure(document: dict[str, Any]) -> ModelFailed:
    """Read an error that came inside an answer of status 200."""
    error = document.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) else 500
    return ModelFailed(_kind(status, code, str(document)), f"an error inside the stream, code {code!r}")


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
