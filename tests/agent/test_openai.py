"""OpenAI's own client, and raw requests, against a running agent."""

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import Any

import openai
import pytest

from agent.completions.answer import Answer
from agent.protocol import Ask, Restart, Role, Text
from agent.usage import THROW_AWAY
from tests.agent.conftest import SECRET, as_written
from tests.fakes.libertai_sim import Call, Script, ToolCall

NOTED = ToolCall(name="remember", arguments={"note": "likes soup"})
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def sdk(client):
    async with openai.AsyncOpenAI(base_url=f"{client.http.base_url}/v1", api_key=SECRET) as made:
        yield made


async def post(client, **fields) -> Any:
    return await client.http.post("/v1/chat/completions", json={"model": "ada", "messages": HELLO} | fields)


async def refused(client, **fields) -> tuple[int, str, str | None]:
    response = await post(client, **fields)
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["code"], error["param"]


async def chunks(client, **fields) -> list[Any]:
    body = {"model": "ada", "messages": HELLO, "stream": True} | fields
    async with client.http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in response.aiter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def said(stream: list[Any]) -> str:
    return "".join(each["choices"][0]["delta"].get("content", "") for each in stream[:-1] if each["choices"])


def contents(call: Call) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in as_written(call.messages)]


async def until_forgotten(client) -> None:
    async with asyncio.timeout(30):
        while any(stored(client).values()):
            await asyncio.sleep(0.005)


def stored(client) -> dict[str, int]:
    """How many rows there are of chats that are to be forgotten."""
    chats = client.turns._store.execute("SELECT chat_id FROM turn UNION ALL SELECT chat_id FROM message").fetchall()
    of_none = "SELECT count(*) FROM event WHERE turn_id NOT IN (SELECT id FROM turn)"
    return {
        "turns and messages": sum(chat_id.startswith(THROW_AWAY) for (chat_id,) in chats),
        "events": client.turns._store.execute(of_none).fetchone()[0],
    }


# OpenAI's client


async def test_answer_in_one_document(sdk, libertai):
    await libertai.reply("Soup is good.")
    completion = await sdk.chat.completions.create(model="ada", messages=HELLO)
    [choice] = completion.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "Soup is good.", "stop")
    assert completion.object == "chat.completion"
    assert completion.usage.completion_tokens == 3
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + 3


async def test_answer_as_a_stream(sdk, libertai):
    await libertai.script(Script(text="Soup is good.", hold_after=1))
    stream = await sdk.chat.completions.create(
        model="ada", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    first = await anext(stream)
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert (await anext(stream)).choices[0].delta.content == "Soup"
    await libertai.release()
    *rest, last, usage = [each async for each in stream]
    assert "".join(each.choices[0].delta.content for each in rest) == " is good."
    assert last.choices[0].finish_reason == "stop"
    assert (usage.choices, usage.usage.completion_tokens) == ([], 3)
    assert len({each.id for each in [first, *rest, last, usage]}) == 1


async def test_agent_is_the_one_model(sdk):
    assert [each.id async for each in sdk.models.list()] == ["ada"]
    assert (await sdk.models.retrieve("ada")).owned_by == "baal"
    with pytest.raises(openai.NotFoundError) as refusal:
        await sdk.models.retrieve("gpt-9")
    assert refusal.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
async def test_other_models_do_not_exist(sdk, stream):
    with pytest.raises(openai.NotFoundError, match="This agent is `ada`") as refusal:
        await sdk.chat.completions.create(model="gpt-9", messages=HELLO, stream=stream)
    assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")


async def test_without_the_secret_it_is_an_authentication_error(sdk):
    stranger = sdk.with_options(api_key="sk-other")
    with pytest.raises(openai.AuthenticationError) as refusal:
        await stranger.models.list()
    assert refusal.value.code == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        await stranger.chat.completions.create(model="ada", messages=HELLO)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "failure",
    [
        (403, {"error": {"message": "x", "code": "no_credits"}}, openai.RateLimitError, "insufficient_quota", 1),
        (401, None, openai.InternalServerError, "bad_key", 1),
        (503, None, openai.InternalServerError, "busy", 2),
        (400, {"error": {"message": "context length"}}, openai.BadRequestError, "context_length_exceeded", 1),
    ],
)
async def test_failed_turn_is_the_clients_exception_and_not_asked_again_by_it(sdk, libertai, failure, stream):
    status, body, error, code, asked = failure
    await libertai.always(Script(status=status, body=body and json.dumps(body)))
    with pytest.raises(error) as refusal:
        await sdk.chat.completions.create(model="ada", messages=HELLO, stream=stream)
    assert refusal.value.code == code
    assert len(await libertai.calls()) == asked


