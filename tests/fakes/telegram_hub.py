"""News for the page: what changes is told to everyone who listens, as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from pydantic import BaseModel

QUEUE = 2_000
KEEP_ALIVE = 15.0


class Hub:
    """Costs nothing while nobody listens; a listener that cannot keep up is cut off and reads the state anew."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[bytes | None]] = set()

    def publish(self, kind: str, chat_id: int, content: Callable[[], Any]) -> None:
        if not self._listeners:
            return
        frame = encode_event(kind, chat_id, content())
        for listener in list(self._listeners):
            try:
                listener.put_nowait(frame)
            except asyncio.QueueFull:
                self._cut(listener)

    def _cut(self, listener: asyncio.Queue[bytes | None]) -> None:
        self._listeners.discard(listener)
        while not listener.empty():
            listener.get_nowait()
        listener.put_nowait(None)

    def close(self) -> None:
        for listener in list(self._listeners):
            self._cut(listener)

    async def listen(self) -> AsyncIterator[bytes]:
        listener: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE)
        self._listeners.add(listener)
        try:
            yield b": connected\n\n"
            while (frame := await _next(listener)) is not None:
                yield frame
        finally:
            self._listeners.discard(listener)


async def _next(listener: asyncio.Queue[bytes | None]) -> bytes | None:
    try:
        return await asyncio.wait_for(listener.get(), KEEP_ALIVE)
    except TimeoutError:
        return b": still here\n\n"


def encode_event(kind: str, chat_id: int, content: Any) -> bytes:
    body = {"kind": kind, "chat_id": chat_id, "content": plain(content)}
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def plain(content: Any) -> Any:
    """Models as JSON values."""
    if isinstance(content, BaseModel):
        return content.model_dump(mode="json", exclude_none=True)
    if isinstance(content, list):
        return [plain(item) for item in content]
    return content
