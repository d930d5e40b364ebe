"""How LibertAI's double writes: the made-up answer, and the bytes of a completion, streamed or whole."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

from tests.fakes.libertai_sim import Ending, Pace, Script, ToolCall

_NAME = re.compile(r"You are (?P<name>[^\n]+?)\.?\n")
_NOTE = re.compile(r"\n\n\[Not written by the person.*?\](?=\n\n|$)", re.DOTALL)
_MAX_QUOTE = 200
_PIECE = 7
"""Characters of arguments in one piece of a stream."""


def made_up_answer(body: dict[str, Any]) -> str:
    """Answer pleasantly and predictably."""
    name = _agent_name(body["messages"])
    question = _question(body["messages"]).strip()
    quote = question if len(question) <= _MAX_QUOTE else f"{question[:_MAX_QUOTE]}…"
    return (
        f"Hello, I am {name}! You wrote: “{quote}”\n\n"
        "I would love to think about that, but I am only a *scripted model*: I say the same friendly things to "
        "everybody. Give me a real model, with a LibertAI key or any OpenAI-compatible server, and ask me again."
    )


async def stream(body: dict[str, Any], script: Script, pace: Pace, released: asyncio.Event) -> AsyncIterator[bytes]:
    """Write a completion as server-sent events."""
    if script.lines is not None:
        for line in script.lines:
            yield line.encode() + b"\n\n"
        return
    chunk = _Chunks(body["model"])
    await asyncio.sleep(pace.first_token_seconds)
    yield chunk.delta({"role": "assistant", "content": ""})
    if script.reasoning:
        yield chunk.delta({"reasoning_content": script.reasoning})
    said = 0
    async for token in _paced(tokens(script, body), pace):
        if said == script.hold_after:
            await released.wait()
        yield chunk.delta({"content": token})
        said += 1
    if said == script.hold_after:
        await released.wait()
    for piece in _call_pieces(script.calls):
        yield chunk.delta({"tool_calls": [piece]})
    if script.ending is Ending.RESET:
        raise ConnectionAbortedError  # uvicorn then closes the connection in the middle of the body
    if script.ending is not Ending.SILENT:
        yield chunk.end(_finish_reason(script))
        # LibertAI's boxes ask for the usage themselves: there always is a last chunk without choices.
        yield chunk.usage(usage(body, said))
        yield b"data: [DONE]\n\n"


def whole(body: dict[str, Any], script: Script) -> dict[str, Any]:
    """Compose a completion that was not asked for as a stream."""
    words = tokens(script, body)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(words)}
    if script.calls:
        message["tool_calls"] = [
            _head(number, call) | {"function": _function(call)} for number, call in enumerate(script.calls)
        ]
    return {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": _finish_reason(script)}],
        "usage": usage(body, len(words)),
    }


def _finish_reason(script: Script) -> str:
    return "tool_calls" if script.calls and script.ending is Ending.STOP else script.ending.value


def _call_pieces(calls: list[ToolCall]) -> Iterator[dict[str, Any]]:
    """As vLLM does: id and name at once, then the arguments bit by bit, known by the index alone."""
    for index, call in enumerate(calls):
        function = _function(call)
        yield _head(index, call) | {"function": function | {"arguments": ""}}
        for start in range(0, len(function["arguments"]), _PIECE):
            yield {"index": index, "function": {"arguments": function["arguments"][start : start + _PIECE]}}


def _head(index: int, call: ToolCall) -> dict[str, Any]:
    minted = f"chatcmpl-tool-{uuid4().hex}"
    return {"index": index, "id": call.id if call.id is not None else minted, "type": "function"}


def _function(call: ToolCall) -> dict[str, str]:
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
    return {"name": call.name, "arguments": arguments}


def tokens(script: Script, body: dict[str, Any]) -> list[str]:
    """Cut the answer into tokens: words with the space before them."""
    text = script.text
    if text is None:
        text = "" if script.calls else made_up_answer(body)
    return re.findall(r"\s*\S+|\s+$", text)[: script.tokens]


def usage(body: dict[str, Any], completion_tokens: int) -> dict[str, Any]:
    """Count roughly, as everybody outside of the model does."""
    prompt_tokens = sum(len(_text(message["content"])) for message in body["messages"]) // 3
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


class _Chunks:
    def __init__(self, model: str) -> None:
        head = {"id": f"chatcmpl-{uuid4().hex}", "object": "chat.completion.chunk", "created": int(time.time())}
        self._head = head | {"model": model}

    def delta(self, delta: dict[str, Any]) -> bytes:
        return self._frame({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    def end(self, reason: str) -> bytes:
        return self._frame({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})

    def usage(self, usage: dict[str, Any]) -> bytes:
        return self._frame({"choices": [], "usage": usage})

    def _frame(self, fields: dict[str, Any]) -> bytes:
        # Raw characters, as vLLM writes them: also U+2028, at which careless readers split lines.
        return b"data: " + json.dumps(self._head | fields, ensure_ascii=False).encode() + b"\n\n"


async def _paced(words: list[str], pace: Pace) -> AsyncIterator[str]:
    begun = time.monotonic()
    for number, word in enumerate(words):
        if pace.tokens_per_second:
            await asyncio.sleep(max(0, begun + number / pace.tokens_per_second - time.monotonic()))
        yield word


def _agent_name(messages: list[dict[str, Any]]) -> str:
    system = next((_text(message["content"]) for message in messages if message["role"] == "system"), "")
    found = _NAME.match(system)
    return found["name"] if found else "an agent"


def _question(messages: list[dict[str, Any]]) -> str:
    """What the person wrote last, without the notes that an agent adds."""
    newest = next((message for message in reversed(messages) if message["role"] == "user"), messages[-1])
    return _NOTE.sub("", _text(newest["content"]))


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part.get("text", "")) for part in parts)