async def test_turn_that_fails_in_the_middle_is_an_error_in_the_stream(sdk, libertai):
    broken = Script(text="one two three", tokens=2, ending="silent")
    await libertai.script(broken, broken)
    stream = await sdk.chat.completions.create(model="ada", messages=HELLO, stream=True)
    heard: list[str] = []
    with pytest.raises(openai.APIError, match="did not finish its answer") as refusal:
        await hear(stream, heard)
    assert refusal.value.code == "unreachable"
    assert "".join(heard) == "one two"


async def hear(stream: Any, heard: list[str]) -> None:
    async for each in stream:
        heard.append(each.choices[0].delta.content or "")  # noqa: PERF401 - what came before an error counts


async def test_draining_agent_is_asked_again_later(client, sdk):
    await client.turns.drain(0)
    response = await post(client)
    assert (response.status_code, response.headers["x-should-retry"]) == (503, "true")
    with pytest.raises(openai.InternalServerError) as refusal:
        await sdk.with_options(max_retries=0).chat.completions.create(model="ada", messages=HELLO)
    assert refusal.value.code == "draining"


# Which chat


async def test_without_a_chat_the_request_is_the_conversation_and_is_forgotten(client, libertai):
    messages = [
        {"role": "system", "content": "Speak like a pirate."},
        {"role": "user", "content": "What is good?"},
        {"role": "assistant", "content": [{"type": "text", "text": "Soup."}]},
        {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "then?"}]},
    ]
    for _ in range(2):
        response = await post(client, messages=messages)
        assert response.status_code == 200
    question = "[The program that the person writes with adds:\nSpeak like a pirate.]\n\nAnd\nthen?"
    for call in await libertai.calls():
        assert contents(call) == [("user", "What is good?"), ("assistant", "Soup."), ("user", question)]
        assert call.system.startswith("You are Ada.\n\nYou cook.")
        assert "pirate" not in call.system
    await until_forgotten(client)
    [day] = (await client.http.get("/usage")).json()["days"]
    assert (day["chat_id"], day["turns"]) == (THROW_AWAY, 2)


@pytest.mark.parametrize("how", ["header", "user"])
async def test_in_a_chat_the_agent_keeps_the_history_and_only_the_question_counts(client, libertai, how):
    fields: dict[str, Any] = {"user": "c1"} if how == "user" else {}
    headers = {"X-Baal-Chat": "c1"} if how == "header" else {}
    await libertai.reply("Soup.")
    await client.events("What is good?")
    talk = [{"role": "assistant", "content": "I never said that."}, {"role": "user", "content": "And then?"}]
    body = {"model": "ada", "messages": talk} | fields
    response = await client.http.post("/v1/chat/completions", json=body, headers=headers)
    assert response.status_code == 200
    expected = [("user", "What is good?"), ("assistant", "Soup."), ("user", "And then?")]
    assert contents((await libertai.calls())[1]) == expected
    await client.events("thanks")
    assert len((await libertai.calls())[2].messages) == 5, "it is stored"


async def test_note_of_the_client_stands_in_a_chat_once(client, libertai):
    for question in ("one", "two"):
        talk = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": question}]
        await post(client, messages=talk, user="c1")
    users = [content for role, content in contents((await libertai.calls())[1]) if role == "user"]
    assert users == ["[The program that the person writes with adds:\nBe brief.]\n\none", "two"]


async def test_client_is_the_owner_and_tools_run_unseen(client, libertai):
    await libertai.script(Script(text="I note it.", calls=[NOTED]), Script(text="Noted."))
    response = await post(client)
    assert response.json()["choices"][0]["message"]["content"] == "I note it.\n\nNoted."
    await client.events("hi", role=Role.OWNER)
    assert "likes soup" in (await libertai.calls())[-1].body["messages"][-1]["content"]
    await libertai.script(Script(text="I note it.", calls=[NOTED]), Script(text="Noted."))
    stream = await chunks(client)
    assert said(stream) == "I note it.\n\nNoted."
    assert stream[-1] == "[DONE]"
    assert stream[-2]["choices"][0]["finish_reason"] == "stop"
    assert "usage" not in stream[-2]


