"""The double of LibertAI: what it answers, and what it refuses as the real one does."""

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from tests.fakes.libertai import LibertAIDouble
from tests.fakes.libertai_catalogue import ADDRESS
from tests.fakes.libertai_sim import Ending, Found, KeyState, Script, ToolCall

KEY = "LTAI_test_key"
USER = {"role": "user", "content": "hi"}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "x"}


def calling(name: str, arguments: str) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


CALL = calling("f", "{}")


def wanting(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "tool_calls": list(calls)}


@pytest.fixture
async def libertai():
    async with LibertAIDouble(keys=[KEY]) as double:
        yield double


@pytest.fixture
async def http(libertai):
    async with httpx.AsyncClient(base_url=libertai.url, headers={"Authorization": f"Bearer {KEY}"}) as client:
        yield client


@pytest.fixture
async def sdk(libertai):
    async with openai.AsyncOpenAI(base_url=libertai.base_url, api_key=KEY, max_retries=0) as client:
        yield client


async def complete(http: httpx.AsyncClient, **changes: object) -> httpx.Response:
    body = {"model": "qwen3.6-35b-a3b", "messages": [USER]} | changes
    return await http.post("/v1/chat/completions", json=body)


async def test_sdk_reads_a_stream_with_its_last_chunk_without_choices(libertai, sdk):
    await libertai.reply("Soup is good.")
    stream = await sdk.chat.completions.create(model="qwen3.6-35b-a3b", messages=[USER], stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Soup is good."
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 3)


async def test_answer_without_a_script_names_the_agent_and_the_question(sdk):
    messages = [{"role": "system", "content": "You are Ada.\n\nCook."}, USER]
    completion = await sdk.chat.completions.create(model="scripted", messages=messages)
    text = completion.choices[0].message.content
    assert text.startswith("Hello, I am Ada! You wrote: “hi”")
    assert "scripted model" in text


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "at least one message"),
        (None, "at least one message"),
        ([{"role": "system", "content": "x"}], "begin with a user"),
        ([{"role": "assistant", "content": "x"}], "begin with a user"),
        ([USER, USER], "must alternate"),
        ([USER, {"role": "assistant", "content": ""}, USER], "must have content"),
        ([USER, {"role": "tool", "tool_call_id": "1", "content": "x"}], "must be a response to a preceding"),
        ([USER, {"role": "assistant", "content": "x"}], "Expected last role"),
        ([USER, {"role": "assistant", "content": None}, USER], "must be a string"),
        ([USER, wanting(CALL), {"role": "user", "content": "x"}], "must be followed by tool"),
        ([USER, wanting(CALL, CALL), RESULT], "must differ"),
        ([USER, wanting(CALL), RESULT, RESULT], "must be a response to a preceding"),
        ([USER, wanting(CALL | {"id": ""}), RESULT], "must have an id"),
        ([USER, wanting({"id": "1"}), RESULT], "must be functions"),
        ([USER, wanting() | {"content": "x"}, USER], "not empty"),
        ([USER, wanting(calling("two words", "{}")), RESULT], "does not match pattern"),
        ([USER, wanting(calling("f", "[]")), RESULT], "must be a JSON object"),
        ([USER, {"role": "king", "content": "x"}], "Unexpected message role"),
        ([{"role": "user", "content": "x" * 2_000_000}], "maximum context length"),
    ],
)
async def test_conversation_that_is_none_is_refused(http, messages, reason):
    response = await complete(http, messages=messages)
    assert response.status_code == 400
    assert reason in response.json()["error"]["message"]


async def test_unknown_model_is_refused_and_a_redirected_one_is_not(http):
    refused = await complete(http, model="nope")
    assert (refused.status_code, refused.json()) == (404, {"detail": "Model 'nope' not found"})
    assert (await complete(http, model="ltai-fast")).status_code == 200


async def test_request_without_a_key_is_asked_to_pay(http):
    response = await http.post("/v1/chat/completions", json={}, headers={"Authorization": ""})
    assert (response.status_code, response.json()["error"]) == (402, "X-PAYMENT header is required")


@pytest.mark.parametrize("state", KeyState)
async def test_key_is_judged_alike_by_the_check_and_by_completions(libertai, http, state):
    await libertai.set_key(KEY, state)
    check, completion = await http.get("/libertai/auth/check"), await complete(http)
    status = {KeyState.OK: 200, KeyState.UNKNOWN: 401}.get(state, 403)
    assert (check.status_code, completion.status_code) == (status, status)
    if status == 200:
        assert check.text == "OK"
    elif status == 403:
        assert check.json()["error"]["code"] == state.value


async def test_account_backend_takes_keys_for_usage_but_not_for_the_balance(http):
    usage = await http.get("/usage")
    assert set(usage.json()) == {"plan", "window_5h", "weekly", "extra_usage_credits"}
    assert (await http.get("/usage", headers={"Authorization": "Bearer x"})).status_code == 401
    assert (await http.get("/credits/balance")).status_code == 401


