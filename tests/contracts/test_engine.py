"""What every engine must do with a real agent."""

import dataclasses
import os
import signal
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from bot.errors import NotStarted
from bot.machines.client import AgentClient, Door
from bot.machines.engine import RunState
from tests.contracts.conftest import MACHINE

pytestmark = pytest.mark.e2e

HOSTILE = "$HOME `id` \"quoted\" 'single' \\ 👩‍🍳 مساعد\nAGENT_SECRET=x\n#!/bin/sh; $(reboot)"


@pytest.fixture
async def place(provider):
    await provider.rent(MACHINE)
    return await provider.reach(MACHINE)


@pytest.fixture
async def client():
    opened = AgentClient()
    yield opened
    await opened.close()


def process(place):
    return psutil.Process(int((Path(place.path) / "pid").read_text()))


async def test_an_agent_that_was_started_answers_with_its_name_and_release(engine, place, spec, client):
    url = await engine.run(place, spec)

    health = await client.health(Door(url, spec.secret))

    assert (health.agent_name, health.release, health.model) == ("Chef Ada", "r1", "scripted")
    found = await engine.inspect(place)
    assert (found.state, found.fingerprint, found.url) == (RunState.RUNNING, spec.fingerprint(), url)


async def test_an_empty_machine_runs_nothing(engine, place):
    assert (await engine.inspect(place)).state is RunState.ABSENT
    assert await engine.logs(place) == ""
    await engine.remove(place)


async def test_what_runs_already_is_kept(engine, place, spec):
    url = await engine.run(place, spec)
    first = process(place)

    assert await engine.run(place, spec) == url
    assert process(place) == first


async def test_what_runs_otherwise_is_replaced_and_its_data_stays(engine, place, spec, client):
    await engine.run(place, spec)
    first, kept = process(place), Path(place.path) / "data" / "kept"
    kept.write_text("mine")

    url = await engine.run(place, dataclasses.replace(spec, release="r2"))

    assert (await client.health(Door(url, spec.secret))).release == "r2"
    assert kept.read_text() == "mine"
    assert not first.is_running()


async def test_an_agent_killed_comes_back_with_its_data_when_it_is_asked_for(engine, place, spec, client):
    await engine.run(place, spec)
    kept = Path(place.path) / "data" / "kept"
    kept.write_text("mine")
    os.killpg(process(place).pid, signal.SIGKILL)
    process(place).wait(5)
    assert (await engine.inspect(place)).state is RunState.STOPPED

    url = await engine.run(place, spec)

    assert (await client.health(Door(url, spec.secret))).agent_name == "Chef Ada"
    assert kept.read_text() == "mine"


async def test_a_restarted_bot_finds_and_controls_what_an_older_one_started(engine, new_engine, place, spec):
    url = await engine.run(place, spec)
    first = process(place)

    later = new_engine()

    assert await later.run(place, spec) == url
    await later.remove(place)
    assert (await later.inspect(place)).state is RunState.STOPPED
    assert not first.is_running() or first.status() == psutil.STATUS_ZOMBIE


async def test_removing_twice_is_harmless(engine, place, spec):
    await engine.run(place, spec)

    await engine.remove(place)
    await engine.remove(place)

    assert (await engine.inspect(place)).state is RunState.STOPPED


async def test_hostile_words_in_the_job_and_the_name_arrive_as_they_are(engine, place, spec, client):
    name = HOSTILE.replace("\n", " ")
    hostile = dataclasses.replace(spec, job=HOSTILE, name=name)

    url = await engine.run(place, hostile)

    assert (await client.health(Door(url, spec.secret))).agent_name == name


async def test_no_secret_is_in_an_argument_or_a_file(engine, place, spec):
    await engine.run(place, spec)
    secrets = [spec.secret.get_secret_value(), spec.llm_api_key.get_secret_value()]

    words = " ".join(process(place).cmdline())
    files = b"".join(path.read_bytes() for path in Path(place.path).rglob("*") if path.is_file())

    assert not [secret for secret in secrets if secret in words or secret.encode() in files]


async def test_an_agent_that_cannot_start_says_why_in_its_log(engine, place, spec):
    broken = dataclasses.replace(spec, secret=SecretStr(""))

    with pytest.raises(NotStarted) as caught:
        await engine.run(place, broken)

    assert "AGENT_SECRET" in caught.value.log
    assert spec.llm_api_key.get_secret_value() not in caught.value.log
    assert caught.value.log == await engine.logs(place)
