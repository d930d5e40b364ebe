"""An agent's machine is replaced, put away and brought back, and the agent does not notice."""

import asyncio

import pytest

from agent import protocol
from bot.errors import AgentHeld, AgentRefused, NotStarted, StoreAway
from bot.fleet.books import MAX_ATTEMPTS
from bot.store.models import MachineState, Phase, Purpose, Wanted
from bot.store.records import Reason
from tests.bot.fleet.world import CARD, OLGA, World
from tests.fakes.libertai import LibertAIDouble

pytestmark = pytest.mark.e2e


@pytest.fixture
async def model():
    async with LibertAIDouble(keys=["LTAI_operator"]) as double:
        yield double


@pytest.fixture
def durable_url(database_url, tmp_path):
    is_server = database_url.startswith("postgresql")
    return database_url if is_server else f"sqlite:///{tmp_path / 'durable.sqlite'}"


@pytest.fixture
async def world(database, durable_url, vault, tmp_path, clock, model):  # noqa: PLR0917  fixtures
    made = World(database, durable_url, vault, tmp_path, clock, inference_url=f"{model.url}/v1")
    await made.fleet.start()
    yield made
    await made.close()


async def running(world):
    agent_id = await world.agent()
    await world.fleet.nudge(agent_id)
    await world.fleet.wait_ready(agent_id, timeout=60)
    return agent_id


async def say(world, agent_id, turn_id, words="hello"):
    """What the agent answers, where it works now."""
    request = protocol.ChatRequest(chat_id=str(OLGA), turn_id=turn_id, message=words, role=protocol.Role.OWNER)
    events = [event async for event in world.client.chat(await world.door(agent_id), request)]
    assert isinstance(events[-1], protocol.Done), events
    return "".join(event.text for event in events if isinstance(event, protocol.Text))


async def remembered(world, agent_id):
    """Turns that the agent holds, oldest first."""
    manifest = await world.manifest(agent_id)
    return manifest.counts["turn"], manifest.last_turn


async def test_another_release_runs_on_another_machine_with_the_same_memory(world):
    agent_id = await running(world)
    before = await world.books.machine(agent_id)
    await say(world, agent_id, "u1")

    await world.fleet.wish(agent_id, release="r2")
    await world.fleet.wait_ready(agent_id, timeout=60)

    after = await world.books.machine(agent_id)
    assert (after.purpose, after.release) == (Purpose.UPDATE, "r2")
    assert after.id != before.id
    assert (await world.health(agent_id)).release == "r2"
    assert await remembered(world, agent_id) == (1, "u1")
    await world.only(after.id)
    assert await say(world, agent_id, "u2")


async def test_a_turn_that_was_answered_before_is_answered_the_same_after(world):
    agent_id = await running(world)
    answer = await say(world, agent_id, "u1")

    await world.fleet.wish(agent_id, release="r2")
    await world.fleet.wait_ready(agent_id, timeout=60)

    assert await say(world, agent_id, "u1") == answer
    assert await remembered(world, agent_id) == (1, "u1")


async def test_the_machine_before_takes_no_turn_after_the_switch(world):
    agent_id = await running(world)
    old = await world.door(agent_id)
    world.provider.faults["give_back"] = [NotStarted("later") for _ in range(99)]

    await world.fleet.wish(agent_id, release="r2")
    await world.fleet.wait_ready(agent_id, timeout=60)

    request = protocol.ChatRequest(chat_id="1", turn_id="late", message="hello", role=protocol.Role.OWNER)
    with pytest.raises(AgentHeld):
        await anext(world.client.chat(old, request))
    world.provider.faults.clear()


async def test_an_update_that_fails_leaves_the_old_one_at_work_and_no_second_machine(world):
    agent_id = await running(world)
    before = await world.books.machine(agent_id)
    await say(world, agent_id, "u1")
    world.engine.faults["run"] = [NotStarted("no such image") for _ in range(MAX_ATTEMPTS)]

    await world.fleet.wish(agent_id, release="broken")
    agent = await world.settled(agent_id)

    assert (agent.phase, agent.release, agent.error) == (Phase.RUNNING, "r1", "not-started")
    assert await world.books.machine(agent_id) == before
    await world.only(before.id)
    assert await say(world, agent_id, "u2")
    told = [key for _, key, _ in world.told.news.values()]
    assert told == ["notice-operator-update-failed"]


async def test_an_update_that_fails_after_the_sealing_unseals(world, monkeypatch):
    agent_id = await running(world)
    activate, refusals = world.client.activate, [1] * MAX_ATTEMPTS

    async def refuse(door, epoch):
        machine = await world.books.machine(agent_id)
        if door.url != machine.url and refusals:
            refusals.pop()
            raise NotStarted("it fell over")
        await activate(door, epoch)

    monkeypatch.setattr(world.client, "activate", refuse)
    await world.fleet.wish(agent_id, release="r2")
    agent = await world.settled(agent_id)

    assert (agent.phase, agent.release) == (Phase.RUNNING, "r1")
    assert await say(world, agent_id, "u1")


