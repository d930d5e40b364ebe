"""Wishes come true on real machines (folders with real agent processes), with a real durable engine."""

import asyncio

import pytest
from sqlalchemy import update
from sqlmodel import col

from bot.errors import AgentOffline, MachineError, NoCapacity, NotReached, NotStarted
from bot.fleet import converge, fleet, lease
from bot.fleet.books import MAX_ATTEMPTS
from bot.fleet.converge import AT_ONCE
from bot.fleet.durable import Attempt, Durable
from bot.fleet.orphans import LOST_SECONDS
from bot.store.models import Agent, MachineState, Phase, Purpose
from tests.bot.fleet.world import CARD, OLGA, World

pytestmark = pytest.mark.e2e


@pytest.fixture
def durable_url(database_url, tmp_path):
    is_server = database_url.startswith("postgresql")
    return database_url if is_server else f"sqlite:///{tmp_path / 'durable.sqlite'}"


@pytest.fixture
async def world(database, durable_url, vault, tmp_path, clock):
    made = World(database, durable_url, vault, tmp_path, clock)
    await made.fleet.start()
    yield made
    await made.close()


async def test_a_new_agent_is_rented_a_machine_started_and_proved(world):
    agent_id = await world.agent()

    await world.fleet.nudge(agent_id)
    await world.fleet.wait_ready(agent_id, timeout=30)

    assert (await world.health(agent_id)).agent_name == "Ada"
    machine = await world.books.machine(agent_id)
    assert (machine.state, await world.provider.listed()) == (MachineState.ACTIVE, [machine.id])
    async with asyncio.timeout(30):
        while world.shown.phases[-1] is not Phase.RUNNING:
            await asyncio.sleep(0.02)
    assert world.shown.phases == [
        Phase.RENTING,
        Phase.REACHING,
        Phase.PREPARING,
        Phase.STARTING,
        Phase.PROVING,
        Phase.RUNNING,
    ]


async def test_nudging_twice_is_one_deployment(world):
    agent_id = await world.agent()

    await asyncio.gather(*(world.fleet.nudge(agent_id) for _ in range(5)))
    await world.fleet.wait_ready(agent_id, timeout=30)

    assert len(await world.provider.listed()) == 1


async def test_a_killed_agent_is_brought_back_once_however_many_notice(world):
    agent_id = await world.agent()
    await world.fleet.nudge(agent_id)
    await world.fleet.wait_ready(agent_id, timeout=30)
    agent, machine = await world.books.agent(agent_id), await world.books.machine(agent_id)
    await world.engine.remove(await world.provider.reach(machine.id))

    await asyncio.gather(*(world.fleet.lost(agent) for _ in range(5)))
    await world.fleet.wait_ready(agent_id, timeout=30)

    assert (await world.books.agent(agent_id)).generation == 2
    assert (await world.health(agent_id)).agent_name == "Ada"
    assert await world.provider.listed() == [machine.id]


async def test_a_deleted_agent_gives_its_machine_back(world):
    agent_id = await world.agent()
    await world.fleet.nudge(agent_id)
    await world.fleet.wait_ready(agent_id, timeout=30)
    await world.chats.talk_to(OLGA, agent_id)

    await world.agents.delete(agent_id, CARD)
    await world.fleet.nudge(agent_id)
    await world.until(agent_id, Phase.GONE)

    assert await world.provider.listed() == []
    assert await world.books.machines(agent_id) == []
    assert await world.chats.agent_id(OLGA) is None


async def test_an_agent_deleted_while_it_is_deployed_leaves_no_machine(world):
    agent_id = await world.agent()
    await world.fleet.nudge(agent_id)
    await world.until(agent_id, Phase.STARTING)

    await world.agents.delete(agent_id, CARD)
    await world.fleet.nudge(agent_id)
    await world.until(agent_id, Phase.GONE)

    assert await world.provider.listed() == []


async def test_a_failed_attempt_gives_its_machine_back_and_is_tried_again_later(world):
    world.engine.faults["run"] = [NotStarted("no", log="")]
    agent_id = await world.agent()

    await world.fleet.nudge(agent_id)
    agent = await attempt(world, agent_id, 2)

    assert agent.error == "not-started"
    assert len(agent.error_code) == 4
    assert await world.provider.listed() == []
    world.clock.now = agent.next_at
    await world.fleet.nudge(agent_id)
    await world.fleet.wait_ready(agent_id, timeout=30)
    assert (await world.books.agent(agent_id)).error is None


