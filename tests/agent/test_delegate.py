"""Sub-agents: seen, bounded, stopped, paid for by their turn, and never more than their result."""

import json
from typing import Any

import pytest

from agent import delegate
from agent.loop import Bounds
from agent.protocol import Done, ErrorKind, Failed, Role, Task, Tasks, Tool, ToolState
from tests.agent.conftest import Client, answer, next_of
from tests.fakes.libertai_sim import Call, Found, Script, ToolCall

SEARCH = ToolCall(name="web_search", arguments={"query": "soup"}, id="s1")


def hand_out(*tasks: str) -> list[ToolCall]:
    return [
        ToolCall(name="delegate", arguments={"task": task, "context": f"About {task}."}, id=f"d{number}")
        for number, task in enumerate(tasks, 1)
    ]


@pytest.fixture
async def client(agents, libertai):
    return await agents(agent_web_url=libertai.url)


async def owner(client: Client, **fields) -> list[Any]:
    return await client.events(role=Role.OWNER, **fields)


async def running(client: Client, chat: str = "c1") -> tuple[Task, ...]:
    return Tasks.model_validate_json((await client.http.get(f"/chat/{chat}/tasks")).content).tasks


async def stop(client: Client, id_: str, chat: str = "c1") -> bool:
    return bool((await client.http.post(f"/chat/{chat}/tasks/{id_}/stop")).json()["stopped"])


def tools_of(call: Call) -> set[str]:
    return {tool["function"]["name"] for tool in call.body.get("tools", [])}


def results_of(call: Call) -> dict[str, str]:
    return {each["tool_call_id"]: each["content"] for each in call.messages if each["role"] == "tool"}


def told(events: list[Any]) -> list[tuple[str, ToolState]]:
    return [(event.label, event.state) for event in events if isinstance(event, Tool)]


async def test_task_is_done_in_a_conversation_of_its_own_and_its_result_comes_back(client, libertai):
    await libertai.reply("Hello.")
    await owner(client, message="My cat is called Tom.")
    await libertai.script(
        Script(text="I hand it out.", calls=hand_out("leeks")),
        Script(text="Looking.", calls=[SEARCH]),
        Script(text="Leeks are green."),
        Script(text="They are green."),
    )
    events = await owner(client)
    assert answer(events) == "I hand it out.\n\nThey are green."
    _, asked, first, second, last = await libertai.calls()
    [question] = first.messages
    assert question["content"].startswith("leeks\n\nWhat you should know for it:\nAbout leeks.\n\n[Not written by")
    assert "Tom" not in json.dumps(first.body)
    assert first.system.startswith(asked.system.partition("\n\n")[0])
    assert "Now you work on a part of a bigger task" in first.system
    of_the_turn = {"ask", "delegate", "send_file", "remind", "reminders", "cancel_reminder"}
    assert tools_of(asked) - tools_of(first) == of_the_turn
    assert [message["role"] for message in second.messages] == ["user", "assistant", "tool"]
    assert results_of(last) == {"d1": "Leeks are green."}
    running_, done = ToolState.RUNNING, ToolState.DONE
    assert told(events) == [
        ("Delegating: leeks", running_),
        ("Delegate 1: Searching the web: soup", running_),
        ("Delegate 1: Searching the web: soup", done),
        ("Delegating: leeks", done),
    ]
    assert len({event.id for event in events if isinstance(event, Tool)}) == 2
    assert await running(client) == ()