async def test_asleep_it_has_no_machine_and_awake_it_remembers(world):
    agent_id = await running(world)
    await say(world, agent_id, "u1")

    await world.fleet.wish(agent_id, wanted=Wanted.ASLEEP)
    agent = await world.settled(agent_id)
    await world.only()

    assert (agent.phase, agent.machine_id) == (Phase.ASLEEP, None)
    assert [each.reason for each in await world.snapshots.of(agent_id)] == [Reason.SLEEP]

    await world.fleet.wish(agent_id, wanted=Wanted.ON)
    await world.fleet.wait_ready(agent_id, timeout=60)

    assert await remembered(world, agent_id) == (1, "u1")
    assert await say(world, agent_id, "u2")
    assert (await world.books.machine(agent_id)).purpose is Purpose.WAKE


async def test_woken_while_it_falls_asleep_it_goes_on(world, monkeypatch):
    agent_id = await running(world)
    verify, reading, release = world.snapshots.verify, asyncio.Event(), asyncio.Event()

    async def wait(snapshot):
        reading.set()
        await release.wait()
        return await verify(snapshot)

    monkeypatch.setattr(world.snapshots, "verify", wait)
    await world.fleet.wish(agent_id, wanted=Wanted.ASLEEP)
    await reading.wait()
    await world.fleet.wish(agent_id, wanted=Wanted.ON)
    release.set()
    await world.fleet.wait_ready(agent_id, timeout=60)

    assert await say(world, agent_id, "u1")


async def test_an_agent_that_cannot_be_put_away_stays_awake(world, monkeypatch):
    agent_id = await running(world)

    async def full(*_args, **_kwargs):
        raise NotStarted("the disk of the store is full")

    monkeypatch.setattr(world.snapshots, "save", full)
    await world.fleet.wish(agent_id, wanted=Wanted.ASLEEP)
    agent = await world.settled(agent_id)

    assert (agent.phase, agent.wanted) == (Phase.RUNNING, Wanted.ON)
    assert await say(world, agent_id, "u1")


async def test_a_machine_that_is_gone_is_followed_by_one_with_the_last_snapshot(world):
    agent_id = await running(world)
    await say(world, agent_id, "u1")
    await world.snapshot(agent_id)
    before = await world.books.machine(agent_id)
    await world.provider.inner.give_back(before.id)

    await world.fleet.lost(await world.books.agent(agent_id))
    await world.fleet.wait_ready(agent_id, timeout=60)

    after = await world.books.machine(agent_id)
    assert after.purpose is Purpose.HEAL
    assert await remembered(world, agent_id) == (1, "u1")
    assert await say(world, agent_id, "u2")
    told = {(user_id, key) for user_id, key, _ in world.told.news.values()}
    assert told == {(OLGA, "notice-healed"), (0, "notice-operator-healed")}
    await world.only(after.id)


async def test_a_machine_that_cannot_be_started_again_but_still_talks_loses_nothing(world):
    agent_id = await running(world)
    await say(world, agent_id, "u1")
    world.engine.faults["run"] = [NotStarted("no")]

    await world.fleet.lost(await world.books.agent(agent_id))
    await world.attempt(agent_id, 2)
    await say(world, agent_id, "u2")
    await world.hurry(agent_id)
    await world.fleet.wait_ready(agent_id, timeout=60)

    assert await remembered(world, agent_id) == (2, "u2")
    assert (await world.books.machine(agent_id)).purpose is Purpose.HEAL


async def test_a_machine_that_came_back_empty_gets_the_last_snapshot(world, tmp_path):
    agent_id = await running(world)
    await say(world, agent_id, "u1")
    await world.snapshot(agent_id)
    machine = await world.books.machine(agent_id)
    await world.engine.wipe(await world.provider.reach(machine.id))

    await world.fleet.lost(await world.books.agent(agent_id))
    await world.fleet.wait_ready(agent_id, timeout=60)

    assert (await world.books.machine(agent_id)).id == machine.id
    assert await remembered(world, agent_id) == (1, "u1")
    assert await say(world, agent_id, "u2")


@pytest.fixture
async def emptied(world, monkeypatch):
    """An agent that has answered u1, on a machine that came back empty: it was started there, and stands by."""
    agent_id = await running(world)
    await say(world, agent_id, "u1")
    await world.snapshot(agent_id)
    machine, revive = await world.books.machine(agent_id), world.transfer.revive
    await world.engine.wipe(await world.provider.reach(machine.id))

    async def away(*_args):
        monkeypatch.setattr(world.transfer, "revive", revive)
        raise StoreAway("not now")

    monkeypatch.setattr(world.transfer, "revive", away)
    await world.fleet.lost(await world.books.agent(agent_id))
    await world.attempt(agent_id, 2)
    assert (await world.health(agent_id)).mode is protocol.Mode.STANDBY
    return agent_id


async def test_an_empty_copy_is_not_taken_for_the_agent_when_it_is_rescued(world, emptied):
    await world.settled(emptied)

    assert await remembered(world, emptied) == (1, "u1")


