"""Tests can play people, break requests and wait for what a chat shows."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.fakes.telegram_client import CannotDo, NothingCame, SimUser, TelegramDouble
from tests.fakes.telegram_pictures import png
from tests.fakes.telegram_views import FaultKind, PressKind


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramDouble]:
    async with TelegramDouble() as double:
        yield double


async def say(telegram: TelegramDouble, user: SimUser, text: str, **more: Any) -> Any:
    return await telegram.call("sendMessage", chat_id=user.id, text=text, **more)


def row(*buttons: dict[str, Any]) -> dict[str, Any]:
    return {"inline_keyboard": [list(buttons)]}


async def test_waiting_sees_only_what_changed_since_the_own_action(telegram: TelegramDouble):
    user = await telegram.user()
    old = await say(telegram, user, "Ready")
    await user.send("/create")
    waiting = asyncio.create_task(user.wait_for("Ready"))
    await telegram.call("editMessageText", chat_id=user.id, message_id=old["result"]["message_id"], text="Ready again")
    assert (await waiting).text == "Ready again"
    assert (await user.wait_for("Ready", anywhere=True)).edits == 1


async def test_failure_shows_the_chat_so_far(telegram: TelegramDouble):
    user = await telegram.user(name="Olga")
    await user.send("/start")
    await say(telegram, user, "Hi", reply_markup=row({"text": "Go", "callback_data": "go"}))
    await say(telegram, user, " ")
    with pytest.raises(NothingCame) as caught:
        await user.wait_for("Bye", timeout=0)
    assert str(caught.value) == (
        f"no 'Bye' for Olga in 0 s\n--- chat {user.id} so far:\n#1 Olga: /start\n#2 Baal: Hi\n      [Go]\n"
        "--- refused: sendMessage 400 Bad Request: message text is empty"
    )


async def test_press_takes_the_newest_button_with_these_words(telegram: TelegramDouble):
    user = await telegram.user()
    for data in ("old", "new"):
        await say(telegram, user, "card", reply_markup=row({"text": "🚀 Deploy", "callback_data": data}))
    pressed = await user.press("Deploy")
    queries = (await telegram.call("getUpdates"))["result"]
    assert (pressed.message_id, queries[-1]["callback_query"]["data"]) == (2, "new")
    with pytest.raises(CannotDo, match="no button says 'Delete'; the chat shows: "):
        await user.press("Delete")


async def test_link_and_copy_buttons_do_what_they_say(telegram: TelegramDouble):
    user = await telegram.user()
    link = {"text": "Chat", "url": "https://t.me/baal_demo_bot?start=agent_7"}
    await say(telegram, user, "card", reply_markup=row(link, {"text": "Copy", "copy_text": {"text": "agent_7"}}))
    assert (await user.press("Copy")).copied == "agent_7"
    pressed = await user.press("Chat")
    assert pressed.view.kind is PressKind.LINK
    assert pressed.view.sent
    assert pressed.view.sent.text == "/start agent_7"


@pytest.mark.parametrize("link", ["https://t.me/other_bot?start=x", "t.me/baal_demo_bot?start=a%20b", "nonsense"])
async def test_bad_link_is_not_followed(telegram: TelegramDouble, link: str):
    user = await telegram.user()
    with pytest.raises(CannotDo):
        await user.open(link)


async def test_fault_hits_only_the_named_chat_and_method_as_often_as_asked(telegram: TelegramDouble):
    user, other = await telegram.user(), await telegram.user(name="Ben")
    await telegram.fault(FaultKind.TOO_MANY_REQUESTS, "sendMessage", chat=user.id, times=2, retry_after=9)
    assert (await say(telegram, other, "x"))["ok"]
    assert (await telegram.call("sendChatAction", chat_id=user.id, action="typing"))["ok"]
    first, second, third = [await say(telegram, user, "x") for _ in range(3)]
    assert (
        first
        == second
        == {
            "ok": False,
            "error_code": 429,
            "description": "Too Many Requests: retry after 9",
            "parameters": {"retry_after": 9},
        }
    )
    assert third["ok"]


async def test_lost_answer_is_done_but_looks_failed(telegram: TelegramDouble):
    user = await telegram.user()
    await telegram.fault(FaultKind.LOST_ANSWER, "sendMessage")
    assert (await say(telegram, user, "x"))["error_code"] == 502
    assert [message.text for message in await user.messages()] == ["x"]


async def test_hanging_call_gives_its_caller_nothing(telegram: TelegramDouble):
    await telegram.fault(FaultKind.HANG, "getMe")
    async with httpx.AsyncClient(base_url=f"{telegram.url}/bot{telegram.token}", timeout=0.05) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/getMe")
    assert (await telegram.call("getMe"))["ok"]


async def test_strict_rate_allows_a_burst_of_four_then_one_a_second(telegram: TelegramDouble):
    user, other = await telegram.user(), await telegram.user(name="Ben")
    await telegram.strict_rate()
    statuses = [(await say(telegram, user, "x"))["ok"] for _ in range(5)]
    assert statuses == [True, True, True, True, False]
    assert (await say(telegram, other, "x"))["ok"]
    await telegram.pass_time(1)
    assert (await say(telegram, user, "x"))["ok"]


async def test_strict_rate_allows_twenty_a_minute_in_a_group(telegram: TelegramDouble):
    user = await telegram.user()
    group = await telegram.group("Team", by=user)
    await telegram.strict_rate()
    for _ in range(20):
        assert (await telegram.call("sendMessage", chat_id=group, text="x"))["ok"]
        await telegram.pass_time(1)
    refused = await telegram.call("sendMessage", chat_id=group, text="x")
    assert refused["error_code"] == 429
    assert 38 <= refused["parameters"]["retry_after"] <= 40


async def test_draft_is_shown_until_it_expires_or_a_message_comes(telegram: TelegramDouble):
    user = await telegram.user()
    await telegram.call("sendMessageDraft", chat_id=user.id, draft_id=1, text="half")
    assert [draft.text for draft in (await user.chat()).drafts] == ["half"]
    await telegram.pass_time(31)
    assert (await user.chat()).drafts == []
    await telegram.call("sendMessageDraft", chat_id=user.id, draft_id=2, text="half")
    await say(telegram, user, "whole")
    assert (await user.chat()).drafts == []


async def test_typing_ends_with_a_message_or_after_five_seconds(telegram: TelegramDouble):
    user = await telegram.user()
    await telegram.call("sendChatAction", chat_id=user.id, action="typing")
    shown = [(await user.chat()).action]
    await say(telegram, user, "x")
    shown.append((await user.chat()).action)
    await telegram.call("sendChatAction", chat_id=user.id, action="typing")
    await telegram.pass_time(6)
    shown.append((await user.chat()).action)
    assert shown == ["typing", "", ""]


async def test_deleted_message_is_gone_for_the_person_and_the_bot(telegram: TelegramDouble):
    user = await telegram.user()
    secret = await user.send("my key")
    assert (await telegram.call("deleteMessage", chat_id=user.id, message_id=secret.id))["ok"]
    assert await user.messages() == []
    again = await telegram.call("deleteMessage", chat_id=user.id, message_id=secret.id)
    assert again["description"] == "Bad Request: message to delete not found"


async def test_long_paste_goes_out_in_pieces(telegram: TelegramDouble):
    user = await telegram.user()
    await user.send("x" * 5000)
    assert [len(message.text) for message in await user.messages()] == [4096, 904]


async def test_page_stream_tells_of_messages_and_calls(telegram: TelegramDouble):
    user = await telegram.user()
    async with (
        httpx.AsyncClient(base_url=telegram.url, timeout=5) as http,
        http.stream("GET", "/sim/events") as stream,
    ):
        lines = stream.aiter_lines()
        assert await anext(lines) == ": connected"
        await say(telegram, user, "news")
        told = [line async for line in _until(lines, '"kind":"call"')]
    assert any('"kind":"message"' in line and '"news"' in line for line in told)


async def _until(lines: AsyncIterator[str], end: str) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        if end in line:
            return


async def test_page_is_served_without_scripts_from_elsewhere(telegram: TelegramDouble):
    async with httpx.AsyncClient(base_url=telegram.url) as http:
        page = await http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "innerHTML" not in page.text
    assert "src=" not in page.text


async def test_an_album_is_several_messages_of_one_group(telegram: TelegramDouble):
    user = await telegram.user()
    sent = await user.album(("a.png", png(3, 2), "image/png"), ("b.txt", b"text", "text/plain"), caption="both")
    updates = (await telegram.call("getUpdates"))["result"]

    first, second = (update["message"] for update in updates)
    assert [message.album for message in sent] == [first["media_group_id"], second["media_group_id"]]
    assert first["media_group_id"] == second["media_group_id"]
    assert (first["caption"], "caption" in second) == ("both", False)
    assert (first["photo"][-1]["width"], second["document"]["file_name"]) == (3, "b.txt")
    with pytest.raises(CannotDo, match="an album has 2 to 10 files, not 1"):
        await user.album(("a.png", png(3, 2), "image/png"))
