"""Updates wait, are confirmed and are handed out as Telegram does it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.telegram_client import TelegramDouble


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramDouble]:
    async with TelegramDouble() as double:
        yield double


async def texts(telegram: TelegramDouble, **parameters: Any) -> list[str]:
    updates = (await telegram.call("getUpdates", **parameters))["result"]
    return [update["message"]["text"] for update in updates]


async def waiting_poll(telegram: TelegramDouble, **parameters: Any) -> asyncio.Task[Any]:
    """A getUpdates that the double holds."""
    queue = telegram.server.world.updates
    held = queue._poller
    task = asyncio.create_task(telegram.call("getUpdates", **{"timeout": 20, **parameters}))
    async with asyncio.timeout(30):
        while queue._poller is held:
            await asyncio.sleep(0)
    return task


async def test_updates_stay_until_a_higher_offset_confirms_them(telegram: TelegramDouble):
    user = await telegram.user()
    for text in "abcd":
        await user.send(text)
    assert await texts(telegram) == list("abcd")
    assert await texts(telegram, offset=0) == list("abcd")
    assert await texts(telegram, offset=3) == ["c", "d"]
    assert await texts(telegram, offset=1) == ["c", "d"]
    assert await texts(telegram, offset=3, limit=1) == ["c"]
    assert await texts(telegram, offset=-1) == ["d"]
    assert await texts(telegram) == ["d"]
    assert await texts(telegram, offset=5) == []


async def test_held_request_returns_when_an_update_comes(telegram: TelegramDouble):
    user = await telegram.user()
    poll = await waiting_poll(telegram)
    await user.send("now")
    async with asyncio.timeout(30):
        answer = await poll
    assert [update["message"]["text"] for update in answer["result"]] == ["now"]


async def test_older_request_ends_with_409_when_a_second_poller_comes(telegram: TelegramDouble):
    user = await telegram.user()
    older = await waiting_poll(telegram)
    newer = await waiting_poll(telegram)
    assert await older == {
        "ok": False,
        "error_code": 409,
        "description": "Conflict: terminated by other getUpdates request; "
        "make sure that only one bot instance is running",
    }
    await user.send("for the newer")
    assert len((await newer)["result"]) == 1


async def test_poller_that_hung_up_is_no_second_poller(telegram: TelegramDouble):
    poll = await waiting_poll(telegram)
    poll.cancel()
    async with asyncio.timeout(30):
        while telegram.server.world.updates._poller:
            await asyncio.sleep(0)
    await telegram.call("getUpdates")
    assert await telegram.refusals() == []


async def test_allowed_updates_filter_creation_and_are_remembered(telegram: TelegramDouble):
    user = await telegram.user()
    message = await user.send("one")
    await telegram.call("getUpdates", offset=99, allowed_updates=["message_reaction"])
    await user.send("not wanted")
    await user.react(message.id, "👍")
    kept = (await telegram.call("getUpdates"))["result"]
    assert [list(update)[1] for update in kept] == ["message_reaction"]
    await telegram.call("getUpdates", offset=99, allowed_updates=[])
    await user.react(message.id, "🔥")
    await user.send("wanted again")
    assert await texts(telegram) == ["wanted again"]


async def test_updates_expire_after_a_day(telegram: TelegramDouble):
    user = await telegram.user()
    await user.send("old")
    await telegram.pass_time(24 * 3600 + 1)
    await user.send("new")
    assert await texts(telegram) == ["new"]


async def test_polling_is_refused_while_a_webhook_is_active(telegram: TelegramDouble):
    await telegram.call("setWebhook", url="http://127.0.0.1:9/hook")
    refused = await telegram.call("getUpdates")
    await telegram.call("deleteWebhook")
    assert refused["description"] == (
        "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
    )
    assert await texts(telegram) == []


async def test_bot_in_a_group_gets_only_commands_and_replies_to_itself(telegram: TelegramDouble):
    user = await telegram.user()
    group = await telegram.group("Team", by=user)
    ours = await telegram.call("sendMessage", chat_id=group, text="hi all")
    for text in ("chatter", "@baal_demo_bot hello", "/ask@other_bot x", "/ask x", "/ask@baal_demo_bot y"):
        await user.send(text, chat=group)
    await user.send("a reply", chat=group, reply_to=ours["result"]["message_id"])
    got = await texts(telegram, offset=2)
    assert got == ["/ask x", "/ask@baal_demo_bot y", "a reply"]
