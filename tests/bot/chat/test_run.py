"""A run against an agent that is scripted call by call: what the bot does when connections and agents break."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent import protocol
from bot.chat import run
from bot.chat.run import MAX_BREAKS, AgentDown, AgentMoving, AgentWaking, Run
from bot.errors import AgentHeld, AgentOffline
from bot.store.models import Turn

LOST = AgentOffline("lost")
HELD = AgentHeld("it is sealed")


@dataclass
class Route:
    """Answers each attach with the next script: events, and an error that breaks the connection."""

    scripts: list[list[Any]]
    is_alive: bool = True
    asleep: list[bool] = field(default_factory=list)
    """Whether it is asleep, each time that is asked."""
    moved: int = 0
    """How often somebody waited for it to be moved."""
    asked: list[tuple[int, bool]] = field(default_factory=list)
    revived: int = 0

    async def chat(self, _agent_id: int, request: protocol.ChatRequest) -> AsyncIterator[protocol.Event]:
        self.asked.append((request.after, request.retry))
        for step in self.scripts.pop(0):
            if isinstance(step, Exception):
                raise step
            yield step

    async def is_up(self, _agent_id: int) -> bool:
        return self.is_alive

    async def is_asleep(self, _agent_id: int) -> bool:
        return self.asleep.pop(0) if self.asleep else False

    async def until_moved(self, _agent_id: int, *, timeout: float) -> None:
        assert timeout > 0
        self.moved += 1

    async def bring_back(self, _agent_id: int) -> None:
        self.revived += 1
        self.is_alive = True


def text(seq):
    return protocol.Text(seq=seq, text=f"t{seq}")


def failed(seq, kind):
    return protocol.Failed(seq=seq, kind=kind, text="why", retryable=True)


async def follow(route, **turn):
    row = Turn(
        **{
            "id": "u1",
            "agent_id": 1,
            "chat_id": 2,
            "user_id": 2,
            "message_id": 3,
            "message": "hi",
            "sequence": 1,
            **turn,
        }
    )

    async def request(turn, after, *, retry):
        return protocol.ChatRequest(chat_id="2", message=turn.message, turn_id=turn.id, after=after, retry=retry)

    return [event async for event in Run(route, row, request).events()]


async def test_a_lost_connection_goes_on_behind_the_last_event():
    route = Route([[text(1), text(2), LOST], [text(3), protocol.Done(seq=4)]])

    events = await follow(route)

    assert events == [text(1), text(2), text(3), protocol.Done(seq=4)]
    assert route.asked == [(0, False), (2, False)]


async def test_keepalives_are_left_out():
    route = Route([[protocol.KeepAlive(seq=0), text(1), protocol.KeepAlive(seq=1), protocol.Done(seq=2)]])

    assert await follow(route) == [text(1), protocol.Done(seq=2)]


async def test_a_dead_agent_is_brought_back_and_asked_again():
    route = Route([[LOST], [text(1), protocol.Done(seq=2)]], is_alive=False)

    assert await follow(route) == [AgentDown(), text(1), protocol.Done(seq=2)]
    assert (route.revived, route.asked) == (1, [(0, False), (0, False)])


async def test_a_turn_that_the_agents_restart_interrupted_is_run_again_once():
    interrupted = failed(3, protocol.ErrorKind.INTERRUPTED)
    route = Route([[text(1), LOST], [interrupted], [protocol.Restart(seq=4), text(5), protocol.Done(seq=6)]])

    events = await follow(route)

    starting_over = [protocol.Restart(seq=3), protocol.Restart(seq=4)]
    assert events == [text(1), *starting_over, text(5), protocol.Done(seq=6)]
    assert route.asked == [(0, False), (1, False), (3, True)]


async def test_a_turn_interrupted_twice_is_told_to_the_person():
    kind = protocol.ErrorKind.INTERRUPTED
    route = Route([[failed(1, kind)], [failed(2, kind)]])

    assert await follow(route) == [protocol.Restart(seq=1), failed(2, kind)]


async def test_other_failures_are_told_at_once():
    busy = failed(1, protocol.ErrorKind.BUSY)
    route = Route([[busy]])

    assert await follow(route) == [busy]


async def test_a_retried_turn_asks_for_a_new_run_once():
    route = Route([[LOST], [text(8), LOST], [protocol.Done(seq=9)]])

    events = await follow(route, retry=True, seen=7)

    assert events == [text(8), protocol.Done(seq=9)]
    assert route.asked == [(7, True), (7, True), (8, False)]


async def test_an_agent_that_never_keeps_a_connection_is_given_up():
    route = Route([[LOST]] * MAX_BREAKS)

    with pytest.raises(AgentOffline, match=f"given up after {MAX_BREAKS} lost connections"):
        await follow(route)


async def test_a_message_to_a_sleeping_agent_wakes_it_and_is_answered():
    route = Route([[LOST], [text(1), protocol.Done(seq=2)]], is_alive=False, asleep=[True])

    events = await follow(route)

    assert events == [AgentWaking(), text(1), protocol.Done(seq=2)]
    assert route.revived == 1


async def test_a_message_to_one_that_falls_asleep_wakes_it_again():
    route = Route([[HELD], [text(1), protocol.Done(seq=2)]], asleep=[True])

    events = await follow(route)

    assert events == [AgentWaking(), text(1), protocol.Done(seq=2)]
    assert route.revived == 1


async def test_a_message_waits_while_its_agent_is_handed_over_however_often_it_asks():
    route = Route([[text(1), HELD], *([HELD] for _ in range(2 * MAX_BREAKS)), [text(2), protocol.Done(seq=3)]])

    events = await follow(route)

    assert events == [text(1), AgentMoving(), text(2), protocol.Done(seq=3)]
    assert route.moved == 2 * MAX_BREAKS + 1
    assert route.asked[-1] == (1, False)
    assert route.revived == 0


async def test_a_hand_over_that_does_not_end_is_given_up(monkeypatch):
    monkeypatch.setattr(run, "HELD_SECONDS", -1)

    with pytest.raises(AgentOffline, match="held"):
        await follow(Route([[HELD], [HELD]]))
