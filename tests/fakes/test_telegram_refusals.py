"""The double refuses what Telegram refuses, in Telegram's words, and a refused call changes nothing."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.fakes.telegram_client import SimUser, TelegramDouble
from tests.fakes.telegram_pictures import png
from tests.fakes.telegram_views import CallView


@dataclass(slots=True)
class Scene:
    """A chat with one message of each side, and what hides behind the table's names."""

    telegram: TelegramDouble
    user: SimUser
    group: int
    theirs: int
    ours: int


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with TelegramDouble() as telegram:
        user = await telegram.user(name="Olga")
        group = await telegram.group("Team", by=user)
        theirs = await user.send("hello")
        keyboard = {"inline_keyboard": [[{"text": "Go", "callback_data": "go"}]]}
        ours = await telegram.call("sendMessage", chat_id=user.id, text="hi", reply_markup=keyboard)
        yield Scene(telegram, user, group, theirs.id, ours["result"]["message_id"])


def keyboard(*buttons: dict[str, Any]) -> dict[str, Any]:
    return {"inline_keyboard": [list(buttons)]}


def in_chat(**more: Any) -> Callable[[Scene], dict[str, Any]]:
    return lambda scene: {"chat_id": scene.user.id, **more}


def with_button(**action: Any) -> Callable[[Scene], dict[str, Any]]:
    return in_chat(text="x", reply_markup=keyboard({"text": "b", **action}))


def with_entity(offset: int, length: int) -> Callable[[Scene], dict[str, Any]]:
    return in_chat(text="a😀b", entities=[{"type": "bold", "offset": offset, "length": length}])


NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same as a current content "
    "and reply markup of the message"
)
NO_QUERY = "query is too old and response timeout expired or query ID is invalid"
BAD_REQUESTS = [
    ("sendMessage", lambda _: {"text": "x"}, "chat_id is empty"),
    ("sendMessage", lambda _: {"chat_id": 77, "text": "x"}, "chat not found"),
    ("sendMessage", lambda _: {"chat_id": "@nobody", "text": "x"}, "chat not found"),
    ("sendMessage", in_chat(text="x", message_thread_id=9), "message thread not found"),
    ("sendMessage", in_chat(), "message text is empty"),
    ("sendMessage", in_chat(text=" \n "), "message text is empty"),
    ("sendMessage", in_chat(text="<b> </b>", parse_mode="HTML"), "message text is empty"),
    ("sendMessage", in_chat(text="a" * 4097), "message is too long"),
    ("sendMessage", in_chat(text="😀" * 2049), "message is too long"),
    ("editMessageText", lambda s: {"chat_id": s.user.id, "message_id": s.ours}, "message text is empty"),
    ("editMessageText", lambda s: {"chat_id": s.user.id, "message_id": s.ours, "text": "a" * 4097}, "MESSAGE_TOO_LONG"),
    ("sendDocument", in_chat(document="F000009"), "wrong file identifier/HTTP URL specified"),
    ("sendDocument", in_chat(document="x", caption="a" * 1025), "message caption is too long"),
    (
        "sendMessage",
        in_chat(text="é<b>x", parse_mode="HTML"),
        'can\'t parse entities: Can\'t find end tag corresponding to start tag "b"',
    ),
    (
        "sendMessage",
        in_chat(text="é<x>", parse_mode="HTML"),
        'can\'t parse entities: Unsupported start tag "x" at byte offset 2',
    ),
    ("sendMessage", with_entity(5, 1), "Entity begins after the end of the text at UTF-16 offset 5"),
    (
        "sendMessage",
        with_entity(3, 2),
        "Entity beginning at UTF-16 offset 3 ends after the end of the text at UTF-16 offset 5",
    ),
    (
        "sendMessage",
        with_entity(1, 1),
        "Entity beginning at UTF-16 offset 1 has a bound in the middle of a symbol",
    ),
    ("sendMessage", with_button(callback_data="é" * 33), "BUTTON_DATA_INVALID"),
    ("sendMessage", with_button(callback_data=""), "BUTTON_DATA_INVALID"),
    ("sendMessage", with_button(), "Text buttons are not allowed in the inline keyboard"),
    ("sendMessage", with_button(copy_text={"text": "x" * 257}), "BUTTON_COPY_TEXT_INVALID"),
    ("sendMessage", with_button(url="nowhere"), "inline keyboard button URL 'nowhere' is invalid: Wrong HTTP URL"),
    (
        "sendMessage",
        lambda s: {
            "chat_id": s.group,
            "text": "x",
            "reply_markup": keyboard({"text": "b", "web_app": {"url": "https://x.example"}}),
        },
        "BUTTON_TYPE_INVALID",
    ),
    (
        "sendMessage",
        in_chat(text="x", reply_markup={"inline_keyboard": [[{"text": "b", "callback_data": "x"}]] * 101}),
        "reply markup is too long",
    ),
    (
        "sendMessage",
        in_chat(text="x", reply_markup={"inline_keyboard": [[{"text": "b", "callback_data": "x"}] * 9]}),
        "reply markup row is too long",
    ),
    (
        "editMessageText",
        lambda s: {
            "chat_id": s.user.id,
            "message_id": s.ours,
            "text": "hi",
            "reply_markup": keyboard({"text": "Go", "callback_data": "go"}),
        },
        NOT_MODIFIED,
    ),
    ("editMessageText", in_chat(message_id=99, text="x"), "message to edit not found"),
    ("deleteMessage", in_chat(message_id=99), "message to delete not found"),
    (
        "editMessageText",
        lambda s: {"chat_id": s.user.id, "message_id": s.theirs, "text": "x"},
        "message can't be edited",
    ),
    ("sendMessage", in_chat(text="x", reply_parameters={"message_id": 99}), "message to be replied not found"),
    ("answerCallbackQuery", lambda _: {"callback_query_id": "1"}, NO_QUERY),
    ("sendChatAction", in_chat(action="dancing"), "wrong parameter action in request"),
    (
        "setMessageReaction",
        lambda s: {
            "chat_id": s.user.id,
            "message_id": s.theirs,
            "reaction": [{"type": "emoji", "emoji": "👀"}, {"type": "emoji", "emoji": "👍"}],
        },
        "REACTIONS_TOO_MANY",
    ),
    (
        "setMessageReaction",
        lambda s: {"chat_id": s.user.id, "message_id": s.theirs, "reaction": [{"type": "emoji", "emoji": "🚀"}]},
        "REACTION_INVALID",
    ),
    ("setMyCommands", lambda _: {"commands": [{"command": "Big", "description": "x"}]}, "BOT_COMMAND_INVALID"),
    ("sendMessageDraft", lambda s: {"chat_id": s.group, "draft_id": 1},
     "message drafts can be sent only to private chats"),
    ("setWebhook", lambda _: {"url": "https://x.example", "secret_token": "a b"},
     "secret token contains unallowed characters"),
    ("getMe", lambda _: {"x": 1}, 'unknown parameter "x" (known here: )'),
    (
        "sendMessage",
        in_chat(text="_x_", parse_mode="Markdown"),
        "unsupported parse_mode (Markdown: this double parses HTML only; or send entities)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "parameters", "reason"), BAD_REQUESTS, ids=[f"{method}-{why[:40]}" for method, _, why in BAD_REQUESTS]
)
async def test_call_is_refused_in_telegrams_words_and_changes_nothing(
    scene: Scene, method: str, parameters: Callable[[Scene], dict[str, Any]], reason: str
):
    before = await scene.telegram.chat(scene.user.id)
    answer = await scene.telegram.call(method, **parameters(scene))
    assert answer == {"ok": False, "error_code": 400, "description": f"Bad Request: {reason}"}
    assert await scene.telegram.chat(scene.user.id) == before
    refused = await scene.telegram.refusals()
    assert [(call.method, call.status, call.description) for call in refused] == [
        (method, 400, f"Bad Request: {reason}")
    ]


async def test_unknown_parameter_is_refused_deep_inside_an_object(scene: Scene):
    bad = keyboard({"text": "b", "callback_data": "x", "colour": "red"})
    answer = await scene.telegram.call("sendMessage", chat_id=scene.user.id, text="x", reply_markup=bad)
    assert answer["error_code"] == 400
    assert "colour" in answer["description"]


@pytest.mark.parametrize(
    ("token", "method", "status", "description"),
    [("", "nope", 404, "Not Found: method not found"), ("x", "getMe", 401, "Unauthorized")],
)
async def test_wrong_method_or_token_is_refused_with_its_status(
    scene: Scene, token: str, method: str, status: int, description: str
):
    async with httpx.AsyncClient(base_url=scene.telegram.url) as http:
        answer = await http.get(f"/bot{scene.telegram.token}{token}/{method}")
    assert (answer.status_code, answer.json()) == (
        status,
        {"ok": False, "error_code": status, "description": description},
    )


async def test_sending_is_forbidden_when_the_user_blocked_the_bot(scene: Scene):
    await scene.user.block()
    answer = await scene.telegram.call("sendMessage", chat_id=scene.user.id, text="x")
    assert answer == {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked by the user"}
    await scene.user.send("back again")
    assert (await scene.telegram.call("sendMessage", chat_id=scene.user.id, text="x"))["ok"]


async def test_sending_is_forbidden_when_the_bot_was_kicked_or_the_user_is_gone(scene: Scene):
    await scene.telegram.kick_bot(scene.group, by=scene.user)
    await scene.user.deactivate()
    answers = [
        await scene.telegram.call("sendMessage", chat_id=chat, text="x") for chat in (scene.group, scene.user.id)
    ]
    assert [answer["description"] for answer in answers] == [
        "Forbidden: bot was kicked from the supergroup chat",
        "Forbidden: user is deactivated",
    ]


async def test_chat_is_not_found_before_its_person_wrote(scene: Scene):
    shy = await scene.telegram.user(name="Shy", started=False)
    assert (await scene.telegram.call("sendMessage", chat_id=shy.id, text="x"))["description"].endswith(
        "chat not found"
    )
    await shy.send("/start")
    assert (await scene.telegram.call("sendMessage", chat_id=shy.id, text="x"))["ok"]


async def test_callback_query_is_answered_once_and_not_late(scene: Scene):
    first, second = await scene.user.press("Go"), await scene.user.press("Go")
    once = await scene.telegram.call(
        "answerCallbackQuery", callback_query_id=first.view.value, text="ok", show_alert=True
    )
    twice = await scene.telegram.call("answerCallbackQuery", callback_query_id=first.view.value)
    await scene.telegram.pass_time(61)
    late = await scene.telegram.call("answerCallbackQuery", callback_query_id=second.view.value)
    answer = await first.answer()
    assert (once["ok"], answer.text, answer.alert) == (True, "ok", True)
    assert twice["description"] == late["description"] == f"Bad Request: {NO_QUERY}"


async def test_download_is_refused_when_the_file_is_over_20_mb(scene: Scene):
    sent = await scene.user.upload("big.bin", b"x", size=20 * 1024 * 1024 + 1)
    assert sent.file
    answer = await scene.telegram.call("getFile", file_id=sent.file.file_id)
    assert answer["description"] == "Bad Request: file is too big"


async def test_a_file_that_telegram_lost_cannot_be_fetched(scene: Scene):
    sent = await scene.user.upload("notes.txt", b"x")
    assert sent.file
    path = (await scene.telegram.call("getFile", file_id=sent.file.file_id))["result"]["file_path"]
    await scene.telegram.lose_file(sent.file.file_id)

    answer = await scene.telegram.call("getFile", file_id=sent.file.file_id)
    async with httpx.AsyncClient(base_url=scene.telegram.url) as http:
        download = await http.get(f"/file/bot{scene.telegram.token}/{path}")

    assert answer["description"] == "Bad Request: wrong file_id or the file is temporarily unavailable"
    assert download.status_code == 404


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (b"no picture", "IMAGE_PROCESS_FAILED"),
        (png(1, 21), "PHOTO_INVALID_DIMENSIONS"),
        (png(9_000, 1_001), "PHOTO_INVALID_DIMENSIONS"),
    ],
)
async def test_what_cannot_be_shown_is_no_photo(scene: Scene, content: bytes, refusal: str):
    async with httpx.AsyncClient(base_url=f"{scene.telegram.url}/bot{scene.telegram.token}") as http:
        upload = {"photo": ("a.png", content, "image/png")}
        photo = await http.post("/sendPhoto", data={"chat_id": str(scene.user.id)}, files=upload)

    assert photo.json()["description"] == f"Bad Request: {refusal}"


