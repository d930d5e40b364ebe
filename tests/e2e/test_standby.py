"""Two bots on one Postgres: one works, the other stands by, and takes over from one that died or was frozen."""

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager

import httpx
import pytest

from bot.cli import _ask_health
from scripts.demo_check import ask, make_agent
from tests.e2e.conftest import Bot
from tests.e2e.test_main_job import LONG, answers, talking
from tests.fakes.libertai_sim import Script

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.postgres,
    pytest.mark.parametrize("database_url", ["postgres"], indirect=True),
]


class Second(Bot):
    """Another bot with the same settings, and a door."""

    def __init__(self, first, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        super().__init__(first.environment | {"HTTP_PORT": str(self.port)}, folder)

    async def says(self):
        async with httpx.AsyncClient() as client:
            return await client.get(f"http://127.0.0.1:{self.port}/health")

    async def until_logged(self, words):
        async with asyncio.timeout(60):
            while words not in self.log.read_text():
                await asyncio.sleep(0.05)


@pytest.fixture
async def second(world, tmp_path):
    """It stands by once the first works."""
    await world.until_logged("answering")
    folder = tmp_path / "second"
    folder.mkdir()
    made = Second(world.bot, folder)
    await made.start()
    try:
        await made.until_logged("standing by")
        yield made
    finally:
        await made.stop()
    if "Traceback" in made.log.read_text():
        pytest.fail(f"the second bot logged an exception:\n{made.log.read_text()[-4000:]}")


@asynccontextmanager
async def frozen(bot):
    """Stopped in the middle of whatever it does; at the end it goes on."""
    bot.send(signal.SIGSTOP)
    try:
        yield
    finally:
        bot.send(signal.SIGCONT)


async def test_one_that_stands_by_is_well_and_ends_when_it_is_told_to(world, second):
    owner = await talking(world)
    await world.libertai.reply("Here I am.")
    async with frozen(world.bot):
        await owner.send("Are you there?")
    await owner.wait_for("Here I am.")
    answer = await second.says()

    assert (answer.status_code, answer.json()["status"], answer.json()["checks"]) == (200, "standby", {})
    is_well, words = await asyncio.to_thread(_ask_health, "127.0.0.1", second.port)
    assert (is_well, words) == (True, "standby (dev)")
    assert await second.stop() == 0
    assert second.log.read_text().count("standing by") == 1


async def test_a_deployment_is_finished_by_the_other_bot(world, second):
    owner = await world.telegram.user(name="Olga")
    making = asyncio.create_task(make_agent(owner, name="Ada", job="Answer briefly."))
    await world.until_phase("starting")

    await world.bot.kill()

    await making
    assert len(await answers(owner, "Ada is live")) == 1
    assert len(await world.machines.listed()) == 1
    assert (await second.says()).json()["checks"] == {"database": "ok", "telegram": "ok", "fleet": "ok"}
    await world.libertai.reply("Here I am.")
    await owner.press("Chat")
    await owner.wait_for("You are talking to your agent")
    assert await ask(owner, "Are you there?") == "Here I am."


async def test_a_frozen_bot_is_replaced_and_says_nothing_more_when_it_comes_back(world, second):
    owner = await talking(world)
    await world.libertai.script(Script(text=LONG, hold_after=20))
    await owner.send("Count.")
    await owner.wait_for("word5")
    await world.until_recorded()
    await world.libertai.reply("Here I am.")

    async with frozen(world.bot):
        # What comes meanwhile lies in its sockets, half of it answered, when it goes on.
        await world.libertai.release()
        await owner.send("Are you there?")
        await owner.wait_for("Here I am.", timeout=60)

    assert await world.bot.wait(timeout=30) == os.EX_TEMPFAIL
    assert [len(await answers(owner, words)) for words in ("word5", "word59", "Here I am.")] == [1, 1, 1]
    assert len(await world.libertai.calls()) == 2, "the model was asked once for each"
    assert "another bot works on the database" in world.bot.log.read_text()
    await world.bot.start()
    await world.until_logged("standing by")


async def test_a_deployment_that_was_frozen_is_made_once(world, second):
    owner = await world.telegram.user(name="Olga")
    making = asyncio.create_task(make_agent(owner, name="Ada", job="Answer briefly.", timeout=90))
    await world.until_phase("starting")

    async with frozen(world.bot):
        await making

    assert await world.bot.wait(timeout=30) == os.EX_TEMPFAIL
    assert len(await answers(owner, "Ada is live")) == 1
    assert len(await world.machines.listed()) == 1
