"""Questions with ready answers: they end the answer, and leave a history that goes on with what was chosen."""

import signal

import pytest

from agent.protocol import Ask, Done, ErrorKind, Failed, Restart, Tool
from tests.agent.conftest import answer, as_written, next_of
from tests.fakes.libertai_sim import Found, Script, ToolCall

QUESTION = {"question": "Which soup?", "options": ["Leek", "Pea"]}
ASK = ToolCall(name="ask", arguments=QUESTION, id="a1")
SEARCH = ToolCall(name="web_search", arguments={"query": "soup"}, id="s1")
IN_WORDS = "Which soup?\n- Leek\n- Pea"


@pytest.fixture
async def client(agents, libertai):
    return await agents(agent_web_url=libertai.url)


async def said(libertai) -> list[tuple[str, str]]:
    """What the model was shown last: who, and what."""
    return [(each["role"], each["content"]) for each in as_written((await libertai.calls())[-1].messages)]


async def test_question_ends_the_answer_and_what_was_chosen_comes_next(client, libertai):
    await libertai.script(Script(text="Let us see.", calls=[ASK]), Script(text="Leek it is."))
    events = await client.events("Cook!")
    *_, asked, final = events
    assert asked == Ask(seq=asked.seq, question="Which soup?", options=("Leek", "Pea"))
    assert isinstance(final, Done)
    assert answer(events) == "Let us see."
    assert len(await libertai.calls()) == 1
    assert answer(await client.events("Leek")) == "Leek it is."
    [told, called, (role, result), question, chosen] = await said(libertai)
    assert (told, called, question, chosen) == (
        ("user", "Cook!"), ("assistant", "Let us see."), ("assistant", IN_WORDS), ("user", "Leek")
    )  # fmt: skip
    assert role == "tool"
    assert "comes as their next message" in result


async def test_client_without_a_stream_reads_the_question(client, libertai):
    await libertai.script(Script(text="Let us see.", calls=[ASK]))
    assert (await client.ask()).json()["response"] == f"Let us see.\n\n{IN_WORDS}"


async def test_round_with_a_question_runs_its_other_calls_and_asks_once(client, libertai):
    again = ToolCall(name="ask", arguments=QUESTION | {"question": "And bread?"}, id="a2")
    await libertai.script(Script(calls=[ASK, SEARCH, again]))
    events = await client.events()
    assert [event.question for event in events if isinstance(event, Ask)] == ["Which soup?"]
    assert len(await libertai.asked()) == 1
    await client.events("Pea")
    [_, _, first, _, second, question, _] = await said(libertai)
    assert "They are asked now" in first[1]
    assert "You have asked a question already" in second[1]
    assert question == ("assistant", IN_WORDS)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"question": " "}, "A question has 1 to 1000 characters."),
        ({"question": "x" * 1_001}, "A question has 1 to 1000 characters."),
        ({"options": ["only"]}, "Give 2 to 8 options."),
        ({"options": [str(number) for number in range(9)]}, "Give 2 to 8 options."),
        ({"options": ["a", "x" * 61]}, "Each option has 1 to 60 characters."),
        ({"options": ["a", " "]}, "Each option has 1 to 60 characters."),
        ({"options": ["a b", "A  b "]}, "The options must differ."),
        ({"options": "a, b"}, "Nothing was done"),
    ],
)
async def test_question_that_cannot_be_shown_is_told_to_the_model_which_goes_on(client, libertai, wrong, why):
    await libertai.script(Script(calls=[ToolCall(name="ask", arguments=QUESTION | wrong)]), Script(text="Leek, then."))
    events = await client.events()
    assert answer(events) == "Leek, then."
    assert not [event for event in events if isinstance(event, Ask)]
    assert why in (await said(libertai))[-1][1]


async def test_options_of_a_careless_model_are_tidied(client, libertai):
    arguments = {"question": " Which?\n", "options": '[" Leek\\nsoup", "Pea"]'}
    await libertai.script(Script(calls=[ToolCall(name="ask", arguments=arguments)]))
    [asked] = [event for event in await client.events() if isinstance(event, Ask)]
    assert (asked.question, asked.options) == ("Which?", ("Leek soup", "Pea"))


async def test_turn_stopped_beside_its_question_leaves_a_history_that_goes_on(client, libertai):
    await libertai.script(Script(calls=[ASK, SEARCH]), Script(text="fine"))
    await libertai.find(Found(hold=True))
    async with client.stream() as events:
        await libertai.asked(at_least=1)
        await client.http.post("/chat/c1/stop")
        final = await next_of(events, Failed)
    assert final.kind is ErrorKind.STOPPED
    assert answer(await client.events("go on")) == "fine"
    assert [role for role, _ in await said(libertai)] == ["user", "assistant", "tool", "tool", "assistant", "user"]


@pytest.mark.e2e
async def test_agent_killed_beside_its_question_asks_it_anew(process, environment, libertai):
    environment["AGENT_WEB_URL"] = libertai.url
    client = await process.start()
    await libertai.script(Script(text="Let us see.", calls=[ASK, SEARCH]), Script(calls=[ASK]), Script(text="Fine."))
    await libertai.find(Found(hold=True))
    async with client.stream(turn_id="t1") as events:
        await libertai.asked(at_least=1)
        await next_of(events, Tool)
        process.signal(signal.SIGKILL)
        await process.ended()
    client = await process.start()
    failed = (await client.events(turn_id="t1"))[-1]
    assert failed.kind is ErrorKind.INTERRUPTED
    again = await client.events(turn_id="t1", after=failed.seq, retry=True)
    assert [event.question for event in again if isinstance(event, Ask)] == ["Which soup?"]
    await client.events("Leek")
    assert [role for role, _ in await said(libertai)] == ["user", "assistant", "tool", "assistant", "user"]
    assert "Let us see." not in str(await said(libertai))


async def test_turn_run_again_takes_its_question_back(client, libertai):
    await libertai.script(Script(calls=[ASK, SEARCH]), Script(text="Leek soup."))
    await libertai.find(Found(hold=True))
    async with client.stream(turn_id="t1") as events:
        await libertai.asked(at_least=1)
        await client.http.post("/chat/c1/stop")
        final = await next_of(events, Failed)
    [first, *rest] = await client.events(turn_id="t1", retry=True, after=final.seq)
    assert first == Restart(seq=final.seq + 1)
    assert answer(rest) == "Leek soup."
    assert len(await said(libertai)) == 1
    assert isinstance((await client.events("next"))[-1], Done)
    assert IN_WORDS not in str(await said(libertai))
