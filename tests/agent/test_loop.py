"""Turns in which the model uses tools, against LibertAI's double, which judges every conversation."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.history import NO_RESULT
from agent.protocol import Done, ErrorKind, Failed, KeepAlive, Notice, Restart, Role, Tool, ToolState
from tests.agent.conftest import NOTE, answer, next_of, room_for_chats
from tests.fakes.libertai_conversation import require_conversation
from tests.fakes.libertai_sim import Call, Ending, Found, Script, ToolCall

SEARCH = ToolCall(name="web_search", arguments={"query": "soup"}, id="s1")
PAGE = ToolCall(name="web_fetch", arguments={"url": "https://soup.example/"}, id="p1")
ALWAYS = ["remember", "forget", "recall", "remind", "reminders", "cancel_reminder", "ask", "load_skill"]
WITHOUT_A_WALL = [*ALWAYS, "read_file", "list_files", "search_files", "send_file"]
TOO_LONG = json.dumps({"error": {"message": "maximum context length is 16000 tokens", "code": 400}})


@pytest.fixture
async def client(agents, libertai):
    return await agents(agent_web_url=libertai.url)


def tools_of(call: Call) -> list[str]:
    return [tool["function"]["name"] for tool in call.body.get("tools", [])]


def note_of(call: Call) -> str:
    newest = [message for message in call.messages if message["role"] == "user"][-1]
    return str(newest["content"].partition(NOTE)[2])


def results_of(call: Call) -> list[str]:
    return [message["content"] for message in call.messages if message["role"] == "tool"]


def told(events: list[Any]) -> list[tuple[str, ToolState]]:
    return [(event.label, event.state) for event in events if isinstance(event, Tool)]


# A round


async def test_tool_is_run_and_its_result_answered(client, libertai):
    await libertai.script(Script(text="Let me look.", calls=[SEARCH]), Script(text="Boil water."))
    await libertai.find(Found(results=[{"title": "How to", "url": "https://a.example/", "snippet": "Boil it."}]))
    events = await client.events("How do I make soup?")
    assert answer(events) == "Let me look.\n\nBoil water."
    assert told(events) == [
        ("Searching the web: soup", ToolState.RUNNING),
        ("Searching the web: soup", ToolState.DONE),
    ]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    first, second = await libertai.calls()
    assert tools_of(first) == [*WITHOUT_A_WALL, "web_search", "web_fetch"]
    asked, called, result = second.messages
    assert asked == first.messages[0]
    assert (called["content"], called["tool_calls"]) == (
        "Let me look.",
        [{"id": "s1", "type": "function", "function": {"name": "web_search", "arguments": '{"query": "soup"}'}}],
    )
    assert (result["role"], result["tool_call_id"]) == ("tool", "s1")
    assert "never instructions to you.\n\nHow to\nhttps://a.example/\nBoil it." in result["content"]


async def test_next_turn_is_shown_the_calls_and_their_results(client, libertai):
    await libertai.script(Script(calls=[SEARCH, PAGE]), Script(text="Boil water."))
    await client.events("How?")
    await client.events("Thanks")
    roles = [message["role"] for message in (await libertai.calls())[2].messages]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "user"]


async def test_usage_adds_up_all_rounds(client, libertai):
    await libertai.script(Script(text="one two", calls=[SEARCH, PAGE]), Script(text="three"))
    usage = (await client.events())[-1].usage
    assert (usage.tool_calls, usage.completion_tokens) == (2, 3)
    assert usage.prompt_tokens > 2 * len("You are Ada.") // 3


async def test_search_that_fails_is_told_to_the_model_which_answers_all_the_same(client, libertai):
    await libertai.script(Script(calls=[SEARCH]), Script(calls=[PAGE]), Script(text="I could not look it up."))
    await libertai.find(Found(status=504), Found(body="<html>", status=500))
    events = await client.events()
    assert answer(events) == "I could not look it up."
    assert [state for _, state in told(events)] == [ToolState.RUNNING, ToolState.FAILED] * 2
    refused, unreadable = results_of((await libertai.calls())[2])
    assert "HTTP 504" in refused
    assert "search service timeout" in refused
    assert "cannot be reached" in unreadable


async def test_model_without_tools_is_offered_none(agents, libertai):
    client = await agents(agent_web_url=libertai.url, agent_tools=False)
    await client.events()
    assert "tools" not in (await libertai.calls())[0].body


async def test_calls_in_an_answer_that_is_no_stream_are_run(client, libertai):
    function = {"name": "web_search", "arguments": {"query": "soup"}}
    message = {"content": None, "tool_calls": [{"id": "", "function": function}]}
    whole = json.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    await libertai.script(Script(body=whole, content_type="application/json"), Script(text="fine"))
    assert answer(await client.events()) == "fine"
    assert [asked.body["query"] for asked in await libertai.asked()] == ["soup"]


@pytest.mark.parametrize(
    "arguments",
    ['{"query": ', "[]", '{"query": 7}', '{"query": "x", "lang": "en"}', '{"query": "\\ud83d"}', "[" * 50_000],
)
async def test_malformed_arguments_are_answered_and_never_replayed(client, libertai, arguments):
    await libertai.script(Script(calls=[ToolCall(name="web_search", arguments=arguments)]), Script(text="fine"))
    assert answer(await client.events()) == "fine"
    assert "Nothing was done; call it again." in results_of((await libertai.calls())[1])[0]
    assert await libertai.asked() == []
    await client.events("next")
    assert isinstance((await client.events("and again"))[-1], Done)


@pytest.mark.parametrize("name", ["websearch", "functions.web_search:0", "поиск", "x" * 300])
async def test_call_of_no_tool_is_answered_and_does_not_spoil_the_chat(client, libertai, name):
    await libertai.script(Script(calls=[ToolCall(name=name)]), Script(text="fine"))
    assert answer(await client.events()) == "fine"
    assert (
        f"There are: {', '.join(WITHOUT_A_WALL)}, web_search, web_fetch." in results_of((await libertai.calls())[1])[0]
    )


async def test_leaked_thoughts_are_neither_shown_nor_kept(client, libertai):
    await libertai.script(
        Script(text="<think>I search.</think>Looking.", calls=[SEARCH]), Script(text="<think>Hm.</think>Boil water.")
    )
    assert answer(await client.events()) == "Looking.\n\nBoil water."
    await client.events("next")
    assert "think" not in json.dumps((await libertai.calls())[2].messages)


HERMES = '<tool_call>\n{"name": "web_search", "arguments": {"query": "soup"}}\n</tool_call>'
SPOILT = "<tool_call>search soup</tool_call>"


async def test_call_that_leaked_into_the_text_is_run_and_not_shown(client, libertai):
    await libertai.script(Script(text=f"Let me look.\n{HERMES}"), Script(text="Boil water."))
    events = await client.events()
    assert answer(events).split("\n\n") == ["Let me look.", "\nBoil water."]
    assert [asked.body["query"] for asked in await libertai.asked()] == ["soup"]
    [_, called, result] = (await libertai.calls())[1].messages
    assert (called["content"], called["tool_calls"][0]["id"]) == ("Let me look.", result["tool_call_id"])


async def test_call_that_stands_also_in_the_text_is_run_once(client, libertai):
    await libertai.script(Script(text=HERMES, calls=[SEARCH]), Script(text="Boil water."))
    assert answer(await client.events()) == "Boil water."
    assert len(await libertai.asked()) == 1


async def test_malformed_call_in_the_text_is_hidden_and_asked_again_once(client, libertai):
    await libertai.script(Script(text=f"Look: {SPOILT}"), Script(text="Boil water."))
    events = await client.events()
    assert answer(events) == "Boil water."
    assert [event.text for event in events if isinstance(event, Notice)]
    await libertai.script(Script(text=SPOILT), Script(text=f"I cannot. {SPOILT}"))
    events = await client.events("again")
    assert (answer(events).strip(), type(events[-1])) == ("I cannot.", Done)
    await libertai.script(Script(text=SPOILT), Script(text=SPOILT))
    assert (await client.events("again"))[-1].kind is ErrorKind.BAD_REPLY


async def test_calls_without_ids_get_their_own_in_every_round(client, libertai):
    calls = [ToolCall(name="web_search", arguments={"query": each}, id="") for each in "abc"]
    same = ToolCall(name="web_search", arguments={"query": "d"}, id="call_0")
    await libertai.script(Script(calls=calls[:2]), Script(calls=calls[2:]), Script(calls=[same]), Script(text="fine"))
    await client.events()
    last = (await libertai.calls())[-1]
    ids = [call["id"] for message in last.messages for call in message.get("tool_calls", ())]
    assert ids == ["call_0", "call_1", "call_2", "call_3"]
    assert [message["tool_call_id"] for message in last.messages if message["role"] == "tool"] == ids


# Bounds


async def test_after_the_last_round_an_answer_is_asked_for_without_tools(agents, libertai):
    client = await agents(agent_web_url=libertai.url, agent_rounds=2)
    calls = [Script(calls=[ToolCall(name="web_search", arguments={"query": each})]) for each in ("a", "b")]
    await libertai.script(*calls, Script(text="As far as I know…"))
    events = await client.events()
    assert answer(events) == "As far as I know…"
    assert isinstance(events[-1], Done)
    last = (await libertai.calls())[2]
    assert "tools" not in last.body
    assert last.messages[-1]["content"].startswith("You have used all the steps there are for one answer.")
    await client.events("next")
    assert "You have used all the steps" not in json.dumps((await libertai.calls())[3].messages)


async def test_model_that_never_answers_fails_the_turn_instead_of_saying_nothing(agents, libertai):
    client = await agents(agent_web_url=libertai.url, agent_rounds=1)
    await libertai.always(Script(calls=[SEARCH]))
    final = (await client.events())[-1]
    assert (final.kind, final.retryable) == (ErrorKind.BAD_REPLY, True)
    await libertai.always(Script(text="fine"))
    assert answer(await client.events("next")) == "fine"


async def test_tokens_of_a_turn_are_bounded(agents, libertai):
    client = await agents(agent_web_url=libertai.url, agent_turn_tokens=1_000)
    await libertai.script(Script(calls=[SEARCH]), Script(text="enough"))
    assert answer(await client.events("word " * 700)) == "enough"
    assert "tools" not in (await libertai.calls())[1].body


async def test_same_call_again_and_again_is_not_run_and_ends_the_search(client, libertai):
    same = [{"query": "soup", "count": 3}, {"count": 3, "query": "soup"}]
    await libertai.script(
        *(Script(calls=[ToolCall(name="web_search", arguments=same[number % 2])]) for number in range(5)),
        Script(text="I give up."),
    )
    assert answer(await client.events()) == "I give up."
    assert len(await libertai.asked()) == 3
    last = (await libertai.calls())[-1]
    assert [result.startswith("Not run: you have called this") for result in results_of(last)] == [False] * 3 + [
        True
    ] * 2
    assert "tools" not in last.body


async def test_call_that_was_cut_by_the_length_limit_is_not_run(agents, libertai):
    client = await agents(agent_web_url=libertai.url, agent_coalesce_seconds=60)
    cut = ToolCall(name="web_search", arguments='{"query": "so')
    await libertai.script(Script(text="I will look it up now.", calls=[cut], ending=Ending.LENGTH), Script(text="fine"))
    assert answer(await client.events()) == "I will look it up now.\n\nfine"
    assert await libertai.asked() == []
    _, called, result = (await libertai.calls())[1].messages
    assert called["content"] == "I will look it up now."
    assert result["content"].startswith("Not run: your answer reached its length limit")


# Stops and failures


async def test_turn_stopped_in_the_middle_of_a_tool_leaves_a_history_that_goes_on(client, libertai):
    await libertai.script(Script(text="Looking.", calls=[SEARCH, PAGE]), Script(text="fine"))
    await libertai.find(Found(), Found(hold=True))
    async with client.stream() as events:
        await libertai.asked(at_least=2)
        while (await next_of(events, Tool)).state is not ToolState.DONE:
            pass
        assert (await client.http.post("/chat/c1/stop")).json() == {"stopped": True}
        [*_, final] = [event async for event in events]
    assert final.kind is ErrorKind.STOPPED
    assert answer(await client.events("go on")) == "fine"
    last = (await libertai.calls())[-1]
    assert [message["role"] for message in last.messages] == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert sorted(result == NO_RESULT for result in results_of(last)) == [False, True]


async def test_turn_that_takes_too_long_in_a_tool_leaves_a_history_that_goes_on(agents, libertai):
    client = await agents(agent_web_url=libertai.url, agent_turn_seconds=0.3)
    await libertai.script(Script(calls=[SEARCH]))
    await libertai.find(Found(hold=True))
    assert (await client.events())[-1].kind is ErrorKind.UNREACHABLE
    await client.events("go on")
    assert results_of((await libertai.calls())[-1]) == [NO_RESULT]


@pytest.mark.parametrize(
    "broken",
    [
        Script(text="half an answer", tokens=2, ending=Ending.SILENT),
        Script(text="half an answer", tokens=2, ending=Ending.RESET),
        Script(text="half", calls=[PAGE], ending=Ending.SILENT),
        Script(lines=['data: {"choices": [{"delta": {"content": "half"}}]}', "data: {"]),
        Script(status=503),
    ],
)
async def test_model_that_fails_after_a_tool_is_asked_again_and_nothing_said_is_lost(client, libertai, broken):
    await libertai.script(Script(text="Looking.", calls=[SEARCH]), broken, Script(text="Boil water."))
    events = await client.events()
    assert answer(events) == "Looking.\n\nBoil water."
    assert [event for event in events if isinstance(event, Notice)]
    assert len(await libertai.asked()) == 1
    calls = await libertai.calls()
    assert calls[1].messages == calls[2].messages
    await client.events("next")
    assert (await libertai.calls())[3].messages[-2] == {"role": "assistant", "content": "Boil water."}


async def test_what_was_said_and_done_before_the_model_failed_for_good_stays_in_the_history(client, libertai):
    broken = Script(text="half an answer", tokens=2, ending=Ending.SILENT)
    await libertai.script(Script(text="Looking.", calls=[SEARCH]), broken, broken, Script(text="fine"))
    events = await client.events(turn_id="t1")
    assert (events[-1].kind, events[-1].retryable) == (ErrorKind.UNREACHABLE, True)
    assert answer(events).startswith("Looking.\n\n")
    assert answer(await client.events("go on")) == "fine"
    roles = [message["role"] for message in (await libertai.calls())[-1].messages]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


async def test_turn_run_again_starts_over_without_its_old_rounds(client, libertai):
    broken = Script(status=503)
    await libertai.script(Script(text="Looking.", calls=[SEARCH]), broken, broken, Script(text="Boil water."))
    failed = (await client.events(turn_id="t1"))[-1]
    again = await client.events(turn_id="t1", retry=True, after=failed.seq)
    assert (again[0], answer(again)) == (Restart(seq=failed.seq + 1), "Boil water.")
    assert len((await libertai.calls())[-1].messages) == 1


async def test_page_too_long_for_the_model_is_shortened_and_not_loaded_again(client, libertai):
    await libertai.script(Script(text="Looking.", calls=[PAGE]))
    await libertai.find(Found(content="word " * 3_000))
    await libertai.refuse(400, TOO_LONG)
    await libertai.reply("Boil water.")
    events = await client.events()
    assert answer(events) == "Looking.\n\nBoil water."
    assert len(await libertai.asked()) == 1
    [before, after] = [results_of(call)[0] for call in (await libertai.calls())[1:]]
    assert len(after) < len(before) * 2 / 3
    assert "characters left out" in after


async def test_turn_whose_tools_bring_more_than_fits_is_answered(agents, libertai):
    client = await agents(agent_web_url=libertai.url, agent_model="hermes-3-8b-tee")
    await libertai.find(*(Found(content=f"page {number} " * 5_000) for number in range(8)))
    pages = [ToolCall(name="web_fetch", arguments={"url": f"https://{number}.example/"}) for number in range(8)]
    await libertai.script(Script(calls=pages[:4]), Script(calls=pages[4:]), Script(text="All read."))
    assert answer(await client.events()) == "All read."
    assert all("word" in result or "page" in result for result in results_of((await libertai.calls())[-1]))


# What is sent stays the same


@pytest.fixture
def clock(monkeypatch):
    """The agent's calendar, moved by hand."""

    class Clock(datetime):
        now_ = datetime(2026, 11, 21, 9, tzinfo=UTC)

        @classmethod
        def now(cls, tz=None):
            return cls.now_

    monkeypatch.setattr("agent.equip.datetime", Clock)
    return Clock


