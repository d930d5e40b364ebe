"""What the bot knows of an agent that is not there becomes words for the person who waits."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from agent import protocol
from bot.chat.run import AgentDown, AgentMoving, AgentWaking, NotYet
from bot.chat.turns import Turns
from bot.errors import AgentOffline
from bot.store.models import Agent, Turn
from bot.telegram.answer import Word
from bot.telegram.conversation import Conversations, Events
from bot.telegram.relay import Conversation
from bot.telegram.texts import load_texts

DONE = protocol.Done(seq=2, usage=protocol.Usage())
ADA = Agent(id=7, owner_id=1, name="Ada", job="cooks", model="m", sealed_secret="", release="r")
TURN = Turn(id="u1", agent_id=7, chat_id=1, user_id=1, message_id=1, message="hi", sequence=1)


class Told:
    """The events of a turn, as `Turns` would have them."""

    def __init__(self, *events: protocol.Event | NotYet | Exception) -> None:
        self._events = events

    async def events(self, _turn: Turn) -> AsyncIterator[protocol.Event | NotYet]:
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            yield event


async def shown(*events: protocol.Event | NotYet | Exception) -> list[protocol.Event | Word]:
    translated = Events(cast("Turns", Told(*events)), TURN, ADA, load_texts().speak("en"))
    return [event async for event in translated.shown()]


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (AgentWaking(), Word("💤 Ada is waking up (about a minute). Your message is kept.")),
        (AgentDown(), Word("Ada is not answering. I'm restarting it; your message is kept.")),
        (AgentMoving(), Word("One moment, Ada is just changing machines. Your message is kept.", after=5)),
    ],
)
async def test_who_waits_is_told_why(state: NotYet, word: Word) -> None:
    assert await shown(state, DONE) == [word, DONE]


@pytest.mark.parametrize(
    ("state", "says"), [(AgentWaking(), "could not be woken"), (AgentDown(), "could not be restarted")]
)
async def test_an_agent_that_does_not_come_is_told_as_what_it_was(state: NotYet, says: str) -> None:
    *_, failed = await shown(state, AgentOffline("not ready after 300 s"))

    assert isinstance(failed, protocol.Failed)
    assert failed.text == f"Ada {says} just now. Your message is kept."
    assert failed.retryable


class Stream:
    """The events of a turn over a connection, which is left open until somebody closes it."""

    def __init__(self) -> None:
        self.is_open = False

    async def next(self, _chat_id: int) -> Turn:
        return TURN

    async def count_open(self, _chat_id: int) -> int:
        return 1

    async def agents_lately(self, _chat_id: int) -> int:
        return 1

    async def events(self, _turn: Turn) -> AsyncIterator[protocol.Event]:
        self.is_open = True
        try:
            yield DONE
        finally:
            self.is_open = False


class Sending:
    """A relay that has read the final event, and is sending it."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.kept: AsyncIterator[protocol.Event | Word] | None = None

    async def show(self, _conversation: Conversation, events: AsyncIterator[protocol.Event | Word]) -> None:
        # As an exception's traceback keeps it, which nobody collects before the loop has ended.
        self.kept = events
        await anext(events)
        self.has_begun.set()
        await asyncio.Event().wait()


async def test_a_stop_while_an_answer_is_sent_closes_the_stream_it_came_by() -> None:
    stream, relay = Stream(), Sending()
    agents, users = AsyncMock(), AsyncMock()
    agents.get.return_value, users.get.return_value = ADA, None
    services: Any = (stream, agents, users, relay, load_texts())
    conversations = Conversations(*services, postman=AsyncMock())
    conversations.wake(TURN.chat_id)
    await relay.has_begun.wait()
    assert stream.is_open

    await conversations.stop()

    assert not stream.is_open
