"""Agents that were updated are asked how they are, and the watcher goes on looking."""

import asyncio
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from bot.errors import AgentOffline, AgentRefused
from bot.fleet.rollout.probes import AgentProbes
from bot.fleet.rollout.watcher import Watcher
from bot.store.models import Machine

MACHINE = Machine(agent_id=1, provider="local", url="http://127.0.0.1:9")


class Agent:
    """An agent, and who knows where it is."""

    def __init__(self, *answers, machine=MACHINE):
        self.answers, self.at = list(answers), machine

    async def agent(self, agent_id):
        return SimpleNamespace(id=agent_id, release="r2")

    async def machine(self, agent_id):
        return self.at

    def secret(self, agent):
        return SecretStr("s")

    async def health(self, door):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(release=answer, model="m")

    async def probe(self, door):
        raise AgentRefused("model-away", "no")


def probes(agent):
    return AgentProbes(agent, agent, agent, pause=0)


@pytest.mark.parametrize(
    ("answers", "is_well"),
    [
        (("r2",), True),
        ((AgentOffline("away"), "r1", "r2"), True),
        ((AgentOffline("away"), AgentOffline("away"), AgentOffline("away")), False),
        (("r1", "r1", "r1"), False),
    ],
)
async def test_one_of_three_tries_is_enough(answers, is_well):
    agent = Agent(*answers)

    assert await probes(agent).health(1) == is_well
    assert agent.answers == []


async def test_without_a_machine_nobody_answers():
    agent = Agent(machine=None)

    assert not await probes(agent).health(1)
    with pytest.raises(AgentOffline):
        await probes(agent).probe(1)


async def test_why_a_turn_fails_is_handed_on():
    with pytest.raises(AgentRefused, match="model-away"):
        await probes(Agent()).probe(1)


async def test_the_watcher_outlives_a_pass_that_fails(caplog):
    passes: asyncio.Queue[None] = asyncio.Queue()

    class Runner:
        async def look(self):
            passes.put_nowait(None)
            if passes.qsize() == 1:
                raise OSError("away")
            return True

    async with Watcher(Runner(), busy=0.001, idle=0.001).watched(), asyncio.timeout(30):
        while passes.qsize() < 3:
            await asyncio.sleep(0.001)

    assert "rollout not looked after why=OSError" in caplog.text
