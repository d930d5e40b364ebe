"""A rollout pauses by itself, says why, and what the operator says to it counts."""

import pytest
from sqlmodel import select

from bot.errors import RolloutRefused
from bot.fleet.rollout.status import card
from bot.store.models import Phase, Wanted
from bot.store.records import ItemState, Notice, RolloutState
from bot.store.releases import Releases
from tests.bot.fleet.simulated import NEW, OLD, Simulated

CANARY, PAUSED, SOAKING = RolloutState.CANARY, RolloutState.PAUSED, RolloutState.SOAKING
ROLLING, DONE, ABORTED = RolloutState.ROLLING, RolloutState.DONE, RolloutState.ABORTED


@pytest.fixture
def fleet(database, clock):
    return Simulated(database, clock)


async def told(database):
    async with database.session() as session:
        return list(await session.exec(select(Notice)))


async def test_a_canary_that_fails_pauses_it_and_the_other_canaries_go_back(fleet, database):
    ids = await fleet.make(30)
    rollout = await fleet.start(canaries=3)
    fleet.bad = {ids[1]}

    status = await fleet.go(PAUSED)

    assert status.reason == f"canary failed: agent {ids[1]}: not-proved (AB12); it runs {OLD}"
    for _ in range(4):
        await fleet.look()
        await fleet.converge()
    assert set((await fleet.serving()).values()) == {OLD}
    assert {item.state for item in (await fleet.items(rollout.id)).values()} == {ItemState.WAITING, ItemState.FAILED}
    [notice] = await told(database)
    assert (notice.user_id, notice.text) == (0, "notice-operator-rollout-paused")
    assert notice.facts == {"rollout": rollout.id, "release": NEW, "reason": status.reason}


async def test_resumed_after_a_canary_failed_all_canaries_are_tried_again(fleet):
    ids = await fleet.make(10)
    await fleet.start(canaries=2)
    fleet.bad = {ids[1]}
    await fleet.go(PAUSED)
    await fleet.look()
    await fleet.converge()
    fleet.bad = set()

    await fleet.control().resume()

    assert (await fleet.status()).state is CANARY
    status = await fleet.go()
    assert (status.state, status.done) == (DONE, 10)


async def test_canaries_stay_updated_if_the_operator_wants_it_so(fleet):
    ids = await fleet.make(10)
    await fleet.start(canaries=2, takes_back=False)
    fleet.bad = {ids[1]}
    await fleet.go(PAUSED)

    await fleet.look()
    await fleet.converge()

    assert (await fleet.serving())[ids[0]] == NEW


async def test_a_canary_that_cannot_be_taken_back_is_tried_once(fleet):
    ids = await fleet.make(10)
    rollout = await fleet.start(canaries=2, surge=1)
    fleet.bad = {ids[1]}
    await fleet.go(PAUSED)
    fleet.bad = set(ids)

    for _ in range(8):
        await fleet.look()
        await fleet.converge()

    assert (await fleet.items(rollout.id))[ids[0]].reason == "could not be taken back: not-proved (AB12)"
    assert fleet.nudged.count(ids[0]) == 2


async def test_without_a_canary_that_failed_it_goes_on_with_the_others(fleet):
    ids = await fleet.make(10)
    await fleet.start(canaries=2, takes_back=False)
    fleet.bad = {ids[1]}
    await fleet.go(PAUSED)

    await fleet.control().resume(skip_failed=True)

    status = await fleet.go()
    assert (status.state, status.done, status.failed) == (DONE, 9, 1)


async def test_two_failures_in_a_batch_pause_it(fleet):
    ids = await fleet.make(10)
    await fleet.start(canaries=0, batch=5, max_failed_share=1, surge=1)
    fleet.bad = {ids[2], ids[4]}

    status = await fleet.go(PAUSED)

    assert status.reason.startswith(f"2 of 5 in batch 1 failed: agent {ids[2]}: not-proved (AB12)")
    assert status.waiting == 5


async def test_a_twentieth_of_a_batch_is_enough_too(fleet):
    ids = await fleet.make(50)
    await fleet.start(canaries=0, batch=40, surge=40)
    fleet.bad = {ids[2]}

    # 5 % of 40 are two.
    assert (await fleet.go()).state is DONE
    await fleet.undo()
    assert (await fleet.go(DONE)).done == 49


async def test_one_failure_in_a_small_batch_pauses_it(fleet):
    ids = await fleet.make(10)
    await fleet.start(canaries=0)
    fleet.bad = {ids[2]}

    assert (await fleet.go(PAUSED)).reason.startswith("1 of 5 in batch 1 failed")


async def test_a_canary_that_falls_ill_in_the_soak_pauses_it(fleet):
    ids = await fleet.make(10)
    await fleet.start(canaries=1)
    await fleet.go(SOAKING)
    fleet.unwell = {ids[0]}

    status = await fleet.go(PAUSED)

    assert status.reason == f"canary failed: agent {ids[0]} does not answer"
    await fleet.look()
    await fleet.converge()
    assert (await fleet.serving())[ids[0]] == OLD


