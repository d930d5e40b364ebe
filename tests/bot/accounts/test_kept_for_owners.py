"""What is kept of deleted agents, and of imports, in the rows of each database."""

import asyncio

import pytest

from bot.accounts.agents import Agents, Card
from bot.accounts.deleted import DeletedAgents
from bot.accounts.imports import EXPIRES_AFTER, Imports
from bot.store.models import Agent, Draft, Phase, Wanted
from bot.store.records import Reason, Snapshot, SnapshotState

OLGA, DAY = 42, 86_400


@pytest.fixture
def agents(database, vault) -> Agents:
    return Agents(database, vault, release="v1", limit=1)


@pytest.fixture
def deleted(database, agents, clock) -> DeletedAgents:
    return DeletedAgents(database, agents, clock=clock)


async def gone(database, agents, clock, *kept: float) -> Agent:
    """A deleted agent, and snapshots that are kept for so many seconds more."""
    agent = await agents.create(Draft(user_id=OLGA, chat_id=OLGA, name="Ada", job="j", model="m"), Card(OLGA, 1))
    async with database.session() as session:
        row = await session.get_one(Agent, agent.id)
        row.wanted, row.phase, row.observed_generation = Wanted.DELETED, Phase.GONE, row.generation
        for seconds in kept:
            facts = {"reason": Reason.DELETE, "state": SnapshotState.WHOLE, "keep_until": clock.now + seconds}
            session.add(Snapshot(agent_id=agent.id, **facts))
    return row


async def test_a_deleted_agent_is_there_until_the_last_of_its_snapshots_goes(database, agents, deleted, clock):
    agent = await gone(database, agents, clock, 2 * DAY, 7 * DAY, -1)

    [found] = await deleted.of(OLGA)
    assert (found.agent.id, found.until) == (agent.id, clock.now + 7 * DAY)
    clock.now += 7 * DAY
    assert await deleted.of(OLGA) == []
    assert not await deleted.bring_back(agent.id, OLGA, Card(OLGA, 2))


async def test_pressed_twice_at_once_it_is_wanted_once(database, agents, deleted, clock):
    agent = await gone(database, agents, clock, DAY)

    done = await asyncio.gather(*(deleted.bring_back(agent.id, OLGA, Card(OLGA, 2)) for _ in range(2)))

    assert sorted(done) == [False, True]
    assert (await agents.get(agent.id)).generation == agent.generation + 1


async def test_two_at_once_do_not_pass_the_limit(database, agents, deleted, clock):
    both = [await gone(database, agents, clock, DAY), await gone(database, agents, clock, DAY)]

    done = await asyncio.gather(
        *(deleted.bring_back(agent.id, OLGA, Card(OLGA, 2)) for agent in both), return_exceptions=True
    )

    assert [each for each in done if each is True] == [True]
    assert len(await agents.owned(OLGA)) == 1


async def test_a_file_is_waited_for_ten_minutes(database, clock):
    imports = Imports(database, clock=clock)
    await imports.want(OLGA)

    assert await imports.is_wanted(OLGA)
    clock.now += EXPIRES_AFTER
    assert not await imports.is_wanted(OLGA)


async def test_a_file_that_came_ends_the_wait_and_stays_until_it_is_used(database, clock):
    imports = Imports(database, clock=clock)
    await imports.want(OLGA)
    await imports.keep(OLGA, "f1", created=5.0, messages=7)
    await imports.close(OLGA)

    kept = await imports.get(OLGA)
    assert kept is not None
    assert (kept.file_id, kept.created, kept.messages) == ("f1", 5.0, 7)
    assert not await imports.is_wanted(OLGA)
    await imports.drop(OLGA)
    assert await imports.get(OLGA) is None