async def attempt(world, agent_id, number):
    async with asyncio.timeout(30):
        while (agent := await world.books.agent(agent_id)).attempt < number:
            await asyncio.sleep(0.02)
    return agent


async def test_after_the_last_attempt_it_has_failed_and_nothing_is_paid_for(world):
    world.provider.faults["rent"] = [NoCapacity("full") for _ in range(MAX_ATTEMPTS)]
    agent_id = await world.agent()

    for number in range(1, MAX_ATTEMPTS + 1):
        await world.fleet.nudge(agent_id)
        if number < MAX_ATTEMPTS:
            world.clock.now = (await attempt(world, agent_id, number + 1)).next_at
    agent = await world.until(agent_id, Phase.FAILED)

    assert agent.error == "no-capacity"
    assert await world.books.machines(agent_id) == []
    with pytest.raises(AgentOffline):
        await world.fleet.wait_ready(agent_id, timeout=5)

    await world.agents.try_again(agent_id, CARD)
    await world.fleet.nudge(agent_id)
    await world.fleet.wait_ready(agent_id, timeout=30)


async def test_a_machine_that_cannot_be_given_back_stays_in_the_books_until_it_is(world):
    agent_id = await world.agent()
    await world.fleet.nudge(agent_id)
    await world.fleet.wait_ready(agent_id, timeout=30)
    world.provider.faults["give_back"] = [MachineError("the provider is away")]

    await world.agents.delete(agent_id, CARD)
    await world.fleet.nudge(agent_id)
    agent = await attempt(world, agent_id, 2)

    assert agent.phase is not Phase.GONE
    world.clock.now = agent.next_at
    await world.fleet.nudge(agent_id)
    await world.until(agent_id, Phase.GONE)
    assert await world.provider.listed() == []


async def test_an_agent_that_has_talked_keeps_its_machine_when_it_cannot_be_started(world):
    agent_id = await world.agent()
    await world.fleet.nudge(agent_id)
    await world.fleet.wait_ready(agent_id, timeout=30)
    machine = await world.books.machine(agent_id)
    world.engine.faults["run"] = [NotStarted("no", log="")]

    await world.fleet.lost(await world.books.agent(agent_id))
    await attempt(world, agent_id, 2)

    assert await world.provider.listed() == [machine.id]


async def test_losing_the_durable_database_loses_no_wish(world, database, tmp_path):
    await world.fleet.stop()
    agent_id = await world.agent()
    for path in tmp_path.glob("durable.sqlite*"):
        path.unlink()
    if database.is_server:
        async with database.transaction() as transaction:
            await transaction.exec_driver_sql("DROP SCHEMA dbos CASCADE")

    world.fleet = world.new_fleet()
    await world.fleet.start()

    await world.fleet.wait_ready(agent_id, timeout=30)


async def test_a_workflow_that_ended_without_a_word_is_tried_under_a_new_number(world):
    agent_id = await world.agent()
    await world.fleet.stop()
    durable = Durable(world.durable_url)
    finished = asyncio.Event()

    async def do_nothing(_attempt):
        finished.set()

    await durable.start(do_nothing)
    silent = Attempt(agent_id, 1, 1)
    await durable.submit(silent)
    async with asyncio.timeout(30):
        await finished.wait()
        while not await durable.has_ended(silent):
            await asyncio.sleep(0.02)
    await durable.stop()

    world.fleet = world.new_fleet()
    await world.fleet.start()

    await world.fleet.wait_ready(agent_id, timeout=30)
    assert (await world.books.agent(agent_id)).attempt == 2


async def test_a_machine_that_the_provider_has_lost_is_replaced_without_anybody_noticing(world, monkeypatch):
    monkeypatch.setattr(fleet, "ORPHANS_SECONDS", 0.02)
    await restart(world)
    agent_id = await world.agent()
    await world.fleet.nudge(agent_id)
    await world.fleet.wait_ready(agent_id, timeout=30)
    machine = await world.books.machine(agent_id)
    await world.provider.inner.give_back(machine.id)
    world.clock.now += 1

    async with asyncio.timeout(30):
        while (await world.books.agent(agent_id)).generation == 1:
            world.clock.now += LOST_SECONDS
            await asyncio.sleep(0.02)
    await world.fleet.wait_ready(agent_id, timeout=30)

    assert (await world.health(agent_id)).agent_name == "Ada"


