"""/new to an agent that does not answer: its next turn begins a new conversation, whatever breaks in between."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from agent import protocol
from bot.accounts.agents import Agents, Card
from bot.accounts.limits import Limits
from bot.accounts.users import Person, Users
from bot.chat.files import Files, Source
from bot.chat.route import Route
from bot.chat.turns import Ask, Turns
from bot.errors import AgentOffline
from bot.store.models import Draft

OLGA = 7_000_000_001


@dataclass
class SleepyRoute:
    """An agent that is away until it is brought back."""

    is_up_now: bool = False
    called: list[str] = field(default_factory=list)

    async def forget(self, _agent_id: int, _chat_id: str) -> None:
        if not self.is_up_now:
            raise AgentOffline("away")
        self.called.append("forget")

    async def chat(self, _agent_id: int, request: protocol.ChatRequest) -> Any:
        self.called.append(request.message)
        yield protocol.Done(seq=1)

    async def is_up(self, _agent_id: int) -> bool:
        return self.is_up_now

    async def is_asleep(self, _agent_id: int) -> bool:
        return not self.is_up_now

    async def bring_back(self, _agent_id: int) -> None:
        self.is_up_now = True


@pytest.fixture
def route():
    return SleepyRoute()


@pytest.fixture
def turns(database, vault, clock, route):
    agents, limits = Agents(database, vault, release="r1", limit=3), Limits(database, daily_messages=9, clock=clock)
    way = cast("Route", route)
    files = Files(database, way, cast("Source", None))
    return Turns(database, limits, Users(database, vault), agents, way, files=files)


@pytest.fixture
async def agent(database, vault):
    await Users(database, vault).meet(Person(OLGA, "Olga", "en"))
    draft = Draft(user_id=OLGA, chat_id=OLGA, name="Ada", job="cooks", model="m")
    return await Agents(database, vault, release="r1", limit=3).create(draft, Card(OLGA, 1))


async def accept(turns, agent, number, chat_id=OLGA):
    asked = Ask(agent=agent, chat_id=chat_id, user_id=OLGA, message_id=number, message=f"m{number}", update_id=number)
    await turns.accept(asked)


async def run_all(turns, chat_id=OLGA):
    while turn := await turns.next(chat_id):
        async for _ in turns.events(turn):
            pass
        await turns.finish(turn, answered=True, is_charged=True)


async def test_who_answers_forgets_at_once(turns, agent, route):
    route.is_up_now = True

    assert await turns.forget(OLGA, agent)
    await accept(turns, agent, 1)
    await run_all(turns)

    assert route.called == ["forget", "m1"]


async def test_who_is_asleep_is_woken_by_the_next_message_and_forgets_before_it_and_only_then(turns, agent, route):
    assert not await turns.forget(OLGA, agent)
    assert not await turns.forget(OLGA, agent)
    for number in (1, 2):
        await accept(turns, agent, number)
    await run_all(turns)

    assert route.called == ["forget", "m1", "m2"]


async def test_what_was_asked_before_it_still_belongs_to_the_old_conversation(turns, agent, route):
    await accept(turns, agent, 1)
    await turns.forget(OLGA, agent)
    await accept(turns, agent, 2)
    await run_all(turns)

    assert route.called == ["m1", "forget", "m2"]


async def test_other_chats_keep_their_conversation(turns, agent, route):
    await turns.forget(OLGA, agent)
    await accept(turns, agent, 1, chat_id=OLGA + 1)
    await run_all(turns, OLGA + 1)

    assert route.called == ["m1"]


async def test_a_bot_that_dies_between_forgetting_and_asking_goes_on_without_forgetting_more(turns, agent, route):
    await turns.forget(OLGA, agent)
    await accept(turns, agent, 1)
    route.is_up_now = True
    turn = await turns.next(OLGA)
    await turns._request(turn, 0, retry=False)

    await run_all(turns)

    assert route.called == ["forget", "m1"]
