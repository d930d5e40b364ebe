"""People who write all the time, each when the answer before is there; and whether every message was answered once."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from agent import protocol
from bot.store.models import Agent
from scripts.bench_world import Bot

PAUSE_SECONDS = 0.2
WORDS = re.compile(r"message \d+\.")
"""What people say, wherever it is found again."""
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Asked:
    """A message: by the monotonic clock, when it was taken in and when its answer began; whether that was whole."""

    words: str
    at: float
    heard: float
    is_answered: bool

    @property
    def silence(self) -> float:
        return self.heard - self.at


@dataclass(slots=True)
class Chats:
    """What was asked so far, and whether that is all."""

    asked: list[Asked] = field(default_factory=list)
    is_over: bool = False

    @property
    def lost(self) -> int:
        """Messages without an answer."""
        return sum(not each.is_answered for each in self.asked)

    def silences(self, since: float, until: float) -> list[float]:
        """Seconds from a message to its answer's beginning, of those that waited in that time."""
        return [each.silence for each in self.asked if each.heard >= since and each.at <= until]

    def doubled(self, answered: Sequence[str]) -> int:
        """How many of our messages stand more than once among those that were answered, or not at all."""
        times = Counter(answered)
        return sum(times[each.words] != 1 for each in self.asked if each.is_answered)


@asynccontextmanager
async def writing(
    it: Bot, agents: Sequence[Agent], *, chats: int, pause: float = PAUSE_SECONDS
) -> AsyncIterator[Chats]:
    """So many chats with each agent, until the end of the block; then the last answers are waited for."""
    said = Chats()
    who = [(agent, chat) for agent in agents for chat in range(chats)]
    # One after the other, as people come: not all in the same moment.
    people = [_write(it, *each, said, pause, after=pause * number / len(who)) for number, each in enumerate(who)]
    async with asyncio.TaskGroup() as group:
        for each in people:
            group.create_task(each)
        try:
            yield said
        finally:
            said.is_over = True


async def _write(it: Bot, agent: Agent, chat: int, said: Chats, pause: float, *, after: float) -> None:
    await asyncio.sleep(after)
    while not said.is_over:
        said.asked.append(await say(it, agent, chat_id=agent.owner_id * 1_000 + chat))
        await asyncio.sleep(pause)


async def say(it: Bot, agent: Agent, *, chat_id: int = 0) -> Asked:
    """One message, and its answer."""
    number = next(_numbers)
    words, begun, heard, is_answered = f"message {number}.", time.monotonic(), 0.0, False
    turn = await it.accept(agent, number, words, chat_id=chat_id)
    async for event in it.answer(turn):
        if isinstance(event, protocol.Text) and not heard:
            heard = time.monotonic()
        is_answered = isinstance(event, protocol.Done)
    return Asked(words, begun, heard or time.monotonic(), is_answered)