@pytest.mark.parametrize("encoding", ["query", "form", "multipart", "json"])
async def test_parameters_arrive_in_every_encoding(scene: Scene, encoding: str):
    markup = json.dumps(keyboard({"text": "ä", "callback_data": "x"}))
    sent = {"chat_id": str(scene.user.id), "text": "7", "reply_markup": markup}
    ways: dict[str, dict[str, Any]] = {
        "query": {"params": sent},
        "form": {"data": sent},
        "multipart": {"files": {name: (None, value) for name, value in sent.items()}},
        "json": {"json": sent},
    }
    async with httpx.AsyncClient(base_url=f"{scene.telegram.url}/bot{scene.telegram.token}") as http:
        answer = (await http.post("/sendMessage", **ways[encoding])).json()
    assert (answer["result"]["text"], answer["result"]["reply_markup"]) == ("7", json.loads(markup))


async def test_outbox_holds_every_request_but_never_the_token(scene: Scene):
    await scene.telegram.call("sendMessage", chat_id=scene.user.id, text=f"my token is {scene.telegram.token}")
    calls: list[CallView] = await scene.telegram.outbox(chat=scene.user.id)
    assert [call.method for call in calls] == ["sendMessage", "sendMessage"]
    assert calls[-1].parameters == {"chat_id": scene.user.id, "text": "my token is <token>"}