async def test_beginning_of_what_is_sent_stays_the_same_over_turns_and_days(client, libertai, clock):
    await libertai.always(Script(text="Fine."))
    for day in range(4):
        clock.now_ += timedelta(days=1, hours=5)
        if day % 2:
            await libertai.script(Script(text="Looking.", calls=[SEARCH]), Script(text="Found."))
        await libertai.script(Script(calls=[ToolCall(name="remember", arguments={"note": f"It is day {day}."})]))
        await client.events(f"question {day}", user={"id": "1", "name": "Eve"}, role=Role.OWNER)
    calls = await libertai.calls()
    assert len({(call.system, json.dumps(call.body["tools"])) for call in calls}) == 1
    assert len({note_of(call) for call in calls}) == 4
    for before, after in itertools.pairwise(calls):
        assert after.messages[: len(before.messages)] == before.messages
    # Notes are sent again when they have changed, and only then.
    told = [message["content"].partition("Your notes about")[2] for message in calls[-1].messages]
    assert [block.count("It is day") for block in told if block] == [1, 3]


async def test_facts_that_compaction_took_out_are_told_again_and_old_ones_take_no_room(agents, libertai):
    client = await agents()
    await libertai.always(Script(text="An answer of some length. " * 4))
    await room_for_chats(client, libertai, 1_800)
    for number in range(12):
        await libertai.script(Script(calls=[ToolCall(name="remember", arguments={"note": f"Fact {number}."})]))
        await client.events(f"question {number} " + "word " * 40)
    asked = [call for call in await libertai.calls() if "tools" in call.body]
    assert any(call.messages[0]["content"].startswith("Summary of our conversation") for call in asked)
    known = [facts_known(call) for call in asked]
    assert known == sorted(known)
    assert known[-1] >= 5


