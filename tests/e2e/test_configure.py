"""An owner changes a running agent from its card: no restart, nothing forgotten, and it stays so."""

import os
import signal

import psutil
import pytest

from scripts.demo_check import ask
from tests.e2e.test_main_job import talking

pytestmark = pytest.mark.e2e


async def test_name_and_job_change_without_a_restart_and_survive_one(world):
    owner = await talking(world)
    await ask(owner, "Hello")
    [before] = world.agent_pids()

    await change(owner, "Name", "Chef Bob", card="Ada")
    await change(owner, "Job", "Only sing.", card="Chef Bob")

    await ask(owner, "And now?")
    first, second = (await world.libertai.calls(2))[-2:]
    assert first.system.startswith("You are Ada.\n\nAnswer briefly.")
    assert second.system.startswith("You are Chef Bob.\n\nOnly sing.\n\n")
    assert any("Hello" in message["content"] for message in second.messages)
    assert world.agent_pids() == [before]

    os.kill(before, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(before)], timeout=10) if psutil.pid_exists(before) else None
    await ask(owner, "Still you?")

    assert world.agent_pids() != [before]
    assert (await world.libertai.calls(3))[-1].system.startswith("You are Chef Bob.\n\nOnly sing.\n\n")


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
