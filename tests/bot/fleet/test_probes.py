"""Agents that are not well are found, and brought back unless it is the network."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import event

from agent.protocol import Health, Mode
from bot.errors import AgentOffline
from bot.fleet.books import Books
from bot.fleet.probes import AT_ONCE, FAILURES, STORM_SECONDS, Probes
from bot.store.models import Agent, Machine, MachineState, Phase

OLGA = 7_000_000_001


@dataclass
class Ward:
    """Agents and how they are: a mode, or nothing for those that do not answer."""

    database: Any
    modes: dict[int | None, Mode | None] = field(default_factory=dict)
    lost: list[int | None] = field(default_factory=list)
    storms: list[int] = field(default_factory=list)

    async def health(self, agent_id):
        mode = self.modes[agent_id]
        if mode is None:
            raise AgentOffline("gone")
        return Health(status="ok", agent_name="Ada", release="r1", model="m", mode=mode, epoch=1)

    async def admit(self, mode=Mode.ACTIVE, **values):
        machine = Machine(agent_id=0, provider="local", state=MachineState.ACTIVE, url="http://a")
        facts: dict[str, Any] = {
            "name": "Ada",
            "job": "cooks",
            "model": "m",
            "sealed_secret": "",
            "release": "r1",
            "epoch": 1,
        }
        agent = Agent(owner_id=OLGA, **facts | {"phase": Phase.RUNNING, "observed_generation": 1} | values)
        async with self.database.session() as session:
            session.add_all([machine, agent])
            await session.flush()
            agent.machine_id, machine.agent_id = machine.id, agent.id or 0
        self.modes[agent.id or 0] = mode
        return agent

    async def note_lost(self, agent):
        self.lost.append(agent.id)

    async def note_storm(self, count):
        self.storms.append(count)


@pytest.fixture
def ward(database):
    return Ward(database)


def door(agent: Agent, _machine: Machine) -> Any:
    return agent.id


@pytest.fixture
def probes(ward, database, clock):
    return Probes(Books(database), ward, door, ward.note_lost, ward.note_storm, clock=clock)


async def look(probes, times):
    for _ in range(times):
        await probes.look(pause=0)


async def test_who_does_not_answer_several_times_in_a_row_is_brought_back(ward, probes):
    ill, _well = await ward.admit(mode=None), await ward.admit()

    await look(probes, FAILURES - 1)
    assert ward.lost == []
    await look(probes, 1)

    assert ward.lost == [ill.id]


async def test_one_answer_in_between_begins_anew(ward, probes):
    agent = await ward.admit(mode=None)
    await look(probes, FAILURES - 1)
    ward.modes[agent.id] = Mode.ACTIVE
    await look(probes, 1)
    ward.modes[agent.id] = None

    await look(probes, FAILURES - 1)

    assert ward.lost == []


@pytest.mark.parametrize("mode", [Mode.SEALED, Mode.STANDBY])
async def test_who_answers_and_takes_no_turns_is_brought_back(ward, probes, mode):
    agent = await ward.admit(mode=mode)

    await look(probes, FAILURES)

    assert ward.lost == [agent.id]


async def test_who_is_being_moved_is_not_asked(ward, probes):
    await ward.admit(mode=None, generation=2)
    await ward.admit(mode=None, phase=Phase.DOZING)

    await look(probes, FAILURES)

    assert ward.lost == []


async def test_who_moves_while_it_is_asked_is_not_ill(ward, probes, database):
    agent = await ward.admit(mode=None)

    async def move(_):
        async with database.session() as session:
            (await session.get_one(Agent, agent.id)).epoch += 1
        raise AgentOffline("its machine has gone")

    ward.health = move

    await look(probes, FAILURES)

    assert ward.lost == []


async def test_many_are_read_together(ward, probes, database):
    for _ in range(2 * AT_ONCE):
        await ward.admit()
    statements = []
    event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *facts: statements.append(facts[2]))

    await look(probes, 1)

    assert sum(words.startswith("SELECT") for words in statements) <= 3


async def test_where_many_fail_at_once_nobody_is_moved_and_the_operator_hears(ward, probes, clock):
    for _ in range(10):
        await ward.admit(mode=None)

    await look(probes, FAILURES)

    assert len(ward.lost) == 3
    assert ward.storms == [4, 5, 6, 7, 8, 9, 10]
    ward.lost.clear()
    clock.now += STORM_SECONDS + 1
    await look(probes, 1)
    assert len(ward.lost) == 3