async def test_an_empty_copy_is_not_put_to_sleep_for_the_agent(world, emptied):
    await world.fleet.wish(emptied, wanted=Wanted.ASLEEP)

    assert (await world.settled(emptied)).phase is Phase.RUNNING
    assert (await world.snapshots.newest(emptied)).last_turn == "u1"


async def test_an_empty_copy_is_not_what_an_update_moves(world, emptied):
    await world.fleet.wish(emptied, release="r2")

    assert (await world.settled(emptied)).release == "r1"
    assert (await world.snapshots.newest(emptied)).last_turn == "u1"


async def test_what_is_deleted_is_kept_for_seven_days(world):
    agent_id = await running(world)
    await say(world, agent_id, "u1")

    await world.agents.delete(agent_id, CARD)
    await world.fleet.nudge(agent_id)
    await world.until(agent_id, Phase.GONE)

    [snapshot] = await world.snapshots.of(agent_id)
    assert (snapshot.reason, snapshot.last_turn) == (Reason.DELETE, "u1")
    assert snapshot.keep_until == world.clock.now + 7 * 86_400
    assert await world.provider.listed() == []


async def test_a_machine_that_is_dead_keeps_no_agent_from_being_deleted(world):
    agent_id = await running(world)
    await world.snapshot(agent_id)
    machine = await world.books.machine(agent_id)
    await world.engine.remove(await world.provider.reach(machine.id))

    await world.agents.delete(agent_id, CARD)
    await world.fleet.nudge(agent_id)
    await world.until(agent_id, Phase.GONE)

    assert [each.keep_until for each in await world.snapshots.of(agent_id)] == [world.clock.now + 7 * 86_400]
    assert {each.state for each in await world.all_machines(agent_id)} == {MachineState.GONE}


async def archive(world, agent_id):
    return [piece async for piece in world.states.archive(agent_id)]


async def pieces(archive):
    for piece in archive:
        yield piece


async def test_a_state_that_was_taken_out_is_put_into_another_agent_which_keeps_its_name(world):
    ada, ben = await running(world), await world.agent("Ben")
    await world.fleet.nudge(ben)
    await world.fleet.wait_ready(ben, timeout=60)
    await say(world, ada, "u1")
    await say(world, ben, "u2")

    await world.states.restore(ben, pieces(await archive(world, ada)))

    assert await remembered(world, ben) == (1, "u1")
    assert (await world.health(ben)).agent_name == "Ben"
    kept = [each for each in await world.snapshots.of(ben) if each.keep_until]
    assert [(each.last_turn, each.keep_until) for each in kept] == [("u2", world.clock.now + 7 * 86_400)]
    assert (await world.snapshots.newest(ben)).last_turn == "u1", "what came from elsewhere is kept as its own now"


async def test_a_sleeping_agent_is_taken_out_of_its_snapshot_and_goes_back_to_an_older_one(world):
    agent_id = await running(world)
    await say(world, agent_id, "u1")
    older = await world.snapshot(agent_id)
    await say(world, agent_id, "u2")
    await world.fleet.wish(agent_id, wanted=Wanted.ASLEEP)
    await world.settled(agent_id)
    assert b"".join(await archive(world, agent_id))

    await world.fleet.wish(agent_id, wanted=Wanted.ON, restore=older.id)
    await world.fleet.wait_ready(agent_id, timeout=60)

    assert await remembered(world, agent_id) == (1, "u1")
    kept = [each for each in await world.snapshots.of(agent_id) if each.keep_until]
    assert [(each.last_turn, each.keep_until) for each in kept] == [("u2", world.clock.now + 7 * 86_400)]


async def test_what_is_no_state_changes_nothing(world):
    agent_id = await running(world)
    await say(world, agent_id, "u1")
    whole = b"".join(await archive(world, agent_id))

    with pytest.raises(AgentRefused, match="bad_snapshot"):
        await world.states.restore(agent_id, pieces([whole[: len(whole) // 2]]))

    assert await remembered(world, agent_id) == (1, "u1")
    assert (await world.books.agent(agent_id)).generation == 1


async def test_a_state_that_the_agent_does_not_take_leaves_it_as_it_was(world, monkeypatch):
    agent_id = await running(world)
    await say(world, agent_id, "u1")
    taken_out = await archive(world, agent_id)
    await say(world, agent_id, "u2")

    async def refuse(*_args):
        raise AgentRefused("bad_snapshot", "its schema is newer")

    monkeypatch.setattr(world.client, "restore", refuse)
    restoring = asyncio.create_task(world.states.restore(agent_id, pieces(taken_out)))
    while not restoring.done():
        await world.hurry(agent_id)
        await asyncio.sleep(0.05)
    with pytest.raises(AgentRefused, match="not_restored"):
        await restoring

    agent = await world.books.agent(agent_id)
    assert (agent.phase, agent.restore_id) == (Phase.RUNNING, None)
    assert await remembered(world, agent_id) == (2, "u2")
    assert await say(world, agent_id, "u3")