async def test_same_key_is_the_same_turn_which_runs_again_only_if_it_failed(client, libertai):
    headers = {"Idempotency-Key": "k1"}
    body = {"model": "ada", "messages": HELLO, "user": "c1"}
    await libertai.refuse(503)
    await libertai.refuse(503)
    answers = []
    await libertai.always(Script(text="Soup."))
    for _ in range(3):
        response = await client.http.post("/v1/chat/completions", json=body, headers=headers)
        answers.append(
            (response.status_code, (response.json().get("choices") or [{}])[0].get("message", {}).get("content"))
        )
    assert answers == [(503, None), (200, "Soup."), (200, "Soup.")]
    assert len(await libertai.calls()) == 3
    elsewhere = await client.http.post("/v1/chat/completions", json=body | {"user": "c2"}, headers=headers)
    assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (409, "other_chat")


async def test_questions_of_one_chat_run_one_after_the_other(client, libertai):
    await libertai.script(Script(text="first", hold_after=0), Script(text="second"))
    one = asyncio.create_task(post(client, user="c1"))
    await libertai.calls(at_least=1)
    two = asyncio.create_task(post(client, user="c1"))
    assert (await post(client, user="c2")).json()["choices"][0]["message"]["content"] == "second"
    await libertai.release()
    assert (await one).json()["choices"][0]["message"]["content"] == "first"
    assert (await two).status_code == 200


# A client that goes away


@pytest.mark.parametrize("stream", [False, True])
async def test_throw_away_turn_is_stopped_when_its_client_goes(client, libertai, stream):
    await libertai.script(Script(text="one two", hold_after=0))
    asking = asyncio.create_task(chunks(client) if stream else post(client))
    await libertai.calls(at_least=1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until_forgotten(client)
    assert client.turns.running == 0


async def test_throw_away_turn_is_stopped_in_the_middle_of_its_stream(client, libertai):
    await libertai.script(Script(text="one two", hold_after=1))
    body = {"model": "ada", "messages": HELLO, "stream": True}
    async with client.http.stream("POST", "/v1/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if "one" in line:
                break
    await until_forgotten(client)
    assert client.turns.running == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_turn_of_a_kept_chat_goes_on_without_its_client(client, libertai, stream):
    await libertai.script(Script(text="one two", hold_after=0))
    asking = asyncio.create_task((chunks if stream else post)(client, user="c1"))
    await libertai.calls(at_least=1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await libertai.release()
    await client.events("next")
    assert ("assistant", "one two") in contents((await libertai.calls())[1])


async def test_what_was_to_be_forgotten_is_forgotten_after_a_crash(process, libertai, tmp_path):
    client = await process.start()
    await libertai.script(Script(text="one two", hold_after=0))
    asking = asyncio.create_task(post(client))
    await libertai.calls(at_least=1)
    process.signal(9)
    await process.ended()
    await asyncio.gather(asking, return_exceptions=True)
    again = await process.start()
    await again.http.get("/health")
    process.signal(15)
    await process.ended()
    with closing(sqlite3.connect(tmp_path / "data" / "agent.db")) as database:
        assert database.execute("SELECT (SELECT count(*) FROM turn) + (SELECT count(*) FROM message)").fetchone() == (
            0,
        )


# Streams


async def test_something_comes_while_nothing_is_said(agents, libertai):
    client = await agents(agent_keepalive_seconds=0.02)
    await libertai.script(Script(text="one two", hold_after=1))
    body = {"model": "ada", "messages": HELLO, "stream": True}
    stream: list[Any] = []
    async with client.http.stream("POST", "/v1/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                stream.append(json.loads(line[6:]))
                if stream[-1]["choices"][0] == EMPTY:
                    await libertai.release()
    assert EMPTY in [each["choices"][0] for each in stream]
    assert said([*stream, "[DONE]"]) == "one two"


EMPTY = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}


@pytest.mark.parametrize("text", ["🍲🥕" * 50, "مرحبا", "a\u2028b\u0085c", "```\nx"])
async def test_every_text_arrives_as_it_was_written(client, libertai, text):
    await libertai.always(Script(text=text))
    assert said(await chunks(client)) == text
    assert (await post(client)).json()["choices"][0]["message"]["content"] == text


async def test_model_that_broke_off_is_asked_again_and_its_words_are_not_repeated(client, libertai):
    cut = Script(text="Soup is good today.", tokens=2, ending="silent")
    await libertai.script(cut, Script(text="Soup is good today."))
    assert said(await chunks(client)) == "Soup is good today."
    await libertai.script(cut, Script(text="Eat bread."))
    assert said(await chunks(client)) == "Soup is\n\n[starting over]\n\nEat bread."
    await libertai.script(cut, Script(text="Eat bread."))
    assert (await post(client)).json()["choices"][0]["message"]["content"] == "Eat bread."


def told(*events: Any) -> str:
    answer = Answer()
    return "".join([*map(answer.feed, events), answer.finish()])


def text(words: str) -> Text:
    return Text(seq=1, text=words)


OVER = Restart(seq=1)
AGAIN = "\n\n[starting over]\n\n"


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        ([text("a "), text("b")], "a b"),
        ([text("a b"), OVER, text("a"), text(" b c")], "a b c"),
        ([text("a b"), OVER, text("a b")], "a b"),
        ([text("a b"), OVER, text("a")], f"a b{AGAIN}a"),
        (
            [text("Looking."), text("\n\nSoup is"), OVER, text("Looking."), text("\n\nBread")],
            f"Looking.\n\nSoup is{AGAIN}Bread",
        ),
        ([text("Soup is"), OVER, text("Soup was"), text(" good.")], f"Soup is{AGAIN}Soup was good."),
        ([text("x"), OVER, text("y"), OVER, text("z")], f"x{AGAIN}y{AGAIN}z"),
        ([text("Well."), Ask(seq=1, question="Red?", options=("yes", "no"))], "Well.\n\nRed?\n- yes\n- no"),
        ([Ask(seq=1, question="Red?", options=())], "Red?"),
    ],
)
def test_what_was_sent_stays_and_what_replaces_it_follows(events, shown):
    assert told(*events) == shown


# Requests that cannot be done


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"n": 0}, "unsupported_parameter", "n"),
        ({"tools": [{"type": "function"}]}, "unsupported_parameter", "tools"),
        ({"functions": [{}]}, "unsupported_parameter", "functions"),
        ({"response_format": {"type": "json_object"}}, "unsupported_parameter", "response_format"),
        ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
        ({"messages": []}, "bad_request", "messages"),
        ({"messages": "Hello"}, "bad_request", "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "bad_request", "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "bad_request", "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "bad_request", "messages"),
        ({"messages": [{"role": "user"}]}, "bad_request", "messages"),
        ({"messages": [{"role": "user", "content": "x" * 200_001}]}, "context_length_exceeded", "messages"),
        ({"messages": [{"role": "tool", "content": "x"}, *HELLO]}, "unsupported_content", "messages[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}, *HELLO]}, "unsupported_content", "messages[0]"),
        ({"user": "x" * 129}, "bad_request", "user"),
        ({"user": f"{THROW_AWAY}1"}, "bad_request", "user"),
        ({"stream": "perhaps"}, "bad_request", "stream"),
    ],
)
async def test_request_that_cannot_be_done_is_refused_by_the_name_of_its_fault(client, libertai, fields, code, param):
    status, said_code, said_param = await refused(client, **fields)
    assert (status, said_code) == (400, code)
    assert str(said_param).startswith(param)
    assert await libertai.calls() == []