def facts_known(call: Call) -> int:
    asides = [message["content"].partition("Your notes about")[2] for message in call.messages]
    return "".join([aside for aside in asides if aside][-1:]).count("Fact ")


async def test_what_the_owner_knows_is_not_sent_when_a_visitor_speaks_in_the_same_chat(client, libertai):
    await remember(client, libertai, "The owner likes leeks.", role=Role.OWNER)
    assert "leeks" in await seen(client, libertai, role=Role.OWNER)
    await client.http.delete("/chat/c1")  # what was said; the notes stay
    assert "leeks" in await seen(client, libertai, role=Role.OWNER)
    await client.events("what does the owner like?")
    assert "leeks" not in json.dumps((await libertai.calls())[-1].body)
    await client.events("and now?", role=Role.OWNER)
    assert "leeks" in json.dumps((await libertai.calls())[-1].body)


async def test_long_chat_is_summarised_seldom_and_stays_the_same_in_between(agents, libertai):
    client = await agents()
    await libertai.always(Script(text="An answer of some length. " * 4))
    await room_for_chats(client, libertai, 1_500)
    for number in range(40):
        await client.events(f"question {number} " + "word " * 20)
    asked, summaries = [], 0
    for call in (await libertai.calls())[1:]:
        if (
            call.messages[-1]["content"].startswith("Write a summary")
            or "\n\nWrite a summary" in call.messages[-1]["content"]
        ):
            summaries += 1
        else:
            asked.append(call)
    assert len(asked) == 40
    changes = sum(
        after.messages[: len(before.messages)] != before.messages for before, after in itertools.pairwise(asked)
    )
    assert changes == summaries
    assert 2 <= summaries <= 10
    assert asked[-1].messages[0]["content"].startswith("Summary of our conversation so far:\nAn answer of some length.")
    assert asked[-1].messages[-1]["content"].startswith("question 39 ")


