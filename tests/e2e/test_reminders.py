"""An agent says something unasked: once, whoever dies in between, and never into the middle of an answer."""

import os
import signal

import pytest

from agent.protocol import Done, Letter, Text
from scripts.demo_check import ask
from tests.e2e.conftest import World
from tests.e2e.test_doing import Stage, running_bot, stage  # noqa: F401  a fixture
from tests.e2e.test_main_job import answers, on_each_database, talking
from tests.fakes.libertai_sim import Script, ToolCall
from tests.fakes.telegram_client import SimUser
from tests.fakes.telegram_views import FaultKind

pytestmark = pytest.mark.e2e


async def reminded(world: World, *, seconds: float, **arguments: object) -> SimUser:
    """An owner whose agent has promised to remind them."""
    owner = await talking(world)
    call = ToolCall(name="remind", arguments={"what": "Stir the **soup**", "minutes": seconds / 60} | arguments)
    await world.libertai.script(Script(calls=[call]), Script(text="I will."))
    assert await ask(owner, "Remind me.") == "I will."
    return owner


async def require_one(world: World, owner: SimUser, text: str) -> None:
    """The letter is there, and not twice: another answer later neither."""
    await owner.wait_for(text, timeout=60)
    await world.libertai.reply("Welcome.")
    assert await ask(owner, "Thanks", timeout=60) == "Welcome."
    assert await answers(owner, text) == [text]


@on_each_database
async def test_a_reminder_comes_when_it_is_due(world):
    owner = await reminded(world, seconds=1)

    await require_one(world, owner, "Ada ·\n⏰ Stir the soup")

    assert "⏰ Stir the **soup**" in str((await world.libertai.calls())[-1].messages), "the agent knows of it"


async def test_a_reminder_that_fell_due_while_the_bot_was_dead_comes_after_its_start(world):
    owner = await reminded(world, seconds=1)
    await world.bot.kill()

    await world.bot.start()

    await require_one(world, owner, "Ada ·\n⏰ Stir the soup")


async def test_a_bot_whose_alarms_were_lost_asks_the_agents_for_them(world):
    owner = await reminded(world, seconds=3)
    await world.until_row("SELECT 1 FROM turn WHERE state = 'done'")
    await world.bot.kill()
    world.change("DELETE FROM alarm")

    await world.bot.start()

    await require_one(world, owner, "Ada ·\n⏰ Stir the soup")


async def test_agents_look_by_themselves_whether_there_is_something_to_tell(stage):  # noqa: F811
    settings = stage.settings.model_copy(update={"agent_heartbeat_minutes": 30.0})
    async with running_bot(settings):
        await stage.talking()

    assert stage.agent.spec is not None
    assert stage.agent.spec.environment()["AGENT_HEARTBEAT_MINUTES"] == "30.0"


async def test_a_killed_agent_is_brought_back_for_its_reminder(world):
    owner = await reminded(world, seconds=2)
    for pid in world.agent_pids():
        os.killpg(pid, signal.SIGKILL)

    await require_one(world, owner, "Ada ·\n⏰ Stir the soup")


async def test_a_letter_that_telegram_did_not_take_is_delivered_by_the_next_start(world):
    owner = await reminded(world, seconds=2)
    await world.telegram.fault(FaultKind.SERVER_ERROR, "sendMessage", times=99)
    await world.until_row("SELECT 1 FROM letter WHERE state = 'waiting'")
    await world.bot.kill()
    await world.telegram.clear_faults()

    await world.bot.start()

    await require_one(world, owner, "Ada ·\n⏰ Stir the soup")


async def test_scheduled_work_is_done_and_its_result_sent(world):
    owner = await reminded(world, seconds=2, work=True)
    await world.libertai.reply("I have stirred it.")

    await require_one(world, owner, "Ada ·\nI have stirred it.")


async def test_a_letter_waits_for_the_end_of_the_answer_that_is_shown(stage: Stage) -> None:  # noqa: F811
    async with running_bot(stage.settings):
        owner = await stage.talking()
        stage.agent.say(Text(seq=0, text="This will take a while, and here is the beginning of it."))
        growing = await owner.wait_for("the beginning")
        stage.agent.letters = [Letter(id=1, chat_id=str(owner.id), text="⏰ Soup", created=0)]
        visitor = await stage.telegram.user(name="Victor")
        await visitor.open(stage.link)
        await visitor.send("Hello")
        await stage.agent.until_asked(2)
        stage.agent.say(Text(seq=0, text="Hi."), Done(seq=0, next_due=0))
        await stage.agent.until_acknowledged(1)

        stage.agent.cut()
        await stage.agent.until_asked(3)
        stage.agent.say(Text(seq=0, text=" And the end."), Done(seq=0))
        letter = await owner.wait_for("⏰ Soup")

    shown = [message for message in await owner.messages() if message.from_bot][-2:]
    assert [message.id for message in shown] == [growing.id, letter.id]
    assert shown[0].text.endswith("And the end.")
    assert shown[0].changed < letter.changed