async def restart(world):
    await world.fleet.stop()
    world.fleet = world.new_fleet()
    await world.fleet.start()


async def test_a_machine_that_cannot_be_given_back_keeps_no_other_from_it(world):
    agent_id = await world.agent()
    await world.fleet.nudge(agent_id)
    await world.fleet.wait_ready(agent_id, timeout=30)
    first = await world.books.intend(agent_id, "local", Purpose.UPDATE)
    await world.provider.rent(first.id)
    world.provider.faults["give_back"] = [MachineError("the provider is away")]

    await world.agents.delete(agent_id, CARD)
    await world.fleet.nudge(agent_id)
    await attempt(world, agent_id, 2)

    assert len(await world.provider.listed()) == 1
    assert {machine.state for machine in await world.books.machines(agent_id)} == {MachineState.DOOMED}


async def test_deleting_ends_a_deployment_that_waits_for_its_machine(world, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
    agent_id, reaching = await world.agent(), asyncio.Event()

    async def wait_for_ever(_machine_id):
        reaching.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(world.provider.inner, "reach", wait_for_ever)
    await world.fleet.nudge(agent_id)
    await reaching.wait()

    await world.agents.delete(agent_id, CARD)
    await world.fleet.nudge(agent_id)
    await world.until(agent_id, Phase.GONE)

    assert await world.provider.listed() == []


async def test_machines_that_are_slow_to_come_keep_no_other_from_being_given_back(world, monkeypatch):
    ready = await world.agent("Ada")
    await world.fleet.nudge(ready)
    await world.fleet.wait_ready(ready, timeout=30)
    monkeypatch.setattr(world.agents, "limit", 99)
    release = asyncio.Event()

    async def wait_long(_machine_id):
        await release.wait()
        raise NotReached("in vain")

    monkeypatch.setattr(world.provider.inner, "reach", wait_long)
    slow = [await world.agent(f"Ben {number}") for number in range(AT_ONCE + 1)]
    for agent_id in slow:
        await world.fleet.nudge(agent_id)

    await world.agents.delete(ready, CARD)
    await world.fleet.nudge(ready)

    await world.until(ready, Phase.GONE)
    release.set()
    for agent_id in slow:
        await attempt(world, agent_id, 2)


async def test_what_waits_for_a_lease_keeps_no_slot_from_others(world, database, monkeypatch):
    monkeypatch.setattr(converge, "AT_ONCE", 1)
    await world.fleet.stop()
    held, free = await world.agent("Ada"), await world.agent("Ben")
    async with database.transaction() as transaction:
        lent = {"lease_owner": "somebody who died", "lease_until": world.clock.now + 60}
        await transaction.execute(update(Agent).where(col(Agent.id) == held).values(**lent))

    world.fleet = world.new_fleet()
    await world.fleet.start()
    await world.fleet.wait_ready(free, timeout=30)

    assert (await world.books.agent(held)).phase is Phase.WAITING
    world.clock.now += 61
    await world.fleet.wait_ready(held, timeout=30)


async def test_a_wish_that_came_true_before_a_crash_is_not_gone_through_again(world):
    agent_id = await world.agent()
    await world.fleet.nudge(agent_id)
    await world.fleet.wait_ready(agent_id, timeout=30)

    assert not await world.books.enter(Attempt(agent_id, 1, 1), Phase.RENTING)

    assert (await world.books.agent(agent_id)).phase is Phase.RUNNING


async def test_a_provider_that_is_slow_to_take_machines_back_does_not_hold_up_the_sweep(world, monkeypatch):
    # The sweep of the fleet that is there already must not come first.
    await world.fleet.stop()
    failed = await world.agent("Ada")
    machine = await world.books.intend(failed, "local", Purpose.DEPLOY)
    await world.books.note(machine.id, MachineState.DOOMED)
    await world.books.fail(Attempt(failed, 1, 1), error="failed", code="0000", forever=False)
    await world.books.fail(Attempt(failed, 1, 2), error="failed", code="0000", forever=False)
    await world.books.fail(Attempt(failed, 1, 3), error="failed", code="0000", forever=False)
    asked = asyncio.Event()

    async def think(_machine_id):
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(fleet, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(world.provider.inner, "give_back", think)
    world.fleet = world.new_fleet()
    await world.fleet.start()
    async with asyncio.timeout(30):
        await asked.wait()

    agent_id = await world.agent("Ben")

    await world.fleet.wait_ready(agent_id, timeout=30)
    monkeypatch.undo()