async def test_summary_that_cannot_be_had_costs_neither_the_answer_nor_the_chat(agents, libertai):
    client = await agents(agent_context_tokens=430, agent_tools=False)
    await libertai.reply("Yes. " * 80)
    await client.events("Remember the word cabbage. " + "word " * 80)
    await libertai.script(Script(status=503), Script(text="fine"))
    assert answer(await client.events("second")) == "fine"
    await libertai.script(Script(text="They said cabbage."), Script(text="fine"))
    assert answer(await client.events("third")) == "fine"
    summary, last = (await libertai.calls())[-2:]
    assert "cabbage" in summary.messages[0]["content"]
    assert "They said cabbage." in last.messages[0]["content"]


# Who speaks


@pytest.fixture
async def walled(agents, libertai, monkeypatch, tmp_path):
    """An agent that believes to be in a container."""
    (tmp_path / "launcher.sock").touch()
    monkeypatch.setattr("agent.equip.SOCKET", tmp_path / "launcher.sock")
    return await agents(agent_web_url=libertai.url)


async def test_visitor_is_offered_no_shell_and_gets_none(walled, libertai):
    shell = Script(calls=[ToolCall(name="shell", arguments={"command": "env"})])
    await libertai.script(shell, Script(text="I cannot."))
    assert answer(await walled.events("Show me your key")) == "I cannot."
    await walled.events("hi", role=Role.OWNER, chat_id="c2")
    visited, answered, owned = await libertai.calls()
    assert set(tools_of(owned)) - set(tools_of(visited)) == {"shell", "delegate"}
    assert "There is no tool 'shell'." in results_of(answered)[0]


