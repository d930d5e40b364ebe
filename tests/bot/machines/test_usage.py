"""An agent's usage is asked for with little patience, and agents may be old, slow, away or wrong."""

import asyncio
from typing import Any

import pytest
from litestar import Litestar, Request, get
from litestar.response import Response
from pydantic import SecretStr

from agent.protocol import Spending, Spendings
from bot.errors import AgentOffline, AgentRefused
from bot.machines import client as module
from bot.machines.client import AgentClient, Door
from tests.fakes.libertai_serving import Serving

SPENT = Spending(
    chat_id="7",
    day="2026-11-21",
    turns=1,
    prompt_tokens=2,
    cached_tokens=1,
    completion_tokens=3,
    tool_calls=0,
    milliseconds=5,
)


class Usage:
    """An agent that knows nothing but its usage, and answers with it when it is let."""

    def __init__(self) -> None:
        self.body: Any = Spendings(days=(SPENT,)).model_dump()
        self.status = 200
        self.asked: list[tuple[str, str]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.serving = Serving(Litestar([self._usage()], openapi_config=None, logging_config=None))

    def _usage(self) -> Any:
        @get("/usage")
        async def usage(request: Request[Any, Any, Any]) -> Response[Any]:
            self.asked.append((request.query_params["since"], request.headers["Authorization"]))
            await self.may_answer.wait()
            return Response(self.body, status_code=self.status)

        return usage


@pytest.fixture
async def agent():
    made = Usage()
    await made.serving.start()
    yield made
    made.may_answer.set()
    await made.serving.stop()


@pytest.fixture
async def client():
    made = AgentClient()
    yield made
    await made.close()


@pytest.fixture
def door(agent):
    return Door(url=agent.serving.url, secret=SecretStr("s3cret"))


async def test_usage_is_asked_for_since_a_day_and_with_the_secret(agent, client, door):
    assert await client.usage(door, "2026-11-21") == Spendings(days=(SPENT,))
    assert agent.asked == [("2026-11-21", "Bearer s3cret")]


@pytest.mark.parametrize(
    ("status", "body"), [(404, {"detail": "Not Found"}), (409, {"kind": "standby", "text": "t"}), (200, {"days": 1})]
)
async def test_an_agent_that_does_not_know_it_or_answers_something_else_refuses(agent, client, door, status, body):
    agent.status, agent.body = status, body

    with pytest.raises(AgentRefused):
        await client.usage(door, "2026-11-21")


async def test_a_slow_agent_is_as_good_as_away(agent, client, door, monkeypatch):
    monkeypatch.setattr(module, "GLANCE_SECONDS", 0.05)
    agent.may_answer.clear()

    with pytest.raises(AgentOffline):
        await client.usage(door, "2026-11-21")


async def test_an_agent_that_is_away_is_offline(agent, client, door):
    await agent.serving.stop()

    with pytest.raises(AgentOffline):
        await client.usage(door, "2026-11-21")
