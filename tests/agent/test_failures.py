"""A model server that refuses, breaks off, or sends something odd."""

import asyncio
import json
from typing import Any

import pytest

from agent.errors import HINTS
from agent.protocol import Done, ErrorKind, Failed, Notice, Restart, Text
from tests.agent.conftest import answer, as_written
from tests.fakes.libertai_sim import Ending, KeyState, Script

STOP: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def say(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def sse(*documents: dict[str, Any]) -> Script:
    return Script(body="".join(f"data: {json.dumps(document)}\n\n" for document in documents) + "data: [DONE]\n\n")


def envelope(code: int | str, message: str = "no") -> str:
    return json.dumps({"error": {"message": message, "type": "x", "code": code}})


@pytest.mark.parametrize(
    ("refusal", "kind", "answered_with"),
    [
        ((401, None), ErrorKind.BAD_KEY, 502),
        ((402, '{"x402Version": 2}'), ErrorKind.NO_ALLOWANCE, 402),
        ((403, envelope("expired")), ErrorKind.NO_ALLOWANCE, 402),
        ((403, envelope("liberclaw_limit")), ErrorKind.NO_ALLOWANCE, 402),
        ((403, "<html>forbidden</html>"), ErrorKind.BAD_KEY, 502),
        ((404, None), ErrorKind.UNKNOWN_MODEL, 502),
        ((400, envelope(400, "This model's maximum context length is 16000 tokens.")), ErrorKind.TOO_LONG, 413),
        ((400, envelope("exceed_context_size_error", "exceed_context_size")), ErrorKind.TOO_LONG, 413),
        ((403, envelope("disabled")), ErrorKind.NO_ALLOWANCE, 402),
        ((403, envelope("key_monthly_limit")), ErrorKind.NO_ALLOWANCE, 402),
        ((403, envelope("no_credits")), ErrorKind.NO_ALLOWANCE, 402),
        ((403, '{"detail": "Forbidden"}'), ErrorKind.BAD_KEY, 502),
        ((404, '{"detail": "Model \'x\' not found"}'), ErrorKind.UNKNOWN_MODEL, 502),
        ((408, ""), ErrorKind.UNREACHABLE, 503),
        ((413, ""), ErrorKind.TOO_LONG, 413),
        ((429, '{"detail": "anon_limit", "used": 1, "limit": 1}'), ErrorKind.BUSY, 503),
        ((504, "upstream timed out"), ErrorKind.UNREACHABLE, 503),
        ((529, "[]"), ErrorKind.BUSY, 503),
        ((429, None), ErrorKind.BUSY, 503),
        ((503, None), ErrorKind.BUSY, 503),
        ((500, None), ErrorKind.UNREACHABLE, 503),
        ((502, "<html>Bad Gateway</html>"), ErrorKind.UNREACHABLE, 503),
        ((422, '{"detail": [{"msg": "x"}]}'), ErrorKind.BAD_REPLY, 502),
    ],
)
async def test_refusal_becomes_the_status_and_words_of_its_kind(client, libertai, refusal, kind, answered_with):
    await libertai.refuse(*refusal)
    await libertai.refuse(*refusal)
    response = await client.ask()
    assert (response.status_code, response.json()) == (answered_with, {"kind": kind, "text": HINTS[kind]})


@pytest.mark.parametrize(
    ("state", "kind"),
    [(KeyState.UNKNOWN, ErrorKind.BAD_KEY)]
    + [(state, ErrorKind.NO_ALLOWANCE) for state in KeyState if state not in {KeyState.OK, KeyState.UNKNOWN}],
)
async def test_key_that_libertai_refuses_ends_the_turn_at_once(client, libertai, state, kind):
    await libertai.set_key("LTAI_test_key", state)
    assert await client.events() == [Failed(seq=1, kind=kind, text=HINTS[kind], retryable=False)]


async def test_model_that_is_gone_ends_the_turn_at_once(agents):
    client = await agents(agent_model="gone")
    assert [event.kind for event in await client.events()] == [ErrorKind.UNKNOWN_MODEL]


async def test_server_that_is_down_is_unreachable(agents):
    client = await agents(llm_base_url="http://127.0.0.1:9/v1")
    notice, final = await client.events()
    assert isinstance(notice, Notice)
    assert (final.kind, final.retryable) == (ErrorKind.UNREACHABLE, True)


async def test_server_that_does_not_speak_http_is_unreachable(agents):
    async def babble(_, writer):
        writer.write(b"HELLO\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        client = await agents(llm_base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        assert (await client.events())[-1].kind is ErrorKind.UNREACHABLE


async def test_server_that_says_nothing_for_too_long_is_unreachable(agents, libertai, monkeypatch):
    monkeypatch.setattr("agent.llm.READ_SECONDS", 0.2)
    client = await agents()
    await libertai.script(Script(text="one two", hold_after=1), Script(text="fine"))
    events = await client.events()
    assert (answer(events), type(events[-1])) == ("fine", Done)


@pytest.mark.parametrize("ending", [Ending.SILENT, Ending.RESET])
async def test_cut_stream_is_asked_for_again_and_not_doubled(client, libertai, ending):
    await libertai.script(Script(text="one two three", tokens=2, ending=ending), Script(text="one two three"))
    events = await client.events()
    assert answer(events) == "one two three"
    assert [type(event) for event in events if not isinstance(event, Text)] == [Restart, Notice, Done]
    await client.events("next")
    assert (await libertai.calls())[2].messages[1] == {"role": "assistant", "content": "one two three"}


async def test_refusal_before_the_first_text_needs_no_restart(client, libertai):
    await libertai.refuse(503)
    await libertai.reply("Better now.")
    events = await client.events()
    assert answer(events) == "Better now."
    assert not [event for event in events if isinstance(event, Restart)]


async def test_failed_turns_message_stays_and_the_next_one_is_understood(client, libertai):
    await libertai.refuse(403)
    await client.events("first")
    await client.events("second")
    assert as_written((await libertai.calls())[1].messages) == [{"role": "user", "content": "first\n\nsecond"}]


@pytest.mark.parametrize(
    "odd",
    [
        Script(body=""),
        Script(body="data: [DONE]\n\n"),
        Script(body="data: {not json\n\n"),
        Script(body="data: []\n\n"),
        Script(body="data: 1\n\n"),
        Script(body="<html>hello</html>", content_type="text/html"),
        sse(STOP),
        sse(say(""), STOP),
        sse(say("<think>only thoughts</think>"), STOP),
        sse({"choices": [{"delta": {"reasoning_content": "only thoughts"}, "finish_reason": "length"}]}),
        sse(say("half"), {"error": {"message": "boom", "code": 500}}),
        sse(say("half"), {"detail": "All servers unavailable"}),
        sse(say("half")),
        Script(body='data: {"choices":[{"delta":{"content":"half"}}]}\n\ndata: {"choi'),
        Script(body="data: " + "[" * 100_000 + "\n\n"),
    ],
)
async def test_answer_that_is_none_is_asked_for_again(client, libertai, odd):
    await libertai.script(odd, Script(text="fine"))
    events = await client.events()
    assert answer(events) == "fine"
    assert isinstance(events[-1], Done)


async def test_answer_that_stays_nonsense_fails_without_any_exception_text(client, libertai):
    garbage = Script(body="data: {not json\n\n")
    await libertai.script(garbage, garbage)
    final = (await client.events())[-1]
    hint = HINTS[ErrorKind.BAD_REPLY]
    assert final == Failed(seq=2, kind=ErrorKind.BAD_REPLY, text=hint, retryable=True)


@pytest.mark.parametrize(
    "odd",
    [
        sse({"choices": []}, say("fine"), STOP, {"choices": [], "usage": {"prompt_tokens": 1}}),
        sse({"choices": None}, say("fine"), STOP, {"choices": None, "usage": None}),
        sse({"choices": [{"delta": None}]}, say("fine"), STOP),
        sse({"choices": [None, "x"]}, say("fine"), STOP),
        sse({"choices": [{"delta": {"reasoning_content": "hm", "content": None}}]}, say("fine"), STOP),
        sse({"choices": [{"delta": {"reasoning": "hm", "content": ["x"]}}]}, say("fine"), STOP),
        sse(say("<thi"), say("nk>hm</th"), say("ink>\n\nfine"), STOP),
        sse(say("fi"), {"choices": [{"delta": {"content": "ne"}, "finish_reason": "stop"}]}),
        sse(say("fine"), STOP, {"usage": {"prompt_tokens": "many", "prompt_tokens_details": None}}),
        Script(body='event: x\r\n: comment\r\ndata:{"choices":[{"delta":{"content":"fine"},"finish_reason":"stop"}]}'),
        Script(
            body=json.dumps({"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}], "error": None}),
            content_type="application/json",
        ),
    ],
)
async def test_odd_but_whole_answer_is_read(client, libertai, odd):
    await libertai.script(odd)
    assert answer(await client.events()) == "fine"
    assert len(await libertai.calls()) == 1


async def test_halves_of_a_character_are_joined_and_a_lone_half_is_replaced(client, libertai):
    await libertai.script(sse(say("a\ud83d"), say("\ude00b"), say("\ud83d"), STOP))
    assert answer(await client.events()) == "a😀b�"


async def test_length_limit_is_told(client, libertai):
    await libertai.script(Script(text="very long", ending=Ending.LENGTH))
    notice, done = (await client.events())[-2:]
    assert (type(notice), type(done)) == (Notice, Done)


async def test_chat_too_long_for_the_model_is_asked_without_its_older_half(client, libertai):
    await client.events("first")
    await libertai.refuse(400, envelope(400, "maximum context length"))
    await libertai.reply("They said “first”.")
    await libertai.reply("short enough")
    assert answer(await client.events("second")) == "short enough"
    [told, understood, asked] = as_written((await libertai.calls())[3].messages)
    assert "They said “first”." in told["content"]
    assert (understood["role"], asked) == ("assistant", {"role": "user", "content": "second"})


async def test_message_too_long_for_the_model_does_not_spoil_the_chat(client, libertai):
    await libertai.refuse(413)
    assert (await client.ask("huge")).status_code == 413
    await client.events("small")
    assert as_written((await libertai.calls())[1].messages) == [{"role": "user", "content": "small"}]


async def test_fault_of_the_agent_is_told_without_its_text_and_logged_with_the_turn(client, monkeypatch, caplog):
    def explode(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("agent.history.valid", explode)
    final = (await client.events("my private words", turn_id="t1"))[-1]
    hint = HINTS[ErrorKind.INTERNAL]
    assert final == Failed(seq=1, kind=ErrorKind.INTERNAL, text=hint, retryable=True)
    assert "turn broke turn='t1'" in caplog.text
    assert "my private words" not in caplog.text
