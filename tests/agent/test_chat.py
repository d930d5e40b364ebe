"""Turns over real HTTP: streaming, following, order, stopping, forgetting."""

import asyncio

import pytest

from agent.protocol import Done, ErrorKind, Failed, KeepAlive, Restart, Text
from tests.agent.conftest import answer, as_written, next_of, without_keepalives
from tests.fakes.libertai_sim import Script


async def test_answer_is_streamed_with_numbers_and_ends_with_done(client, libertai):
    await libertai.reply("Soup is good.")
    events = await client.events("What is good?")
    assert answer(events) == "Soup is good."
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[-1], Done)
    assert events[-1].usage.completion_tokens == 3


async def test_answer_is_one_json_document_when_no_stream_is_asked_for(client, libertai):
    await libertai.reply("Soup.")
    response = await client.ask(turn_id="t1")
    assert (response.status_code, response.json()) == (200, {"response": "Soup.", "turn_id": "t1"})


async def test_turn_id_is_minted_when_none_is_given(client):
    first, second = (await client.ask()).json(), (await client.ask()).json()
    assert first["turn_id"] != second["turn_id"]


async def test_first_piece_arrives_while_the_model_still_writes(client, libertai):
    await libertai.script(Script(text="Well, let me think", hold_after=1))
    async with client.stream() as events:
        assert await next_of(events, Text) == Text(seq=1, text="Well,")
        await libertai.release()
        assert answer([event async for event in events]) == " let me think"


async def test_model_is_shown_the_persona_and_the_chat_so_far(client, libertai):
    await libertai.reply("Soup.")
    await client.events("What is good?")
    await client.events("And then?")
    await client.events("Hello", chat_id="c2")
    first, second, other = await libertai.calls()
    assert as_written(second.messages) == [
        {"role": "user", "content": "What is good?"},
        {"role": "assistant", "content": "Soup."},
        {"role": "user", "content": "And then?"},
    ]
    assert as_written(other.messages) == [{"role": "user", "content": "Hello"}]
    assert first.system.startswith("You are Ada.\n\nYou cook.\nOnly vegetables.")
    assert first.system == second.system == other.system


@pytest.mark.parametrize(
    "text", ["🍲🥕" * 50, "مرحبا بالعالم", "a\u2028b\u0085c", "Vec<T> <thin", "word " * 4_000 + "end", "```\nx"]
)
async def test_every_text_arrives_as_it_was_written(client, libertai, text):
    await libertai.reply(text)
    assert answer(await client.events(text)) == text
    assert as_written((await libertai.calls())[0].messages) == [{"role": "user", "content": text}]


async def test_same_turn_id_is_one_run_however_often_it_is_asked_for(client, libertai):
    await libertai.script(Script(text="one two three", hold_after=2))
    async with client.stream(turn_id="t1") as first:
        await next_of(first, Text)
        second = asyncio.create_task(client.events(turn_id="t1"))
        await libertai.release()
        rest = [event async for event in first]
    assert answer(await second) == "one two three"
    assert answer(await client.events(turn_id="t1")) == "one two three"
    assert (await second)[-1] == rest[-1]
    assert len(await libertai.calls()) == 1


async def test_lost_connection_stops_nothing_and_resumes_where_it_was(client, libertai):
    await libertai.script(Script(text="one two three", hold_after=1))
    async with client.stream(turn_id="t1") as events:
        seen = await next_of(events, Text)
    await libertai.release()
    rest = await client.events(turn_id="t1", after=seen.seq)
    assert seen.text + answer(rest) == "one two three"
    assert rest[0].seq == seen.seq + 1


async def test_end_is_told_also_to_a_client_that_has_seen_more_than_there_is(client):
    done = (await client.events(turn_id="t1"))[-1]
    assert await client.events(turn_id="t1", after=done.seq) == [done]
    assert await client.events(turn_id="t1", after=1_000) == [done]


