"""The events of one turn: numbered, stored before anybody sees them, and followed by any number of clients.

Stored first, so that a number a client has seen is never given out again, even after `kill -9`.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from agent.errors import HINTS, RETRYABLE
from agent.protocol import (
    Ask,
    Done,
    ErrorKind,
    Event,
    Failed,
    KeepAlive,
    Restart,
    Text,
    from_json,
    to_json,
    to_sse,
)
from agent.store import Store


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole turn: its answer, and its last event."""

    text: str
    final: Event | None


class EventLog:
    """What a turn has emitted. Numbers up to `base` belong to earlier runs of it."""

    def __init__(self, store: Store, turn_id: str, *, base: int = 0) -> None:
        self.turn_id = turn_id
        self._store = store
        self._base = base
        self._lines: list[str] = []
        self._published = 0
        self._ended = False
        self._news = asyncio.Event()

    @classmethod
    def of_past_turn(cls, store: Store, turn_id: str, *, base: int) -> "EventLog":
        """Read the events of a turn that has ended."""
        lines = store.events(turn_id)
        past = cls(store, turn_id, base=from_json(lines[0]).seq - 1 if lines else base)
        past._lines, past._published, past._ended = lines, len(lines), True
        return past

    @property
    def is_again(self) -> bool:
        """Whether the turn runs once more."""
        return self._base > 0

    @property
    def last(self) -> int:
        """The number of the newest event."""
        return self._base + len(self._lines)

    @property
    def _complete(self) -> bool:
        return self._ended and self._published == len(self._lines)

    def emit(self, event: Event) -> None:
        """Store an event, and show it when it is stored."""
        line = to_json(event)
        self._lines.append(line)
        with self._store.as_far_as_there_is_room():
            self._store.add_event(self.turn_id, event.seq, line)
        self._store.after_commit(self._publish)

    def end(self, final: Done | Failed) -> None:
        """Emit the last event."""
        self._ended = True
        self.emit(final)

    def _publish(self) -> None:
        self._published = len(self._lines)
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, after: int, keepalive: float) -> AsyncIterator[bytes]:
        """Yield the framed events numbered higher than `after`, to the last one; that one is never left out."""
        shown = max(0, after - self._base)
        while not (self._complete and shown >= self._published):
            if shown < self._published:
                lines, shown = self._lines[shown : self._published], self._published
                yield b"".join(map(to_sse, lines))
            elif not await _within(self._news, keepalive):
                yield to_sse(to_json(KeepAlive(seq=self.last)))
        if after >= self.last and self._lines:
            yield to_sse(self._lines[-1])

    async def reply(self) -> Reply:
        """Wait for the end of the turn."""
        while not self._complete:
            await self._news.wait()
        return self.so_far()

    def so_far(self) -> Reply:
        """Add up what the events said."""
        text, event = "", None
        for event in map(from_json, self._lines):
            if isinstance(event, Text):
                text += event.text
            elif isinstance(event, Restart):
                text = ""
            elif isinstance(event, Ask):  # for those who have no buttons
                text = f"{text}\n\n{event.in_words()}".lstrip()
        return Reply(text, event)

    def said(self) -> list[Event]:
        """All its events."""
        return list(map(from_json, self._lines))

    def spoke(self) -> bool:
        """Whether a client may have shown a part of the answer."""
        return any(isinstance(from_json(line), Text | Restart | Ask) for line in self._lines)


def failed(kind: ErrorKind, seq: int) -> Failed:
    """Compose the last event of a turn that failed."""
    return Failed(seq=seq, kind=kind, text=HINTS[kind], retryable=kind in RETRYABLE)


async def _within(news: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True