async def test_catalogue_lists_what_the_models_can_do(http):
    aggregate = (await http.get(f"/api/v0/aggregates/{ADDRESS}.json?keys=LTAI_PRICING")).json()
    models = {model["id"]: model for model in aggregate["data"]["LTAI_PRICING"]["models"]}
    assert models["hermes-3-8b-tee"]["capabilities"]["text"]["context_window"] == 16_000
    listed = {model["id"] for model in (await http.get("/v1/models")).json()["data"]}
    assert {"qwen3.6-35b-a3b", "qwen3.6-35b-a3b-thinking", "scripted"} <= listed


@pytest.mark.parametrize("ending", [Ending.SILENT, Ending.RESET])
async def test_stream_is_cut_after_as_many_tokens_as_scripted(libertai, http, ending):
    await libertai.script(Script(text="one two three", tokens=1, ending=ending))
    told = b""
    try:
        body = {"model": "scripted", "messages": [USER], "stream": True}
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            async for piece in response.aiter_bytes():
                told += piece
        assert ending is Ending.SILENT
    except httpx.RemoteProtocolError:
        assert ending is Ending.RESET
    assert b'"one"' in told
    assert b"two" not in told
    assert b"[DONE]" not in told


async def test_held_answer_goes_on_when_released(libertai, sdk):
    await libertai.script(Script(text="one two", hold_after=1))
    call = asyncio.create_task(sdk.chat.completions.create(model="scripted", messages=[USER], stream=True))
    [recorded] = await libertai.calls(at_least=1)
    assert recorded.messages == [USER]
    stream = await call
    text = ""
    async for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
        if text == "one":
            await libertai.release()
    assert text == "one two"


@pytest.mark.parametrize("arguments", ["", "{", '{"x": NaN}', '{"x": "\\ud800"}', "[" * 100_000])
async def test_arguments_that_are_not_json_are_answered_500_for_ever(http, arguments):
    messages = [USER, wanting(calling("f", arguments)), RESULT]
    assert (await complete(http, messages=messages)).status_code == 500
    assert (await complete(http, messages=[*messages, {"role": "assistant", "content": "x"}, USER])).status_code == 500


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ([], "not empty"),
        ([{"type": "function", "function": {"name": "a b"}}], "does not match pattern"),
        ([{"type": "function", "function": {"name": "f"}}], "described"),
        (
            [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}],
            "schema of an object",
        ),
    ],
)
async def test_tools_that_are_none_are_refused(http, tools, reason):
    response = await complete(http, tools=tools)
    assert response.status_code == 400
    assert reason in response.json()["error"]["message"]


async def test_sdk_puts_streamed_calls_together_and_reads_whole_ones(libertai, sdk):
    arguments = {"query": "soup with carrots"}
    script = Script(text="Let me look.", calls=[ToolCall(name="web_search", arguments=arguments), ToolCall(name="now")])
    await libertai.script(script, script)
    whole = await sdk.chat.completions.create(model="scripted", messages=[USER])
    async with sdk.chat.completions.stream(model="scripted", messages=[USER]) as stream:
        streamed = await stream.get_final_completion()
    for completion in (whole, streamed):
        [choice] = completion.choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me look.")
        assert [call.function.name for call in choice.message.tool_calls] == ["web_search", "now"]
        assert json.loads(choice.message.tool_calls[0].function.arguments) == arguments


async def test_scripted_lines_are_all_there_is(libertai, http):
    await libertai.script(Script(lines=["data: {", ": comment"]))
    response = await complete(http, stream=True)
    assert response.text == "data: {\n\n: comment\n\n"


async def test_search_finds_something_and_no_more_than_wanted(libertai, http):
    answer = (await http.post("/search", json={"query": "soup", "max_results": 1})).json()
    assert set(answer) == {"results", "meta"}
    assert set(answer["results"][0]) == {"title", "url", "snippet", "engine", "rank", "found_in"}
    await libertai.find(Found(results=[{"title": "A"}, {"title": "B"}]))
    answer = (await http.post("/search", json={"query": "soup", "max_results": 1})).json()
    assert [result["title"] for result in answer["results"]] == ["A"]
    assert [asked.body["query"] for asked in await libertai.asked()] == ["soup", "soup"]


async def test_page_is_read_as_text(libertai, http):
    await libertai.find(Found(title="T", content="two words"))
    page = (await http.post("/search/fetch", json={"url": "https://a.example/"})).json()
    assert page == {"url": "https://a.example/", "title": "T", "content": "two words", "word_count": 2}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/search", {}),
        ("/search", {"query": ""}),
        ("/search", {"query": "x", "engines": ["altavista"]}),
        ("/search", {"query": "x", "max_results": 0}),
        ("/search", {"query": "x", "search_type": "maps"}),
        ("/search", {"query": "x", "page": 1}),
        ("/search/fetch", {}),
        ("/search/fetch", {"url": "file:///etc/passwd"}),
    ],
)
async def test_search_service_refuses_what_it_does_not_know(http, path, body):
    assert (await http.post(path, json=body)).status_code == 422


async def test_search_service_wants_a_key(http):
    assert (await http.post("/search", json={"query": "x"}, headers={"Authorization": ""})).status_code == 402
    assert (await http.post("/search", json={"query": "x"}, headers={"Authorization": "Bearer x"})).status_code == 401


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_search_service_fails_as_scripted(libertai, http, status):
    await libertai.find(Found(status=status))
    assert (await http.post("/search", json={"query": "x"})).status_code == status