async def test_turns_of_a_chat_run_in_order_and_other_chats_do_not_wait(client, libertai):
    await libertai.script(Script(text="first", hold_after=0), Script(text="elsewhere"), Script(text="second"))
    first = asyncio.create_task(client.events("1", turn_id="t1"))
    await libertai.calls(at_least=1)
    async with client.stream("2", turn_id="t2") as second:
        assert answer(await client.events("3", chat_id="c2")) == "elsewhere"
        assert len(await libertai.calls()) == 2
        await libertai.release()
        assert answer([event async for event in second]) == "second"
    assert answer(await first) == "first"
    assert [message["content"] for message in as_written((await libertai.calls())[2].messages)] == ["1", "first", "2"]


async def test_more_turns_than_allowed_at_once_wait_for_each_other(agents, libertai):
    client = await agents(agent_concurrent_turns=1)
    await libertai.script(Script(text="a", hold_after=0))
    first = asyncio.create_task(client.events(chat_id="c1"))
    await libertai.calls(at_least=1)
    async with client.stream(chat_id="c2") as second:
        assert len(await libertai.calls()) == 1
        await libertai.release()
        assert isinstance([event async for event in second][-1], Done)
    assert answer(await first) == "a"


async def test_keepalives_are_events_that_repeat_the_last_number(agents, libertai):
    client = await agents(agent_keepalive_seconds=0.02)
    await libertai.script(Script(text="one two", hold_after=1))
    async with client.stream() as events:
        await next_of(events, Text)
        assert await next_of(events, KeepAlive) == KeepAlive(seq=1)
        await libertai.release()
        assert answer(without_keepalives([event async for event in events])) == " two"


async def test_stopped_turn_keeps_its_text_in_the_history(client, libertai):
    await libertai.script(Script(text="one two three", hold_after=2))
    async with client.stream() as events:
        said = await next_of(events, Text)
        while said.text != "one two":
            said = Text(seq=said.seq, text=said.text + (await next_of(events, Text)).text)
        assert (await client.http.post("/chat/c1/stop")).json() == {"stopped": True}
        [final] = [event async for event in events]
    assert (final.kind, final.retryable) == (ErrorKind.STOPPED, True)
    await client.events("go on")
    assert [message["content"] for message in as_written((await libertai.calls())[1].messages)] == [
        "hi",
        "one two",
        "go on",
    ]


async def test_stop_says_when_nothing_runs(client):
    assert (await client.http.post("/chat/c1/stop")).json() == {"stopped": False}


async def test_stopped_turn_is_run_again_only_when_that_is_asked_for(client, libertai):
    await libertai.script(Script(text="x", hold_after=0))
    async with client.stream(turn_id="t1") as events:
        await libertai.calls(at_least=1)
        await client.http.post("/chat/c1/stop")
        [final] = [event async for event in events]
    assert await client.events(turn_id="t1") == [final]
    await libertai.reply("now whole")
    assert answer(await client.events(turn_id="t1", retry=True)) == "now whole"


async def test_forgotten_chat_starts_anew(client, libertai):
    await client.events("my secret", turn_id="t1")
    assert (await client.http.delete("/chat/c1")).status_code == 204
    await client.events("who am I?")
    assert as_written((await libertai.calls())[1].messages) == [{"role": "user", "content": "who am I?"}]
    assert answer(await client.events(turn_id="t1")) == ""
    assert len(await libertai.calls()) == 2


async def test_forgetting_stops_the_running_and_the_waiting_turns(client, libertai):
    await libertai.script(Script(text="x y", hold_after=1))
    async with client.stream("1") as running, client.stream("2") as waiting:
        await next_of(running, Text)
        await client.http.delete("/chat/c1")
        finals = [[event async for event in running][-1], [event async for event in waiting][-1]]
    assert [final.kind for final in finals] == [ErrorKind.STOPPED, ErrorKind.STOPPED]
    await client.events("3")
    assert as_written((await libertai.calls())[1].messages) == [{"role": "user", "content": "3"}]


