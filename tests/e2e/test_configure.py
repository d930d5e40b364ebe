"""An owner changes a running agent from its card: no restart, nothing forgotten, and it stays so."""

import os
import signal

import psutil
import pytest

from tests.e2e.test_main_job import talking

pytestmark = pytest.mark.e2e


async def test_name_and_job_change_without_a_restart_and_survive_one(world):
    owner = await talking(world)
    first = await asked(world, owner, "Hello", "First answer.")
    [before] = world.agent_pids()

    await change(owner, "Name", "Chef Bob", card="Ada")
    await change(owner, "Job", "Only sing.", card="Chef Bob")

    second = await asked(world, owner, "And now?", "Second answer.")
    assert first.system.startswith("You are Ada.\n\nAnswer briefly.")
    assert second.system.startswith("You are Chef Bob.\n\nOnly sing.\n\n")
    assert "First answer." in str(second.messages)
    assert world.agent_pids() == [before]

    os.killpg(before, signal.SIGKILL)
    psutil.Process(before).wait(10) if psutil.pid_exists(before) else None

    third = await asked(world, owner, "Still you?", "Third answer.")
    assert world.agent_pids() != [before]
    assert third.system == second.system


async def asked(world, owner, question: str, answer: str):
    """The call that the answer took."""
    await world.libertai.reply(answer)
    await owner.send(question)
    await owner.wait_for(answer, timeout=60)
    return (await world.libertai.calls())[-1]


async def change(owner, what: str, words: str, *, card: str) -> None:
    """By the buttons of the agent's card."""
    await owner.send("/list")
    await owner.wait_for("Your agents", button=card)
    await owner.press(card)
    await owner.wait_for("running", button=what)
    await owner.press(what)
    await owner.wait_for("from now on" if what == "Job" else "be called?")
    await owner.send(words)
    await owner.wait_for("✅ Changed")