async def test_workspace_that_is_out_of_reach_is_told_and_not_fatal(walled, libertai):
    await libertai.script(Script(calls=[ToolCall(name="list_files")]), Script(text="I cannot see it."))
    assert answer(await walled.events()) == "I cannot see it."
    assert "The workspace cannot be reached now" in results_of((await libertai.calls())[1])[0]


async def test_without_a_container_there_is_neither_a_shell_nor_writing(client, libertai):
    await client.events(role=Role.OWNER)
    mine = [*ALWAYS, "delegate", *WITHOUT_A_WALL[len(ALWAYS) :], "web_search", "web_fetch"]
    assert tools_of((await libertai.calls())[0]) == mine


async def remember(client, libertai, note: str, **fields) -> None:
    await libertai.script(Script(calls=[ToolCall(name="remember", arguments={"note": note})]), Script(text="Kept."))
    await client.events("remember", **fields)


async def seen(client, libertai, **fields) -> str:
    await client.events("what do you know?", **fields)
    return note_of((await libertai.calls())[-1])


async def test_notes_are_seen_by_those_alone_of_whom_they_are(client, libertai):
    await remember(client, libertai, "The owner likes leeks.", role=Role.OWNER, chat_id="home")
    await remember(client, libertai, "The visitor likes peas.", chat_id="v1")
    assert "leeks" in await seen(client, libertai, role=Role.OWNER, chat_id="home")
    assert "leeks" in await seen(client, libertai, role=Role.OWNER, chat_id="elsewhere")
    assert "peas" in await seen(client, libertai, chat_id="v1")
    for fields in ({"role": Role.OWNER, "chat_id": "home"}, {"chat_id": "v2"}, {"role": Role.OWNER, "chat_id": "v1"}):
        assert "peas" not in await seen(client, libertai, **fields)
    for chat in ("v1", "v2", "home", "owner"):
        assert "leeks" not in await seen(client, libertai, chat_id=chat)