async def test_what_may_be_ignored_is(client):
    ignored = {
        "temperature": 0.1,
        "max_tokens": 5,
        "stop": ["x"],
        "seed": 7,
        "metadata": {"a": "b"},
        "tools": [],
        "n": 1,
    }
    response = await post(client, response_format={"type": "text"}, user="", **ignored)
    assert response.status_code == 200


@pytest.mark.parametrize("body", [b"", b"{x", b"[]", b'{"model": "ada"}', b'{"messages": []}'])
async def test_body_that_is_none_is_refused_in_openais_words(client, body):
    response = await client.http.post(
        "/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nowhere", 404), ("GET", "/v1/chat/completions", 405)]
)
async def test_unknown_places_are_refused_in_openais_words(client, method, path, status):
    response = await client.http.request(method, path)
    assert (response.status_code, set(response.json())) == (status, {"error"})


@pytest.mark.parametrize(
    ("name", "slug"), [("Chef Ada!", "chef-ada"), ("Шеф Ада", "шеф-ада"), ("🦊", "agent"), ("A_b  c", "a-b-c")]
)
async def test_model_is_called_like_the_agent(agents, name, slug):
    client = await agents(agent_name=name)
    [model] = (await client.http.get("/v1/models")).json()["data"]
    assert model["id"] == slug
    assert (await post(client, model=slug)).status_code == 200


async def test_renamed_agent_is_another_model(client):
    await client.http.put("/config", json={"version": 1, "name": "Bob"})
    assert (await post(client)).status_code == 404
    assert (await post(client, model="bob")).status_code == 200