async def test_next_turn_knows_the_result_alone(client, libertai):
    await libertai.script(
        Script(calls=hand_out("leeks")), Script(text="W1.", calls=[SEARCH]), Script(text="Green."), Script(text="Fine.")
    )
    await owner(client)
    await owner(client, message="next")
    last = (await libertai.calls())[-1]
    assert [message["role"] for message in last.messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert "W1." not in json.dumps(last.body)


async def test_what_it_costs_is_the_turns(client, libertai):
    await libertai.script(
        Script(text="one", calls=hand_out("leeks")),
        Script(text="two", calls=[SEARCH]),
        Script(text="three four"),
        Script(text="five"),
    )
    final = (await owner(client))[-1]
    assert isinstance(final, Done)
    calls = await libertai.calls()
    assert (final.usage.tool_calls, final.usage.completion_tokens) == (2, 5)
    assert final.usage.prompt_tokens == sum(
        sum(len(message["content"]) for message in call.body["messages"]) // 3 for call in calls
    )


async def test_tokens_of_the_turn_bound_its_sub_agents(agents, libertai):
    client = await agents(agent_web_url=libertai.url, agent_turn_tokens=1_000)
    await libertai.script(Script(calls=hand_out("leeks " * 600)), Script(calls=[SEARCH]), Script(text="Green."))
    await libertai.always(Script(text="Enough."))
    assert answer(await owner(client)) == "Enough."
    _, first, cut, last = await libertai.calls()
    assert (bool(tools_of(first)), tools_of(cut), tools_of(last)) == (True, set(), set())
    assert results_of(last) == {"d1": "Green."}


async def test_rounds_are_bounded(client, libertai, monkeypatch):
    monkeypatch.setattr(delegate, "BOUNDS", Bounds(rounds=1, tokens=100_000))
    await libertai.script(
        Script(calls=hand_out("leeks")), Script(calls=[SEARCH]), Script(text="As far as I got."), Script(text="Fine.")
    )
    assert answer(await owner(client)) == "Fine."
    assert results_of((await libertai.calls())[-1]) == {"d1": "As far as I got."}


async def test_long_results_are_shortened_to_what_fits(agents, libertai):
    client = await agents(agent_web_url=libertai.url, agent_model="hermes-3-8b-tee")
    pages = [ToolCall(name="web_fetch", arguments={"url": f"https://{number}.example/"}) for number in range(8)]
    await libertai.find(*(Found(content=f"page {number} " * 5_000) for number in range(8)))
    await libertai.script(
        Script(calls=hand_out("read")), Script(calls=pages), Script(text="All read."), Script(text="Fine.")
    )
    assert answer(await owner(client)) == "Fine."
    assert results_of((await libertai.calls())[-1]) == {"d1": "All read."}


async def test_three_work_at_once_and_others_wait_for_their_turn(client, libertai):
    await libertai.always(Script(text="Done.", hold_after=0))
    await libertai.script(Script(calls=hand_out("a", "b", "c", "d")))
    async with client.stream(role=Role.OWNER) as events:
        await libertai.calls(at_least=4)
        shown = await running(client)
        assert [task.task for task in shown] == ["a", "b", "c", "d"]
        assert len(await libertai.calls()) == 4
        assert await running(client, "c2") == ()
        await libertai.always(Script(text="Done."))
        await libertai.release()
        final = await next_of(events, Done)
    assert final.usage.tool_calls == 4
    calls = await libertai.calls()
    assert len(calls) == 6
    assert results_of(calls[-1]) == {f"d{number}": "Done." for number in range(1, 5)}


async def test_one_can_be_stopped_and_its_turn_goes_on(client, libertai):
    await libertai.script(Script(calls=hand_out("leeks")), Script(calls=[SEARCH]), Script(text="Without it, then."))
    await libertai.find(Found(hold=True))
    async with client.stream(role=Role.OWNER) as events:
        await libertai.asked(at_least=1)
        [task] = await running(client)
        assert (task.task, task.rounds) == ("leeks", 0)
        assert task.seconds >= 0
        assert not await stop(client, task.id, chat="c2")
        assert not await stop(client, "another")
        assert await stop(client, task.id)
        rest = [event async for event in events]
    assert answer(rest) == "Without it, then."
    assert [state for label, state in told(rest) if label.startswith("Delegate 1")][-1] is ToolState.FAILED
    assert results_of((await libertai.calls())[-1])["d1"].startswith("Stopped by the person.")
    assert not await stop(client, task.id)


async def test_stop_of_the_turn_stops_them_all(client, libertai):
    await libertai.script(Script(calls=hand_out("a", "b", "c", "d")))
    await libertai.always(Script(text="Done.", hold_after=0))
    async with client.stream(role=Role.OWNER) as events:
        await libertai.calls(at_least=4)
        await client.http.post("/chat/c1/stop")
        final = await next_of(events, Failed)
    assert final.kind is ErrorKind.STOPPED
    assert await running(client) == ()
    await libertai.always(Script(text="fine"))
    assert answer(await owner(client, message="go on")) == "fine"
    roles = [message["role"] for message in (await libertai.calls())[-1].messages]
    assert roles[:6] == ["user", "assistant", "tool", "tool", "tool", "tool"]
    assert roles[-1] == "user"


async def test_one_that_takes_too_long_is_ended_and_told(agents, libertai, monkeypatch):
    monkeypatch.setattr("agent.app.Delegates", lambda loop: delegate.Delegates(loop, seconds=0.2))
    client = await agents(agent_web_url=libertai.url)
    await libertai.script(Script(calls=hand_out("leeks")), Script(text="x", hold_after=0), Script(text="Myself, then."))
    assert answer(await owner(client)) == "Myself, then."
    assert results_of((await libertai.calls())[-1])["d1"].startswith("It was not done after 0 s.")


async def test_model_that_fails_a_sub_agent_is_told_to_its_turn(client, libertai):
    broken = Script(status=503)
    await libertai.script(Script(calls=hand_out("leeks")), broken, broken, Script(text="Myself, then."))
    assert answer(await owner(client)) == "Myself, then."
    assert results_of((await libertai.calls())[-1])["d1"].startswith("It could not be done. The model is overloaded.")


async def test_only_so_many_are_handed_out_for_one_answer(client, libertai):
    await libertai.script(Script(calls=hand_out(*(str(number) for number in range(20)))))
    await libertai.always(Script(text="Done."))
    await owner(client)
    results = list(results_of((await libertai.calls())[-1]).values())
    assert results[: delegate.MAX_PER_TURN] == ["Done."] * delegate.MAX_PER_TURN
    assert all(result.startswith("You have handed out 12 tasks") for result in results[delegate.MAX_PER_TURN :])


@pytest.mark.parametrize("arguments", [{"task": " "}, {"task": "x" * 15_000, "context": "y" * 6_000}])
async def test_task_that_is_none_or_a_book_is_refused(client, libertai, arguments):
    await libertai.script(Script(calls=[ToolCall(name="delegate", arguments=arguments, id="d1")]), Script(text="Fine."))
    await owner(client)
    [_, last] = await libertai.calls()
    assert results_of(last)["d1"] == "Give a task; with its context it may have 20000 characters."


async def test_sub_agent_can_neither_ask_nor_delegate_further(client, libertai):
    ask = ToolCall(name="ask", arguments={"question": "Which?", "options": ["a", "b"]})
    await libertai.script(
        Script(calls=hand_out("leeks")),
        Script(calls=[ask, *hand_out("more")]),
        Script(text="No."),
        Script(text="Fine."),
    )
    events = await owner(client)
    assert answer(events) == "Fine."
    inner = results_of((await libertai.calls())[2])
    assert all("There is no tool" in result for result in inner.values())
    assert len(inner) == 2


async def test_visitor_cannot_delegate(client, libertai):
    await libertai.script(Script(calls=hand_out("leeks")), Script(text="Fine."))
    assert answer(await client.events()) == "Fine."
    first, last = await libertai.calls()
    assert "delegate" not in tools_of(first)
    assert "There is no tool 'delegate'." in results_of(last)["d1"]
