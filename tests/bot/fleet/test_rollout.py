"""A release reaches all agents, whatever happens to the bot meanwhile; and stops where something is wrong."""

import asyncio
import random

import pytest

from bot.accounts.agents import Agents, Card
from bot.errors import RolloutRefused
from bot.fleet.rollout import runner
from bot.fleet.rollout.plan import Plan, default_canaries
from bot.store.models import Draft, Phase, Wanted
from bot.store.records import ItemState, RolloutState
from bot.store.releases import Releases
from tests.bot.fleet.simulated import NEW, OLD, OLGA, Killed, Simulated

PAUSED, SOAKING, ROLLING = RolloutState.PAUSED, RolloutState.SOAKING, RolloutState.ROLLING


@pytest.fixture
def fleet(database, clock):
    return Simulated(database, clock)


@pytest.fixture
def newest(database):
    return Releases(database, OLD).newest


async def test_all_agents_get_the_release_canaries_first_and_never_more_at_once_than_the_surge(fleet):
    ids = await fleet.make(40)
    rollout = await fleet.start(surge=4)

    await fleet.look()
    assert [item.agent_id for item in (await fleet.items(rollout.id)).values() if item.state is ItemState.UPDATING] == [
        ids[0]
    ]
    status = await fleet.go()

    assert (status.state, status.done, status.percent) == (RolloutState.DONE, 40, 100)
    assert set((await fleet.serving()).values()) == {NEW}
    assert fleet.most_at_once == 4


async def test_the_operators_own_agents_are_canaries(fleet):
    await fleet.make(30)
    own = await fleet.make(2, owner=OLGA)
    rollout = await fleet.start(canaries=2)

    canaries = [item.agent_id for item in (await fleet.items(rollout.id)).values() if item.is_canary]

    assert canaries == own


@pytest.mark.parametrize(("agents", "canaries"), [(1, 0), (2, 1), (100, 2), (240, 5), (10_000, 5)])
def test_two_percent_are_canaries_and_five_at_most(agents, canaries):
    assert default_canaries(agents) == canaries


async def test_a_batch_begins_when_the_one_before_has_ended(fleet):
    ids = await fleet.make(21)
    rollout = await fleet.start(canaries=1, batch=3, batch_share=0.2, surge=9)
    await fleet.go(ROLLING)
    fleet.stuck = {ids[2]}

    for _ in range(3):
        await fleet.look()
        await fleet.converge()

    items = await fleet.items(rollout.id)
    assert [items[each].state for each in ids[1:5]] == [
        ItemState.DONE,
        ItemState.UPDATING,
        ItemState.DONE,
        ItemState.WAITING,
    ]
    assert (await fleet.status()).batch == 1
    fleet.stuck = set()
    await fleet.look()
    await fleet.converge()
    await fleet.look()
    updating = [item for item in (await fleet.items(rollout.id)).values() if item.state is ItemState.UPDATING]
    assert len(updating) == 5  # a fifth of 21


async def test_after_the_canaries_there_is_a_soak(fleet):
    await fleet.make(3)
    await fleet.start(canaries=1, soak_minutes=10)
    await fleet.go(SOAKING)
    begun = (await fleet.status()).changed_at

    status = await fleet.go(ROLLING)

    assert 600 <= status.changed_at - begun <= 660


async def test_without_canaries_there_is_no_soak(fleet):
    await fleet.make(3)
    await fleet.start(canaries=0)

    assert (await fleet.status()).state is ROLLING


async def test_a_bot_that_is_killed_at_every_call_in_turn_ends_the_same(fleet):
    await fleet.make(12)
    await fleet.make(2, wanted=Wanted.ASLEEP, phase=Phase.ASLEEP)
    rollout = await fleet.start(canaries=2)
    fleet.kills = range(1, 200, 2)

    for _ in range(200):
        try:
            is_open = await fleet.look()
        except Killed:
            continue
        if not is_open:
            break
        await fleet.converge()
        fleet.clock.now += 60

    status = await fleet.status()
    assert (status.state, status.done, status.asleep, status.failed) == (RolloutState.DONE, 12, 2, 0)
    assert all(agent.generation == 2 for agent in await fleet.agents() if agent.wanted is Wanted.ON)
    assert all(item.state is not ItemState.UPDATING for item in (await fleet.items(rollout.id)).values())