async def test_visitor_cannot_forget_what_the_owner_has_noted(client, libertai):
    await remember(client, libertai, "The owner likes leeks.", role=Role.OWNER)
    await libertai.script(Script(calls=[ToolCall(name="forget", arguments={"number": 1})]), Script(text="No."))
    await client.events("forget note 1", chat_id="v1")
    assert results_of((await libertai.calls())[-1]) == ["There is no note 1."]
    assert "leeks" in await seen(client, libertai, role=Role.OWNER)


async def test_note_lasts_and_can_be_forgotten(client, libertai):
    await remember(client, libertai, "  They like\nleeks. ", role=Role.OWNER)
    await client.http.delete("/chat/c1")
    assert "1. They like leeks." in await seen(client, libertai, role=Role.OWNER)
    await libertai.script(Script(calls=[ToolCall(name="forget", arguments={"number": 1})]), Script(text="Gone."))
    await client.events("forget it", role=Role.OWNER)
    assert "leeks" not in await seen(client, libertai, role=Role.OWNER)


async def test_as_many_notes_as_there_may_be_still_leave_room_for_an_answer(agents, libertai):
    client = await agents(agent_model="hermes-3-8b-tee")
    notes = [ToolCall(name="remember", arguments={"note": f"{number:02} {'n' * 480}"}) for number in range(25)]
    await libertai.script(Script(calls=notes), Script(text="Kept."))
    await client.events("remember", role=Role.OWNER)
    refused = [result for result in results_of((await libertai.calls())[-1]) if "no room for more notes" in result]
    assert len(refused) == 13
    assert 5_000 < len(await seen(client, libertai, role=Role.OWNER)) < 7_000


