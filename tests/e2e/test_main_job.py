"""Baal's main job as people do it, and what happens when the bot or an agent dies in the middle."""

import os
import signal

import psutil
import pytest

from scripts.demo_check import ask, make_agent
from tests.agent.conftest import as_written
from tests.fakes.libertai_sim import Script
from tests.fakes.telegram_client import SimUser

pytestmark = pytest.mark.e2e
on_each_database = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)

LONG = " ".join(f"word{number}" for number in range(60))


async def talking(world, name="Ada") -> SimUser:
    """An owner in a chat with an agent of their own."""
    owner = await world.telegram.user(name="Olga")
    await make_agent(owner, name=name, job="Answer briefly.")
    await owner.press("Chat")
    await owner.wait_for("You are talking to your agent")
    return owner


async def answers(person, text) -> list[str]:
    """The bot's messages with that text."""
    return [message.text for message in await person.messages() if message.from_bot and text in message.text]


@on_each_database
async def test_an_agent_is_made_talked_to_and_shared(world):
    owner = await world.telegram.user(name="Olga")
    link = await make_agent(owner, name="Chef Ada", job="Plan meals.")
    await owner.press("Chat")
    await owner.wait_for("You are talking to your agent")
    await world.libertai.reply("Scramble them **slowly**.")

    assert await ask(owner, "What with eggs?") == "Scramble them slowly."

    visitor = await world.telegram.user(name="Victor")
    await visitor.open(link)
    await visitor.wait_for("Chef Ada")
    await world.libertai.reply("Hello Victor.")
    assert await ask(visitor, "Hi") == "Hello Victor."
    calls = await world.libertai.calls(2)
    assert "Plan meals." in calls[-1].system
    assert contents(calls[-1]) == ["Hi"], "a visitor sees nothing of the owner's chat"
    assert await world.telegram.refusals() == []


def contents(call):
    """What was said, without the agent's note on the time."""
    return [message["content"] for message in as_written(call.messages)]


async def test_the_wizard_goes_on_after_the_bot_was_killed_at_each_step(world):
    owner = await world.telegram.user(name="Olga")
    await owner.send("/create")
    await owner.wait_for("What should it be called?")
    await restart(world)
    await owner.send("Ada")
    await owner.wait_for("Ada's job")
    await restart(world)
    await owner.send("Answer briefly.")
    model = (await owner.wait_for("Pick a model")).buttons[0][0].text
    await restart(world)
    await owner.press(model)
    await owner.wait_for("Check", button="Deploy")
    await restart(world)
    await owner.press("Deploy")

    await owner.wait_for("Ada is live", timeout=60)

    assert len(await answers(owner, "Ada is live")) == 1
    assert len(await world.machines.listed()) == 1


async def test_what_was_sent_while_the_bot_was_dead_is_handled_once_and_in_order(world):
    owner = await world.telegram.user(name="Olga")
    await owner.send("/create")
    await owner.wait_for("What should it be called?")
    await world.bot.kill()
    await owner.send("Ada")
    await owner.send("Answer briefly.")

    await world.bot.start()

    await owner.wait_for("Pick a model")
    await owner.press("scripted")
    check = await owner.wait_for("Check", button="Deploy")
    assert "Name: Ada" in check.text
    assert "Answer briefly." in check.text


@pytest.mark.parametrize("phase", ["renting", "starting", "proving"])
async def test_a_deployment_finishes_after_the_bot_was_killed_in_it(world, phase):
    owner = await world.telegram.user(name="Olga")
    await owner.send("/create")
    await owner.wait_for("called?")
    await owner.send("Ada")
    await owner.wait_for("job?")
    await owner.send("Answer briefly.")
    await owner.wait_for("Pick a model")
    await owner.press("scripted")
    await owner.wait_for("Check", button="Deploy")
    await owner.press("Deploy")
    await world.until_phase(phase)

    await restart(world)

    await owner.wait_for("Ada is live", timeout=60)
    assert len(await world.machines.listed()) == 1
    assert len(world.agent_pids()) == 1
    await owner.press("Chat")
    await owner.wait_for("You are talking to your agent")
    await world.libertai.reply("Here I am.")
    assert await ask(owner, "Are you there?") == "Here I am."


@on_each_database
async def test_an_answer_is_delivered_whole_and_once_after_the_bot_was_killed_in_it(world):
    owner = await talking(world)
    await world.libertai.script(Script(text=LONG, hold_after=20))
    await owner.send("Count.")
    await owner.wait_for("word5")
    await world.until_recorded()

    await world.bot.kill()
    await world.libertai.release()
    await world.bot.start()

    await owner.wait_for("word59", timeout=30)
    answer = await owner.wait_whole()
    assert answer.text == LONG
    assert len(await answers(owner, "word5")) == 1
    assert len(await world.libertai.calls()) == 1, "the model was asked once"


async def test_a_killed_agent_is_brought_back_and_answers_what_was_asked(world):
    owner = await talking(world)
    await world.libertai.reply("First.")
    assert await ask(owner, "One?") == "First."
    for pid in world.agent_pids():
        os.killpg(pid, signal.SIGKILL)
        psutil.Process(pid).wait(10) if psutil.pid_exists(pid) else None
    await world.libertai.reply("Second.")

    await owner.send("Two?")
    assert (await owner.wait_for("Second.", timeout=60)).text == "Second."

    assert contents((await world.libertai.calls(2))[-1]) == ["One?", "First.", "Two?"], "it remembers"


async def test_an_agent_killed_in_an_answer_answers_again_by_itself(world):
    owner = await talking(world)
    await world.libertai.script(Script(text=LONG, hold_after=20))
    await owner.send("Count.")
    await owner.wait_for("word5")
    await world.libertai.reply("All of it.")

    for pid in world.agent_pids():
        os.killpg(pid, signal.SIGKILL)

    await owner.wait_for("All of it.", timeout=60)
    answer = await owner.wait_whole()
    assert answer.text == "All of it."
    assert len(await answers(owner, "word5")) == 0


async def test_the_bot_stops_when_it_is_told_to_and_agents_go_on(world):
    owner = await talking(world)

    assert await world.bot.stop() == 0

    assert all(psutil.pid_exists(pid) for pid in world.agent_pids())
    await world.bot.start()
    await world.libertai.reply("Still here.")
    assert await ask(owner, "There?", timeout=30) == "Still here."


async def restart(world) -> None:
    await world.bot.kill()
    await world.bot.start()