async def test_two_hundred_agents_of_which_three_fail_come_through_kills_pauses_and_sleep(fleet):
    dice = random.Random(6)  # noqa: S311  the same each time
    ids = await fleet.make(200)
    await fleet.start(surge=10)
    fleet.bad = set(dice.sample(ids[10:], 3))
    fleet.kills = set(dice.sample(range(1_000), 60))
    sleeper = dice.choice([each for each in ids[10:] if each not in fleet.bad])

    for number in range(3_000):
        if number == 20:
            await fleet.want(sleeper, Wanted.ASLEEP)
        try:
            if not await fleet.look():
                break
        except Killed:
            continue
        if (await fleet.rollouts.last()).state is PAUSED:
            await fleet.control().resume(skip_failed=True)
        await fleet.converge()
        fleet.clock.now += 60

    status = await fleet.status()
    assert (status.state, status.failed) == (RolloutState.DONE, 3)
    assert status.done + status.asleep == 197
    assert {failure.agent_id for failure in status.failures} == fleet.bad
    assert all(failure.reason == f"not-proved (AB12); it runs {OLD}" for failure in status.failures)
    serving = await fleet.serving()
    assert {agent_id for agent_id, release in serving.items() if release != NEW} <= fleet.bad
    assert next(agent for agent in await fleet.agents() if agent.id == sleeper).release == NEW
    assert fleet.most_at_once <= 11  # the surge, and the one that falls asleep


async def test_two_who_look_at_once_do_no_more_than_one(fleet):
    await fleet.make(20)
    await fleet.start(surge=3)

    for _ in range(100):
        opened = await asyncio.gather(fleet.look(), fleet.look())
        if not any(opened):
            break
        await fleet.converge()
        fleet.clock.now += 60

    status = await fleet.status()
    assert (status.state, status.done) == (RolloutState.DONE, 20)
    assert fleet.most_at_once == 3
    assert {agent.generation for agent in await fleet.agents()} == {2}
    assert [row.what for row in await fleet.auditor.newest()] == [
        "rollout done and closed",
        "rollout rolling",
        "rollout soaking",
        "rollout start",
    ]


async def test_between_passes_that_take_long_only_news_is_looked_for(fleet, monkeypatch):
    monkeypatch.setattr(runner, "PASS_SHARE", 1e-9)
    monkeypatch.setattr(runner, "LONGEST_QUIET", 1e9)
    ids = await fleet.make(6)
    await fleet.start(canaries=0, surge=2)
    one = fleet.runner()
    await one.look()
    reads = Reads(one._rollouts, monkeypatch)

    await one.look()
    assert reads.whole == 0
    await fleet.converge()
    await one.look()
    assert reads.whole > 0
    assert fleet.nudged == ids[:4]
    await fleet.control().pause()
    reads.whole = 0
    await one.look()
    assert reads.whole > 0


class Reads:
    """Counts how often all agents of a rollout are read."""

    def __init__(self, rollouts, monkeypatch):
        self.whole = 0
        read = rollouts.crew

        async def crew(rollout, *, under_way=False):
            self.whole += not under_way
            return await read(rollout, under_way=under_way)

        monkeypatch.setattr(rollouts, "crew", crew)


async def test_who_sleeps_is_not_woken_and_wakes_with_the_release(fleet):
    await fleet.make(3)
    [sleeper] = await fleet.make(1, wanted=Wanted.ASLEEP, phase=Phase.ASLEEP)
    await fleet.start()

    status = await fleet.go()

    agent = (await fleet.agents())[-1]
    assert (agent.id, agent.release, agent.generation) == (sleeper, NEW, 1)
    assert (status.done, status.asleep) == (3, 1)


async def test_while_all_others_are_updated_who_sleeps_keeps_what_it_wakes_with(fleet):
    ids = await fleet.make(3)
    await fleet.make(1, wanted=Wanted.ASLEEP, phase=Phase.ASLEEP)
    await fleet.start(canaries=1, max_failed_share=1)
    fleet.bad = set(ids[1:])

    await fleet.go(PAUSED)

    assert (await fleet.agents())[-1].release == OLD