async def test_a_canary_whose_model_does_not_answer_a_turn_pauses_it(fleet):
    ids = await fleet.make(10)
    await fleet.start(canaries=1)
    fleet.mute = {ids[0]}

    status = await fleet.go(PAUSED)

    assert status.reason == (f"canary failed: agent {ids[0]} answers no turn: model-away: the model does not answer")


@pytest.mark.parametrize(
    ("turns", "failed", "others_failed", "pauses"),
    [(20, 4, 1, True), (19, 4, 1, False), (20, 1, 0, False), (20, 4, 2, False), (20, 3, 0, True)],
)
async def test_errors_of_updated_agents_are_compared_with_those_of_the_others(
    fleet, turns, failed, others_failed, pauses
):
    ids = await fleet.make(10)
    await fleet.say(ids[5], 20, failed=others_failed)
    await fleet.start(canaries=1)
    await fleet.go(SOAKING)
    await fleet.say(ids[0], turns, failed=failed)

    status = await fleet.go(PAUSED, ROLLING)

    assert (status.state is PAUSED) == pauses
    if pauses:
        assert status.reason.startswith(f"{failed / turns:.0%} of {turns} turns of updated agents failed")


async def test_resumed_after_errors_it_counts_anew(fleet):
    ids = await fleet.make(10)
    await fleet.start(canaries=1, takes_back=False)
    await fleet.go(SOAKING)
    await fleet.say(ids[0], 20, failed=9)
    await fleet.go(PAUSED)
    fleet.clock.now += 60

    await fleet.control().resume()

    assert (await fleet.status()).state is SOAKING
    assert (await fleet.go()).state is DONE


async def test_without_progress_it_pauses_and_names_whom_it_waits_for(fleet):
    ids = await fleet.make(10)
    await fleet.start(canaries=0)
    fleet.stuck = {ids[3]}

    status = await fleet.go(PAUSED, minutes=5)

    assert status.reason == f"no progress in 40 minutes; waiting for agent {ids[3]}"


async def test_paused_time_is_no_lack_of_progress(fleet):
    await fleet.make(10)
    await fleet.start(canaries=0)
    await fleet.look()
    await fleet.control().pause()
    fleet.clock.now += 6 * 3600

    await fleet.control().resume()
    await fleet.look()

    assert (await fleet.status()).state is ROLLING


async def test_without_credits_for_one_more_machine_it_pauses(fleet):
    await fleet.make(10)
    await fleet.start(canaries=0)
    fleet.count = 0

    status = await fleet.go(PAUSED)

    assert "the credits do not allow one more machine" in status.reason
    assert (status.waiting, fleet.nudged) == (10, [])
    fleet.count = 2
    await fleet.control().resume()
    await fleet.go()
    assert fleet.most_at_once == 2


async def test_with_a_short_runway_it_pauses(fleet):
    await fleet.make(10)
    await fleet.start(canaries=0)
    fleet.hours = 47.0

    assert (await fleet.go(PAUSED)).reason == "the credits last 47 h, less than 48 h: top up the wallet"


async def test_paused_nothing_new_begins_and_what_is_under_way_ends(fleet):
    ids = await fleet.make(10)
    await fleet.start(canaries=0, surge=2)
    await fleet.look()
    await fleet.control().pause()
    for _ in range(3):
        await fleet.converge()
        await fleet.look()

    status = await fleet.status()

    assert (status.state, status.done, status.waiting) == (PAUSED, 2, 8)
    assert fleet.nudged == ids[:2]
    assert status.reason == "olga has paused it"
    await fleet.control().resume()
    assert (await fleet.go()).done == 10


async def test_aborted_it_closes_when_what_is_under_way_has_ended(fleet):
    await fleet.make(10)
    await fleet.start(canaries=0, surge=2)
    await fleet.look()
    await fleet.control().abort()
    await fleet.look()
    assert (await fleet.status()).is_open

    await fleet.converge()
    await fleet.look()

    status = await fleet.status()
    assert (status.state, status.is_open, status.done, status.skipped) == (ABORTED, False, 2, 8)
    assert sorted((await fleet.serving()).values()) == [OLD] * 8 + [NEW] * 2


async def test_aborted_with_nothing_under_way_it_is_closed_at_once(fleet):
    await fleet.make(3)
    await fleet.start(canaries=0)

    await fleet.control().abort()

    assert not (await fleet.status()).is_open
    await fleet.start()


async def test_an_aborted_one_does_not_wait_for_ever(fleet):
    ids = await fleet.make(3)
    await fleet.start(canaries=0)
    fleet.stuck = {ids[0]}
    await fleet.look()
    await fleet.control().abort()

    status = await fleet.go(minutes=5)

    assert (status.done, status.skipped) == (2, 1)


