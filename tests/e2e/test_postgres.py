"""The bot on a Postgres server that crashes, stays away, or comes later than the bot."""

import asyncio
import os
from contextlib import asynccontextmanager

import pytest

from scripts.demo_check import ask, make_agent
from tests.e2e.test_main_job import LONG, answers, restart, talking
from tests.fakes.libertai_sim import Script

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.postgres,
    pytest.mark.parametrize("database_url", ["postgres"], indirect=True),
]

IMPATIENT = """
from bot.cli import main
from bot.store.database import Database

Database.__init__.__kwdefaults__["patience"] = 1.0
main(["serve"])
"""


@asynccontextmanager
async def kept_up(bot):
    """As systemd or compose does: ended because of the database, it is started again."""

    async def keep_up():
        while True:
            assert await bot.wait(timeout=600) == os.EX_TEMPFAIL
            await bot.start()

    keeping = asyncio.create_task(keep_up())
    yield
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_a_deployment_finishes_after_the_bot_was_killed_in_it(world):
    owner = await world.telegram.user(name="Olga")
    making = asyncio.create_task(make_agent(owner, name="Ada", job="Answer briefly."))
    await world.until_phase("starting")

    await restart(world)

    await making
    assert len(await answers(owner, "Ada is live")) == 1
    assert len(await world.machines.listed()) == 1


async def test_an_answer_survives_a_crash_of_the_server_in_it(world, postgres):
    owner = await talking(world)
    await world.libertai.script(Script(text=LONG, hold_after=20))
    await owner.send("Count.")
    await owner.wait_for("word5")
    await world.until_recorded()

    async with kept_up(world.bot):
        with postgres.away():
            await world.libertai.release()

        await owner.wait_for("word59", timeout=30)
        answer = await owner.wait_whole()
        assert answer.text == LONG
        assert len(await answers(owner, "word5")) == 1
        await world.libertai.reply("Here I am.")
        assert await ask(owner, "Are you there?", timeout=60) == "Here I am."


async def test_a_bot_whose_server_stays_away_ends_and_goes_on_when_both_are_back(world, postgres):
    owner = await talking(world)
    await world.bot.kill()
    world.bot.arguments = ("-c", IMPATIENT)
    await world.bot.start()
    await world.until_logged("answering", times=2)

    with postgres.away():
        ended = await world.bot.wait(timeout=30)
        await owner.send("Are you there?")
        await world.bot.start()
    await world.libertai.reply("Here I am.")

    assert ended == os.EX_TEMPFAIL
    assert "database lost: " in world.bot.log.read_text()
    await owner.wait_for("Here I am.", timeout=60)


async def test_a_bot_that_waits_for_its_server_ends_when_it_is_told_to(world, postgres):
    await world.bot.kill()
    with postgres.away():
        await world.bot.start()
        await world.until_logged("waiting for the database")

        assert await world.bot.stop() == 0
