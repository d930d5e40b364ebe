"""Ask the model server, by the openai package, and read its stream as it really comes.

That package knows the address and the headers, and is loaded late. Around each call it does much more: options are
validated and copied, each message is walked through, each token becomes a model object. So the body is encoded here,
sent by aiohttp, and the stream is read as raw lines: a sixth of the CPU.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

import msgspec
from pydantic import SecretStr

from agent.calls import Call, Calls
from agent.errors import ModelFailed
from agent.leaks import Leaks
from agent.protocol import ErrorKind
from agent.store import Message
from agent.thinking import Visible
from agent.usage import Meter, meter

if TYPE_CHECKING:
    import aiohttp

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
_OK, _REDIRECT = 200, 300
_JSON = msgspec.json.Decoder()


class _Delta(msgspec.Struct):
    content: str | None = None
    tool_calls: None = None


class _Choice(msgspec.Struct):
    delta: _Delta
    finish_reason: None = None


class _Words(msgspec.Struct):
    """A line that holds nothing but the next words, as nearly all of them do: read in a quarter of the time."""

    choices: list[_Choice]
    error: None = None
    detail: None = None
    usage: None = None


_WORDS = msgspec.json.Decoder(_Words)
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
    spoilt: bool = False
    """Whether a part of its text was hidden that was meant as a call and is none."""


class Server:
    """An OpenAI-compatible server, through one client with one connection pool."""

    def __init__(self, *, base_url: str, api_key: SecretStr) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._connecting: asyncio.Task[_Client] | None = None

    def connect(self) -> asyncio.Task[_Client]:
        """Begin to load the client, once: importing openai takes a second, which the open port need not wait for."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._client())
        return self._connecting

    async def close(self) -> None:
        """Close the connections."""
        if self._connecting is not None:
            client = await self._connecting
            await client.http.close()

    async def _client(self) -> _Client:
        url, headers = await asyncio.to_thread(self._address)
        import aiohttp  # noqa: PLC0415 - loaded by then

        # aiohttp's, at more than 1 MB. Images are; copying four of the largest to the socket takes some 10 ms.
        warnings.filterwarnings("ignore", "Sending a large body directly", ResourceWarning)
        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1000, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
            cookie_jar=aiohttp.CookieJar(unsafe=True),  # also for servers without a name
            headers=headers,
            trust_env=bool(getproxies()),  # asked once: it looks at the environment for each request
        )
        return _Client(http, url)

    def _address(self) -> tuple[str, dict[str, str]]:
        import aiohttp  # noqa: F401, PLC0415 - slow
        import openai  # noqa: PLC0415 - a second of CPU

        known = openai.AsyncOpenAI(base_url=self._base_url, api_key=self._api_key.get_secret_value())
        headers = known.default_headers | known.auth_headers | {"Accept-Encoding": "identity"}
        return f"{known.base_url}chat/completions", {
            name: value for name, value in headers.items() if isinstance(value, str)
        }


class Llm:
    """One model there, whose answers have at most `max_tokens`."""

    def __init__(self, server: Server, model: str, max_tokens: int) -> None:
        self._server = server
        self._model = model
        self._max_tokens = max_tokens

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
        client = await asyncio.shield(self._server.connect())
        reading = _Reading(say, tools, {call.id for message in messages for call in message.calls})
        try:
            async with _facts(), client.post(self._body(system, messages, tools, images)) as chunks:
                async for chunk in chunks:
                    reading.feed(chunk)
            return reading.end()
        finally:  # also an answer that is of no use was paid for
            reading.count(meter())

    def _body(
        self, system: str, messages: list[Message], tools: Sequence[dict[str, Any]], images: Mapping[str, str]
    ) -> bytes:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "system", "content": system}, *_on_the_wire(messages, images)],
            "stream": True,
            "max_tokens": self._max_tokens,
            "stream_options": {"include_usage": True},
        }
        if tools:
            body["tools"] = tools
        return msgspec.json.encode(body)


@dataclass(frozen=True, slots=True)
class _Client:
    """A connection pool, and what is the same in each request. The loop asks again, and tells the person."""

    http: aiohttp.ClientSession
    url: str

    @asynccontextmanager
    async def post(self, body: bytes) -> AsyncIterator[AsyncIterable[bytes]]:
        """Send a request; its answer's bytes as they come. `ModelFailed` if it is a refusal."""
        async with self.http.post(self.url, data=body, allow_redirects=False) as response:
            if not _OK <= response.status < _REDIRECT:
                raise _refusal(response.status, await response.read())
            yield response.content.iter_any()


def _on_the_wire(messages: Sequence[Message], images: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        _with_parts(each, images)
        if each.calls or each.call_id or each.images
        else {"role": each.speaker, "content": each.text}
        for each in messages
    ]