async def test_failed_turn_is_run_again_when_asked_to(client, libertai):
    broken = Script(text="one two", tokens=1, ending="silent")
    await libertai.script(broken, broken, Script(text="whole answer"))
    failed = await client.events("q", turn_id="t1")
    assert (failed[-1].kind, failed[-1].retryable) == (ErrorKind.UNREACHABLE, True)
    again = await client.events("q", turn_id="t1", retry=True, after=failed[-1].seq)
    assert again[0] == Restart(seq=failed[-1].seq + 1)
    assert answer(again) == "whole answer"
    assert as_written((await libertai.calls())[2].messages) == [{"role": "user", "content": "q"}]
    assert answer(await client.events("q", turn_id="t1")) == "whole answer"


async def test_turn_run_again_later_is_the_chats_last_one(client, libertai):
    await libertai.refuse(503)
    await libertai.refuse(503)
    await client.events("first", turn_id="t1")
    await libertai.reply("answer to the second")
    await client.events("second")
    assert as_written((await libertai.calls())[2].messages) == [{"role": "user", "content": "first\n\nsecond"}]
    await client.events("first", turn_id="t1", retry=True)
    contents = [message["content"] for message in as_written((await libertai.calls())[3].messages)]
    assert contents == ["second", "answer to the second", "first"]


async def test_turn_that_ended_well_is_not_run_again(client, libertai):
    first = await client.events(turn_id="t1")
    again = await client.events(turn_id="t1", retry=True)
    assert (answer(again), again[-1]) == (answer(first), first[-1])
    assert len(await libertai.calls()) == 1


async def test_turn_id_of_another_chat_is_refused(client):
    await client.events(turn_id="t1")
    response = await client.ask(turn_id="t1", chat_id="c2")
    assert (response.status_code, response.json()["kind"]) == (409, "other_chat")


async def test_turn_that_takes_too_long_fails(agents, libertai):
    client = await agents(agent_turn_seconds=0.05)
    await libertai.script(Script(text="x", hold_after=0))
    [final] = await client.events()
    assert isinstance(final, Failed)
    assert (final.kind, final.retryable) == (ErrorKind.UNREACHABLE, True)


async def test_draining_agent_ends_what_runs_and_takes_nothing_new(client, libertai):
    await libertai.script(Script(text="one two", hold_after=1))
    async with client.stream() as events:
        await next_of(events, Text)
        draining = asyncio.create_task(client.turns.drain(10))
        await asyncio.sleep(0)
        assert (await client.http.get("/health")).json()["status"] == "draining"
        refusal = await client.ask("more")
        await libertai.release()
        assert isinstance([event async for event in events][-1], Done)
    assert (refusal.status_code, refusal.json()["kind"]) == (503, "draining")
    await draining


async def test_draining_agent_interrupts_what_does_not_end(client, libertai):
    await libertai.script(Script(text="one two", hold_after=1))
    async with client.stream("1") as running, client.stream("2") as waiting:
        await next_of(running, Text)
        await client.turns.drain(0)
        finals = [[event async for event in running][-1], [event async for event in waiting][-1]]
    assert [final.kind for final in finals] == [ErrorKind.INTERRUPTED, ErrorKind.INTERRUPTED]


async def test_turns_older_than_a_week_are_dropped_once_a_day_and_what_was_said_stays(agents, libertai):
    now = [1_000.0]
    client = await agents(clock=lambda: now[0])
    for turn_id in ("old", "recent"):
        await client.events(turn_id=turn_id)
    days = {"old": 8, "recent": 6}
    for turn_id, age in days.items():
        execute(client, "UPDATE turn SET created = created - ? WHERE id = ?", age * 24 * 3600, turn_id)

    now[0] += 24 * 3600 - 1
    await client.events(turn_id="same day")
    assert turns_known(client) == {"old", "recent", "same day"}
    now[0] += 1
    await client.events(turn_id="next day")
    assert turns_known(client) == {"recent", "same day", "next day"}

    assert execute(client, "SELECT count(*) FROM event WHERE turn_id = 'old'") == [(0,)]
    assert execute(client, "SELECT count(*) FROM message WHERE turn_id = 'old'") == [(2,)]


def execute(client, statement, *values):
    return client.turns._store.execute(statement, values).fetchall()


def turns_known(client):
    return {turn_id for (turn_id,) in execute(client, "SELECT id FROM turn")}
