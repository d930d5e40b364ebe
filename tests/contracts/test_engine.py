"""What every engine must do with a real agent."""

import dataclasses

import pytest
from pydantic import SecretStr

from bot.errors import NotStarted
from bot.machines.client import Door
from bot.machines.engine import RunState
from tests.contracts.conftest import MACHINE

pytestmark = pytest.mark.e2e

HOSTILE = "$HOME `id` \"quoted\" 'single' \\ 👩‍🍳 مساعد\nAGENT_SECRET=x\n#!/bin/sh; $(reboot)"


@pytest.fixture
async def place(provider):
    await provider.rent(MACHINE)
    return await provider.reach(MACHINE)


async def test_an_agent_that_was_started_answers_with_its_name_and_release(engine, place, spec, client):
    url = await engine.run(place, spec)

    health = await client.health(Door(url, spec.secret))

    assert (health.agent_name, health.release, health.model) == ("Chef Ada", spec.release, "scripted")
    found = await engine.inspect(place)
    assert (found.state, found.fingerprint, found.url) == (RunState.RUNNING, spec.fingerprint(), url)


async def test_an_empty_machine_runs_nothing(engine, place):
    assert (await engine.inspect(place)).state is RunState.ABSENT
    assert await engine.logs(place) == ""
    await engine.remove(place)


async def test_a_machine_made_warm_runs_nothing_until_it_is_told_to(engine, place, spec, client):
    await engine.prepare(place)
    await engine.warm(place, spec.release)
    await engine.warm(place, spec.release)

    assert (await engine.inspect(place)).state is RunState.ABSENT
    assert await engine.logs(place) == ""
    url = await engine.run(place, spec)
    assert (await client.health(Door(url, spec.secret))).release == spec.release


async def test_making_warm_for_another_release_leaves_what_runs_as_it_is(engine, hands, place, spec):
    await engine.run(place, spec)
    first = hands.running(place)

    await engine.warm(place, hands.other_release)

    assert hands.running(place) == first
    assert (await engine.inspect(place)).fingerprint == spec.fingerprint()


async def test_what_runs_already_is_kept(engine, hands, place, spec):
    url = await engine.run(place, spec)
    first = hands.running(place)

    assert await engine.run(place, spec) == url
    assert hands.running(place) == first


async def test_what_runs_otherwise_is_replaced_and_its_data_and_address_stay(engine, hands, place, spec, client):
    url = await engine.run(place, spec)
    first = hands.running(place)
    hands.write(place, "mine")

    assert await engine.run(place, dataclasses.replace(spec, release=hands.other_release)) == url

    assert (await client.health(Door(url, spec.secret))).release == hands.other_release
    assert hands.read(place) == "mine"
    assert hands.is_gone(first)


async def test_an_agent_killed_comes_back_with_its_data_when_it_is_asked_for(engine, hands, place, spec, client):
    await engine.run(place, spec)
    hands.write(place, "mine")
    hands.kill(place)
    assert (await engine.inspect(place)).state is RunState.STOPPED

    url = await engine.run(place, spec)

    assert (await client.health(Door(url, spec.secret))).agent_name == "Chef Ada"
    assert hands.read(place) == "mine"


async def test_a_restarted_bot_finds_and_controls_what_an_older_one_started(engine, new_engine, hands, place, spec):
    url = await engine.run(place, spec)
    first = hands.running(place)

    later = new_engine()

    assert await later.run(place, spec) == url
    await later.remove(place)
    assert (await later.inspect(place)).state is not RunState.RUNNING
    assert hands.is_gone(first)
    await later.close()


async def test_what_was_removed_has_its_data_when_it_runs_again(engine, hands, place, spec):
    await engine.run(place, spec)
    hands.write(place, "mine")
    await engine.remove(place)

    await engine.run(place, spec)

    assert hands.read(place) == "mine"


async def test_what_was_wiped_has_nothing_left(engine, hands, place, spec):
    await engine.run(place, spec)
    hands.write(place, "mine")
    await engine.wipe(place)
    await engine.wipe(place)

    await engine.run(place, spec)

    with pytest.raises((FileNotFoundError, AssertionError)):
        assert hands.read(place) == "mine"


async def test_removing_twice_is_harmless(engine, place, spec):
    await engine.run(place, spec)

    await engine.remove(place)
    await engine.remove(place)

    assert (await engine.inspect(place)).state is not RunState.RUNNING


async def test_hostile_words_in_the_job_and_the_name_arrive_as_they_are(engine, place, spec, client):
    name = HOSTILE.replace("\n", " ")
    hostile = dataclasses.replace(spec, job=HOSTILE, name=name)

    url = await engine.run(place, hostile)

    assert (await client.health(Door(url, spec.secret))).agent_name == name


async def test_no_secret_is_in_an_argument_or_a_file(engine, hands, place, spec):
    await engine.run(place, spec)

    seen = hands.seen(place)

    assert b"agent" in seen
    assert spec.secret.get_secret_value().encode() not in seen
    assert spec.llm_api_key.get_secret_value().encode() not in seen


async def test_an_agent_that_cannot_start_says_why_in_its_log(engine, place, spec):
    broken = dataclasses.replace(spec, secret=SecretStr(""))

    with pytest.raises(NotStarted) as caught:
        await engine.run(place, broken)

    assert "AGENT_SECRET" in caught.value.log
    assert spec.llm_api_key.get_secret_value() not in caught.value.log
    assert caught.value.log == await engine.logs(place)