def _with_parts(message: Message, images: Mapping[str, str]) -> dict[str, Any]:
    # Content is "" and never null beside tool calls: some chat templates print null as "None".
    content = _with_images(message, images) if message.images else message.text
    said: dict[str, Any] = {"role": message.speaker, "content": content}
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

    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ModelFailed(ErrorKind.UNREACHABLE, type(error).__name__) from error


def _refusal(status: int, content: bytes) -> ModelFailed:
    try:
        body = _decoded(content)
    except (ValueError, RecursionError):
        body = None  # a proxy's page
    error = body.get("error", body) if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return ModelFailed(_kind(status, code, content.decode(errors="replace")), f"HTTP {status}, code {code!r}")


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

    __slots__ = (
        "_calls",
        "_completion",
        "_data_seen",
        "_leaks",
        "_line",
        "_say",
        "_stray",
        "_taken",
        "_texts",
        "_visible",
    )

    def __init__(
        self, say: Callable[[str], None], tools: Sequence[dict[str, Any]] = (), taken: Collection[str] = ()
    ) -> None:
        """`taken` are the ids that calls in the history have: a server may number each answer's from 0 again."""
        self._say = say
        self._taken = taken
        self._visible = Visible()
        self._leaks = Leaks(tools)
        self._completion = Completion()
        self._calls = Calls()
        self._texts: list[str] = []  # of the lines read since the last ones were told
        self._line = b""
        self._stray = b""
        self._data_seen = False

    def count(self, spent: Meter) -> None:
        read = self._completion
        spent.count(prompt=read.prompt_tokens, cached=read.cached_tokens, completion=read.completion_tokens)

    def feed(self, chunk: bytes) -> None:
        # Only at \n: the line readers of HTTP libraries also split at U+2028, which models do write.
        *lines, self._line = (self._line + chunk).split(b"\n")
        for line in lines:
            if line:
                self._read_line(line)
        self._tell_texts()

    def end(self) -> Completion:
        self._read_line(self._line)
        if not self._data_seen:
            self._read_document(self._stray)
        self._tell_texts()
        self._tell(self._leaks.feed(self._visible.rest()) + self._leaks.rest())
        if self._completion.finish_reason is None:
            # LibertAI's gateway ends a stream silently when a server behind it fails.
            raise ModelFailed(ErrorKind.UNREACHABLE, "the stream ended without a finish_reason")
        self._take_leaks()
        self._completion.calls = self._calls.finish(self._taken)
        return self._completion

    def _take_leaks(self) -> None:
        if self._calls:  # some servers leave in the text what they have parsed
            return
        for name, arguments in self._leaks.calls:
            self._calls.feed({"function": {"name": name, "arguments": arguments}})
        self._completion.spoilt = self._leaks.spoilt

    def _read_line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data_seen = True
            payload = line[5:].strip()
            if payload and payload != b"[DONE]":
                self._read_payload(payload)
        elif not self._data_seen and len(self._stray) < _MAX_STRAY_BYTES:
            self._stray += line

    def _read_payload(self, payload: bytes) -> None:
        try:
            words = _WORDS.decode(payload)
        except msgspec.DecodeError:  # something else, or something odd
            self._read_document(payload)
        else:
            self._texts += [choice.delta.content for choice in words.choices if choice.delta.content]

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
            self._texts.append(text)
        for piece in _dicts(said.get("tool_calls")):
            self._calls.feed(piece)

    def _read_usage(self, usage: dict[str, Any]) -> None:
        details = usage.get("prompt_tokens_details")
        self._completion.prompt_tokens = _count(usage.get("prompt_tokens"))
        self._completion.completion_tokens = _count(usage.get("completion_tokens"))
        self._completion.cached_tokens = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0

    def _tell_texts(self) -> None:
        """What came at once is told at once: a word by itself costs as much."""
        if self._texts:
            text, self._texts = "".join(self._texts), []
            self._tell(self._leaks.feed(self._visible.feed(text)))

    def _tell(self, text: str) -> None:
        if text:
            self._say(text)


def _parse(payload: bytes) -> dict[str, Any]:
    try:
        document = _decoded(payload)
    except (ValueError, RecursionError) as error:
        raise ModelFailed(ErrorKind.BAD_REPLY, "a line that is not JSON") from error
    if not isinstance(document, dict):
        raise ModelFailed(ErrorKind.BAD_REPLY, "a line that is not an object")
    return document


def _decoded(payload: bytes) -> Any:
    try:
        return _JSON.decode(payload)
    except msgspec.DecodeError:  # Python's also reads half of a character, which servers do cut
        return json.loads(payload.decode())


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