async def test_an_agent_in_the_middle_of_something_is_waited_for(fleet):
    ids = await fleet.make(3)
    await fleet.start(canaries=0)
    await fleet.want(ids[0], Wanted.ON)
    fleet.stuck = {ids[0]}

    for _ in range(3):
        await fleet.look()
        await fleet.converge()

    status = await fleet.status()
    assert (status.done, status.postponed) == (2, 1)
    fleet.stuck = set()
    assert (await fleet.go()).done == 3


async def test_a_failed_agent_gets_the_release_too_and_its_failure_stops_nobody(fleet):
    ids = await fleet.make(3)
    failed = await fleet.make(2, phase=Phase.FAILED)
    await fleet.start(canaries=1)
    fleet.bad = {failed[0]}

    status = await fleet.go()

    assert (status.state, status.done, status.failed) == (RolloutState.DONE, 4, 1)
    assert status.failures[0].agent_id == failed[0]
    assert (await fleet.serving())[ids[0]] == NEW


async def test_a_deleted_agent_is_passed_over(fleet):
    ids = await fleet.make(3)
    await fleet.start(canaries=1)
    await fleet.want(ids[2], Wanted.DELETED)

    status = await fleet.go()

    assert (status.state, status.done, status.skipped) == (RolloutState.DONE, 2, 1)


async def test_if_the_canary_is_deleted_another_one_goes_first(fleet):
    ids = await fleet.make(3)
    rollout = await fleet.start(canaries=1)
    await fleet.want(ids[0], Wanted.DELETED)

    status = await fleet.go()

    assert status.done == 2
    assert (await fleet.items(rollout.id))[ids[1]].is_canary


async def test_agents_made_meanwhile_get_the_release_when_it_is_done(fleet, newest):
    await fleet.make(3)
    await fleet.start(canaries=1)
    await fleet.go(SOAKING)
    assert await newest() == OLD
    await fleet.make(1, release=await newest())

    status = await fleet.go()

    assert (status.total, status.done) == (4, 4)
    assert set((await fleet.serving()).values()) == {NEW}
    assert await newest() == NEW


async def test_agents_made_after_it_run_the_release(fleet, database, vault):
    await fleet.make(1)
    await fleet.start()
    await fleet.go()

    made = await Agents(database, vault, release=OLD, limit=9).create(
        Draft(user_id=OLGA, chat_id=OLGA, name="Bo", job="cooks", model="m"), Card(OLGA, 1)
    )

    assert made.release == NEW


async def test_a_setting_that_changed_after_the_rollout_comes_first(fleet, database):
    await fleet.make(1)
    await fleet.start()
    await fleet.go()

    assert await Releases(database, OLD).newest() == NEW
    assert await Releases(database, "registry/agent:3").newest() == "registry/agent:3"


async def test_there_is_one_rollout_at_a_time_however_many_start_it(fleet):
    await fleet.make(3)

    ends = await asyncio.gather(*(fleet.start() for _ in range(5)), return_exceptions=True)

    refused = [end for end in ends if isinstance(end, RolloutRefused)]
    assert len(refused) == 4, ends
    assert "open" in str(refused[0])
    assert len(await fleet.items((await fleet.rollouts.open()).id)) == 3
    assert [row.what for row in await fleet.auditor.newest()] == ["rollout start"]


async def test_where_all_have_the_release_there_is_nothing_to_start(fleet):
    await fleet.make(2, release=NEW)

    with pytest.raises(RolloutRefused, match="all 2 agents have"):
        await fleet.start("registry/agent@sha256:" + 64 * "2")


async def test_where_there_are_no_agents_there_is_nothing_to_start(fleet):
    with pytest.raises(RolloutRefused, match="there are no agents"):
        await fleet.start()


async def test_a_plan_changes_nothing(fleet):
    await fleet.make(3)

    draft = await fleet.control().draft(NEW, Plan())

    assert (len(draft.crew), draft.plan.surge) == (3, 5)
    assert await fleet.rollouts.last() is None
    assert [agent.release for agent in await fleet.agents()] == [OLD] * 3
    assert await fleet.auditor.newest() == []