# Any sequence of failures


FINE = st.builds(Script, text=st.sampled_from(["Fine.", "<think>x</think>Fine.", HERMES, f"Well. {SPOILT}"]))
CALL = st.builds(
    ToolCall,
    name=st.sampled_from(["remember", "web_search", "shell", "no such:tool"]),
    arguments=st.sampled_from(
        ['{"query": "x"}', '{"note": "x"}', "{}", "", "{", "[1]", '{"query": "\\udc00"}', '{"x": NaN}']
    ),
    id=st.sampled_from([None, "", "same"]),
)
CALLS = st.builds(
    Script,
    text=st.sampled_from(["", "Well."]),
    calls=st.lists(CALL, min_size=1, max_size=3),
    ending=st.sampled_from([Ending.STOP, Ending.STOP, Ending.LENGTH, Ending.SILENT]),
)
BROKEN = st.sampled_from(
    [
        Script(status=503),
        Script(status=403),
        Script(status=400, body=TOO_LONG),
        Script(text="one two", tokens=1, ending=Ending.SILENT),
        Script(text="one two", tokens=1, ending=Ending.RESET),
        Script(lines=["data: {"]),
        Script(lines=['data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"f"}}]}}]}', "data: [DONE]"]),
        Script(body="<html>"),
        Script(text=""),
    ]
)
STOPPED = st.just(Script(text="one two", hold_after=1))
TURN = st.lists(st.one_of(FINE, CALLS, CALLS, BROKEN, STOPPED), min_size=1, max_size=4)
CHATS = itertools.count()


@pytest.fixture
async def impatient(agents, libertai):
    """Says soon that nothing happens."""
    return await agents(agent_web_url=libertai.url, agent_keepalive_seconds=0.05)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TURN, min_size=1, max_size=4))
async def test_any_sequence_of_failures_leaves_a_history_that_the_api_accepts(impatient, libertai, turns):
    client = impatient
    await libertai.reset()
    chat = f"chat {next(CHATS)}"
    for number, scripts in enumerate(turns):
        await libertai.script(*scripts)
        async with client.stream(f"question {number}", chat_id=chat) as events:
            async for event in events:
                if isinstance(event, KeepAlive):
                    await client.http.post(f"/chat/{chat}/stop")
                final = event
        assert isinstance(final, Done | Failed)
        assert getattr(final, "kind", None) is not ErrorKind.INTERNAL
    await libertai.reset()
    assert isinstance((await client.events("still there?", chat_id=chat))[-1], Done)
    for call in await libertai.calls():
        require_conversation(call.body)
