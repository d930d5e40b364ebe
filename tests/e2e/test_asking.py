"""An agent asks with buttons: the whole bot, restarted and cut off, in front of an agent that a test speaks for."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from agent.protocol import Ask, Done, ErrorKind, Failed
from bot.settings import Settings
from tests.e2e.test_doing import running_bot, stage, text

__all__ = ["stage"]

pytestmark = pytest.mark.e2e

LONG = "The one with the mushrooms, without cream, and for two people"
QUESTION = Ask(seq=0, question="Which **soup**?", options=("Tomato", LONG))


async def until_over(settings: Settings) -> None:
    """Wait until the bot has written down that the turn is over: until then a restart shows it once more."""
    with closing(sqlite3.connect(settings.data_dir / "baal.sqlite")) as stored:
        async with asyncio.timeout(30):
            while stored.execute("SELECT count(*) FROM turn WHERE state <> 'done'").fetchone() != (0,):
                await asyncio.sleep(0.01)


async def test_a_pressed_answer_is_the_next_message_also_after_the_bot_was_restarted(stage):
    async with running_bot(stage.settings):
        owner = await stage.talking()
        stage.agent.say(text("There are two."), QUESTION, Done(seq=0))
        asked = await owner.wait_for("Which soup?", button="Tomato")
        await until_over(stage.settings)
    await owner.press("2. The one")  # nobody is there

    async with running_bot(stage.settings):
        request = await stage.agent.until_asked(2)
        marked = await owner.wait_for(f"→ {LONG}")
        stage.agent.say(text("Two bowls, then."), Done(seq=0))
        await owner.wait_for("Two bowls, then.")

    assert asked.text == f"There are two.\n\nWhich soup?\n\n1. Tomato\n2. {LONG}"
    assert (request.message, request.role.value, request.turn_id != stage.agent.asked[0].turn_id) == (
        LONG,
        "owner",
        True,
    )
    assert (marked.id, marked.buttons) == (asked.id, [])
    assert len(stage.agent.asked) == 2


async def test_what_is_written_instead_is_the_answer_and_takes_the_buttons_away(stage):
    async with running_bot(stage.settings):
        owner = await stage.talking()
        stage.agent.say(QUESTION, Done(seq=0))
        asked = await owner.wait_for("Which soup?", button="Tomato")
        await owner.send("Neither.")
        request = await stage.agent.until_asked(2)
        stage.agent.say(text("Bread it is."), Done(seq=0))
        await owner.wait_for("Bread it is.")
        async with asyncio.timeout(30):
            while any(message.buttons for message in await owner.messages() if message.id == asked.id):
                await asyncio.sleep(0.01)

    assert request.message == "Neither."


async def test_a_stopped_answer_goes_on_with_one_press(stage):
    async with running_bot(stage.settings):
        owner = await stage.talking()
        stopped = Failed(seq=0, kind=ErrorKind.STOPPED, text="stopped", retryable=False)
        stage.agent.say(text("First, the onions"), stopped)
        await owner.wait_for("⏹ Stopped", button="Continue")
        await owner.press("Continue")
        request = await stage.agent.until_asked(2)
        stage.agent.say(text(" and then the rest."), Done(seq=0))
        await owner.wait_for("and then the rest.")

    assert request.message == "Continue."
