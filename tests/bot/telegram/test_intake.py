"""Updates on their way from the Bot API double into the inbox."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from telegram import Update
from telegram.error import InvalidToken
from telegram.ext import ExtBot

from bot.accounts.chats import Chats
from bot.telegram.inbox import Inbox
from bot.telegram.intake import Intake
from bot.telegram.transport import AiohttpRequest
from tests.fakes.telegram_client import TelegramDouble
from tests.fakes.telegram_views import FaultKind


@pytest.fixture
async def telegram():
    async with TelegramDouble() as double:
        yield double


@asynccontextmanager
async def bot_of(telegram, token):
    bot = ExtBot(token, base_url=f"{telegram.url}/bot", request=AiohttpRequest(), get_updates_request=AiohttpRequest())
    async with bot:
        yield bot


class Polling:
    """An intake that runs, and what it hands on."""

    def __init__(self, bot, inbox, **options):
        self.handled: asyncio.Queue[Update] = asyncio.Queue()
        self.intake = Intake(bot, inbox, self.handled.put_nowait, **options)
        self.task = asyncio.create_task(self.intake.run())

    async def next_text(self):
        async with asyncio.timeout(30):
            message = (await self.handled.get()).message
        return message and message.text

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
def inbox(database, vault):
    return Inbox(database, vault, Chats(database))


async def test_updates_are_handed_on_in_order_and_stored(telegram, inbox):
    olga = await telegram.user(name="Olga")
    async with bot_of(telegram, telegram.token) as bot:
        polling = Polling(bot, inbox)
        for number in range(3):
            await olga.send(f"m{number}")
        texts = [await polling.next_text() for _ in range(3)]
        await polling.stop()

    assert texts == ["m0", "m1", "m2"]
    assert [update.message.text for update in await inbox.waiting()] == texts


async def test_what_was_stored_but_not_handled_is_handed_on_after_a_restart_and_only_once(telegram, inbox):
    olga = await telegram.user(name="Olga")
    async with bot_of(telegram, telegram.token) as bot:
        first = Polling(bot, inbox)
        await olga.send("kept")
        await first.next_text()
        await first.stop()

        second = Polling(bot, inbox)
        await olga.send("new")
        texts = [await second.next_text() for _ in range(2)]
        await second.stop()

    assert texts == ["kept", "new"]
    assert second.handled.empty()


@pytest.mark.parametrize("kind", [FaultKind.SERVER_ERROR, FaultKind.TOO_MANY_REQUESTS])
async def test_polling_goes_on_after_a_failure(telegram, inbox, kind):
    olga = await telegram.user(name="Olga")
    async with bot_of(telegram, telegram.token) as bot:
        await telegram.fault(kind, "getUpdates", times=2, retry_after=1)
        polling = Polling(bot, inbox)
        await olga.send("after all")

        assert await polling.next_text() == "after all"
        await polling.stop()


async def test_telegram_is_known_to_answer_at_once_although_nobody_writes(telegram, inbox):
    async with bot_of(telegram, telegram.token) as bot:
        polling = Polling(bot, inbox)
        assert polling.intake.trouble() == "no answer from Telegram yet"
        async with asyncio.timeout(30):
            while polling.intake.trouble():
                await asyncio.sleep(0.01)
        await polling.stop()


async def test_silence_is_trouble_and_the_next_answer_ends_it(telegram, inbox, clock):
    olga = await telegram.user(name="Olga")
    async with bot_of(telegram, telegram.token) as bot:
        polling = Polling(bot, inbox, clock=clock)
        await olga.send("one")
        await polling.next_text()
        clock.now += 60
        assert polling.intake.trouble() == ""
        clock.now += 70
        assert polling.intake.trouble() == "no answer from Telegram for 130 s"
        await olga.send("two")
        await polling.next_text()
        async with asyncio.timeout(30):
            while polling.intake.trouble():
                await asyncio.sleep(0.01)
        await polling.stop()


async def test_a_wrong_token_ends_polling(telegram, inbox):
    request, updates_request = AiohttpRequest(), AiohttpRequest()
    stranger = ExtBot("1:wrong", base_url=f"{telegram.url}/bot", request=request, get_updates_request=updates_request)
    await updates_request.initialize()
    async with asyncio.timeout(30):
        with pytest.raises(InvalidToken):
            await Intake(stranger, inbox, print).run()
    await updates_request.shutdown()