async def test_undone_every_agent_runs_what_it_ran_before(fleet, database):
    older = "registry/agent:0@sha256:" + 64 * "0"
    first = await fleet.make(3, release=older)
    second = await fleet.make(3)
    [sleeper] = await fleet.make(1, wanted=Wanted.ASLEEP, phase=Phase.ASLEEP)
    done = await fleet.start()
    await fleet.go()
    since = await fleet.make(1, release=await Releases(database, OLD).newest())

    undo = await fleet.undo()
    assert await Releases(database, OLD).newest() == OLD
    status = await fleet.go()

    assert (status.state, undo.undoes, status.done, status.asleep) == (DONE, done.id, 7, 1)
    serving = await fleet.serving()
    assert [serving[each] for each in [*first, *second, *since]] == [older] * 3 + [OLD] * 4
    assert next(agent for agent in await fleet.agents() if agent.id == sleeper).release == OLD


async def test_an_open_one_is_undone_at_once_with_what_it_has_under_way(fleet):
    ids = await fleet.make(10)
    await fleet.start(canaries=0, surge=2)
    await fleet.look()
    await fleet.converge()
    await fleet.look()

    await fleet.undo()
    status = await fleet.go()

    assert (status.state, status.total, status.done) == (DONE, 4, 4)
    assert set((await fleet.serving()).values()) == {OLD}
    assert {agent.id for agent in await fleet.agents() if agent.generation > 1} == set(ids[:4])


async def test_an_undo_is_undone_by_another(fleet):
    await fleet.make(3)
    await fleet.start()
    await fleet.go()
    await fleet.undo()
    await fleet.go()

    await fleet.undo()

    assert (await fleet.go()).release == NEW
    assert set((await fleet.serving()).values()) == {NEW}


async def test_who_failed_is_not_undone(fleet):
    ids = await fleet.make(3)
    await fleet.start(canaries=0, max_failed_share=1)
    fleet.bad = {ids[0]}
    await fleet.go()
    fleet.bad = set()

    undo = await fleet.undo()

    assert set(await fleet.items(undo.id)) == set(ids[1:])


@pytest.mark.parametrize("verb", ["pause", "resume", "abort"])
async def test_without_an_open_rollout_there_is_nothing_to_say(fleet, verb):
    with pytest.raises(RolloutRefused, match="no rollout is open"):
        await getattr(fleet.control(), verb)()


async def test_with_nothing_done_there_is_nothing_to_undo(fleet):
    with pytest.raises(RolloutRefused, match="no rollout was ever started"):
        await fleet.undo()
    await fleet.make(2)
    await fleet.start(canaries=0)
    await fleet.control().abort()
    with pytest.raises(RolloutRefused, match="has updated nobody"):
        await fleet.undo()


async def test_what_is_said_twice_is_refused_the_second_time(fleet):
    await fleet.make(2)
    await fleet.start()
    with pytest.raises(RolloutRefused, match="is not paused: it is canary"):
        await fleet.control().resume()
    await fleet.control().pause()
    with pytest.raises(RolloutRefused, match="is paused already"):
        await fleet.control().pause()


async def test_everything_that_is_said_is_in_the_audit(fleet):
    await fleet.make(2)
    rollout = await fleet.start(canaries=0)
    await fleet.control(by="otto").pause()
    await fleet.control(by="otto").resume()
    await fleet.go()
    await fleet.undo()

    rows = list(reversed(await fleet.auditor.newest()))

    assert [(row.who, row.what) for row in rows] == [
        ("olga", "rollout start"),
        ("otto", "rollout paused"),
        ("otto", "rollout rolling"),
        ("rollout", "rollout done and closed"),
        ("olga", "rollout undo"),
    ]
    assert rows[0].details["release"] == NEW
    assert all(row.details["rollout"] == rollout.id for row in rows[:4])


async def test_a_card_says_how_far_it_is_and_what_is_wrong(fleet):
    ids = await fleet.make(10)
    await fleet.start(canaries=0, max_failed_share=1, max_failed=5)
    fleet.bad = {ids[0]}
    await fleet.look()
    await fleet.converge()
    fleet.clock.now += 60
    await fleet.look()
    await fleet.look()

    status = await fleet.status()

    assert card(status).splitlines() == [
        f"Rollout #{status.id}  registry/agent:1@sha256:111111111111… → registry/agent:2@sha256:222222222222…",
        "rolling  ▓▓▓▓▓▓▓▓▓▓░░░░░░░░░░ 50 %  5/10",
        "canary 0/0 · batch 2/2 · done 4 · updating 5 · failed 1",
        "eta 1 min · extra cost ~0.25 credits",
        f"✗ agent {ids[0]}: not-proved (AB12); it runs {OLD}",
    ]
