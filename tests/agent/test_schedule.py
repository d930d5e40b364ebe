"""What falls due is done by a tick: once, whoever dies or calls twice, and whatever the clock does."""

import asyncio
import signal
import sqlite3
from typing import Any

import pytest

from agent import tick as module
from agent.protocol import Attachment, Done, Person, Role
from agent.schedule import Wish
from agent.store import Message, Speaker
from tests.agent.conftest import NOTE, Client
from tests.fakes.libertai_sim import Script, ToolCall

NOW = 1_800_000_000.0  # Friday, 2027-01-15 08:00 UTC
HOUR, DAY = 3600.0, 86_400.0
PERSON = Person(id="7", name="Olga")
DEADLINE = 10


@pytest.fixture
def now(clock):
    clock.now = NOW
    return clock


@pytest.fixture
async def client(agents, now):
    return await agents(clock=now)


def plan(client: Client, what: str = "Soup", *, cron: str = "", due: float = NOW, work: bool = False, chat: str = "c1"):
    agenda = client.agenda
    number = agenda.schedule.add(Wish(chat, Role.OWNER, PERSON, what, cron, "UTC", due, work))
    agenda.store.commit()
    return number


async def tick(client: Client) -> dict[str, Any]:
    response = await client.http.post("/tick")
    assert response.status_code == 200, response.text
    return response.json()


def texts(outbox: dict[str, Any]) -> list[str]:
    return [letter["text"] for letter in outbox["letters"]]


async def acknowledged(client: Client) -> list[str]:
    """What a tick brings, which is then acknowledged."""
    outbox = await tick(client)
    if outbox["letters"]:
        await client.http.post("/outbox/ack", json={"up_to": outbox["letters"][-1]["id"]})
    return texts(outbox)


async def questions(libertai, call: int = -1) -> list[str]:
    messages = (await libertai.calls())[call].messages
    return [message["content"].partition(NOTE)[0] for message in messages if message["role"] == "user"]


# Reminders


async def test_a_reminder_is_a_letter_when_it_is_due_and_not_before(client, now, libertai):
    plan(client, due=NOW + HOUR)
    assert await tick(client) == {"letters": [], "next_due": NOW + HOUR}

    now.now += HOUR
    outbox = await tick(client)

    (letter,) = outbox["letters"]
    assert (letter["chat_id"], letter["text"], letter["created"]) == ("c1", "⏰ Soup", now.now)
    assert outbox["next_due"] is None
    assert await libertai.calls() == [], "it needs no model"


async def test_ticks_at_once_and_again_make_one_letter(client):
    plan(client)
    plan(client, "Bread", cron="0 8 * * *")

    outboxes = await asyncio.gather(*(tick(client) for _ in range(5)))

    assert {tuple(texts(outbox)) for outbox in outboxes} == {("⏰ Soup", "⏰ Bread")}
    assert texts(await tick(client)) == ["⏰ Soup", "⏰ Bread"], "until it is acknowledged"
    await acknowledged(client)
    assert await tick(client) == {"letters": [], "next_due": NOW + DAY}


async def test_a_week_asleep_is_one_reminder_and_the_next_lies_ahead(client, now):
    plan(client, cron="0 8 * * *")
    now.now += 7 * DAY + 5

    assert await acknowledged(client) == ["⏰ Soup"]

    assert await tick(client) == {"letters": [], "next_due": NOW + 8 * DAY}


async def test_a_clock_that_is_put_back_repeats_nothing(client, now):
    plan(client)
    plan(client, "Bread", cron="0 * * * *")
    assert await acknowledged(client) == ["⏰ Soup", "⏰ Bread"]

    now.now -= 7 * DAY

    assert await tick(client) == {"letters": [], "next_due": NOW + HOUR}


async def test_many_letters_come_in_pages_each_followed_at_once(client):
    for number in range(101):
        plan(client, str(number), chat=f"c{number}")

    first = await tick(client)
    assert (len(first["letters"]), first["next_due"]) == (100, 0)
    await client.http.post("/outbox/ack", json={"up_to": first["letters"][-1]["id"]})
    assert len((await tick(client))["letters"]) == 1


async def test_the_model_knows_of_the_reminder_when_the_person_answers_it(client, libertai):
    await client.events("Remind me of soup")
    plan(client)
    await tick(client)

    await client.events("Done!")

    said = (await libertai.calls())[-1].messages
    assert [message["role"] for message in said] == ["user", "assistant", "user"]
    assert said[1]["content"].endswith("⏰ Soup")


async def test_a_reminder_in_the_middle_of_an_answer_stays_out_of_the_conversation(client, libertai):
    await libertai.script(Script(text="one two three", hold_after=1))
    async with client.stream("Count") as events:
        async for _ in events:
            break
        plan(client)
        assert await acknowledged(client) == ["⏰ Soup"]
        await libertai.release()
        assert [event async for event in events][-1].type == "done"
    await client.events("Next")
    assert "Soup" not in str((await libertai.calls())[-1].messages)


async def test_a_reminder_whose_zone_is_gone_comes_a_last_time_and_holds_nothing_up(client):
    wish = Wish("c1", Role.OWNER, PERSON, "Soup", "0 8 * * *", "Mars/Base", NOW - 1, does_work=False)
    client.agenda.schedule.add(wish)
    plan(client, "Bread")

    assert await acknowledged(client) == ["⏰ Soup", "⏰ Bread"]

    assert await tick(client) == {"letters": [], "next_due": None}


# Work


async def test_work_is_a_turn_whose_answer_is_the_letter(client, libertai):
    plan(client, "Write the report", work=True, cron="0 8 * * *")
    await libertai.reply("The **report**.")

    outbox = await tick(client)

    assert texts(outbox) == ["The **report**."]
    assert outbox["next_due"] == NOW + DAY
    (question,) = await questions(libertai)
    assert "scheduled work, planned in this chat for Friday, 2027-01-15 08:00 (UTC)" in question
    assert question.endswith("\n\nWrite the report")
    assert "The person is called Olga." in str((await libertai.calls())[0].messages)


async def test_work_runs_as_who_asked_for_it(client, libertai):
    agenda = client.agenda
    agenda.schedule.add(Wish("c1", Role.VISITOR, None, "Report", "", "UTC", NOW, does_work=True))
    await libertai.script(Script(calls=[ToolCall(name="remember", arguments={"note": "mine"})]), Script(text="Done."))

    assert texts(await tick(client)) == ["Done."]

    assert agenda.store.notes("owner") == []
    assert [note for _, note in agenda.store.notes("chat c1")] == ["mine"]


async def test_work_waits_for_the_answer_that_runs_in_its_chat(client, libertai):
    await libertai.script(Script(text="one two three", hold_after=1), Script(text="The report."))
    async with client.stream("Count") as events:
        async for _ in events:
            break
        plan(client, "Report", work=True)
        ticking = asyncio.create_task(tick(client))
        async with asyncio.timeout(DEADLINE):
            while client.turns.running < 2:
                await asyncio.sleep(0)
        assert len(await libertai.calls()) == 1
        await libertai.release()
        assert texts(await ticking) == ["The report."]


async def test_ticks_at_once_run_work_once(client, libertai):
    plan(client, "Report", work=True)
    await libertai.reply("The report.")

    outboxes = await asyncio.gather(*(tick(client) for _ in range(5)))

    assert [texts(outbox) for outbox in outboxes] == [["The report."]] * 5
    assert len(await libertai.calls()) == 1


async def test_a_tick_does_not_wait_for_ever_and_wants_to_be_called_again(client, libertai, monkeypatch):
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.01)
    plan(client, "Report", work=True)
    await libertai.script(Script(text="The report.", hold_after=1))

    outbox = await tick(client)
    assert outbox["letters"] == []
    assert outbox["next_due"] <= NOW

    monkeypatch.setattr(module, "WAIT_SECONDS", DEADLINE)
    await libertai.calls(1)
    await libertai.release()
    assert await acknowledged(client) == ["The report."]
    assert (await tick(client))["next_due"] is None


async def test_files_and_questions_of_work_are_in_its_letter(client, libertai):
    plan(client, "Report", work=True)
    file = Attachment(id="f1", name="report.pdf", media_type="application/pdf", size=3)
    await libertai.script(Script(text="Here.", hold_after=1))
    ticking = asyncio.create_task(tick(client))
    await libertai.calls(1)
    turn = client.turns._live[f"schedule-1-{int(NOW)}"]
    turn.file(file, "")
    turn.ask("Which one?", ["Soup", "Bread"])
    turn.end_round([])
    await libertai.release()

    (letter,) = (await ticking)["letters"]

    assert letter["files"] == [file.model_dump()]
    assert letter["text"].endswith("Which one?\n- Soup\n- Bread")


async def test_work_of_a_busy_model_is_tried_once_more_and_then_given_up_in_words(client, libertai, now):
    plan(client, "Report", work=True)
    for _ in range(8):
        await libertai.refuse(503)

    first = await tick(client)
    assert first == {"letters": [], "next_due": NOW + module.AGAIN_SECONDS}

    now.now += module.AGAIN_SECONDS
    assert await acknowledged(client) == [
        "⏰ Report\n\nI could not do this now. The model is overloaded. Try again in a minute."
    ]
    assert await tick(client) == {"letters": [], "next_due": None}


async def test_work_that_succeeds_the_second_time_is_one_letter(client, libertai, now):
    plan(client, "Report", work=True)
    await libertai.script(*[Script(lines=[]) for _ in range(2)])
    assert texts(await tick(client)) == []
    await libertai.reply("The report.")
    now.now += module.AGAIN_SECONDS

    assert await acknowledged(client) == ["The report."]
    assert len(await questions(libertai)) == 1, "it is asked once in the conversation"


async def test_work_that_no_second_try_can_help_is_given_up_at_once(client, libertai):
    plan(client, "Report", work=True, cron="0 8 * * *")
    await libertai.refuse(402)

    outbox = await tick(client)

    (text,) = texts(outbox)
    assert text.startswith("⏰ Report\n\nI could not do this now. The LibertAI account behind this agent has no allow")
    assert outbox["next_due"] == NOW + DAY


async def test_an_agent_that_is_about_to_stop_begins_nothing(client):
    plan(client)
    client.turns.draining = True

    assert (await client.http.post("/tick")).status_code == 503

    client.turns.draining = False
    assert texts(await tick(client)) == ["⏰ Soup"]


async def due_now(process, environment, *, work: bool, tries: int = 0) -> Client:
    """An agent process that has something due."""
    client = await process.start()
    assert (await client.http.get("/health")).status_code == 200
    process.signal(signal.SIGKILL)
    await process.ended()
    database = sqlite3.connect(f"{environment['AGENT_DATA']}/agent.db")
    database.execute(
        "INSERT INTO schedule (chat_id, role, person, what, cron, zone, due, does_work, tries) "
        "VALUES ('c1', 'owner', '', 'Report', '', 'UTC', 1700000000, ?, ?)",
        (work, tries),
    )
    database.commit()
    database.close()
    return await process.start()


async def test_work_in_which_the_agent_was_killed_is_done_by_the_next_tick_and_is_one_letter(
    process, environment, libertai
):
    client = await due_now(process, environment, work=True)
    await libertai.script(Script(text="one two three", hold_after=1))
    ticking = asyncio.create_task(client.http.post("/tick"))
    await libertai.calls(1)
    process.signal(signal.SIGKILL)
    await process.ended()
    await asyncio.gather(ticking, return_exceptions=True)

    client = await process.start()
    await libertai.reply("The report.")

    assert (await client.http.get("/health")).json()["next_due"] <= NOW
    assert await acknowledged(client) == ["The report."]
    assert await tick(client) == {"letters": [], "next_due": None}
    assert len(await questions(libertai)) == 1


async def test_an_agent_told_to_stop_in_its_work_does_it_after_the_restart(process, environment, libertai):
    environment["AGENT_DRAIN_SECONDS"] = "0"
    client = await due_now(process, environment, work=True)
    await libertai.script(Script(text="one two three", hold_after=1))
    ticking = asyncio.create_task(client.http.post("/tick"))
    await libertai.calls(1)
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0
    await asyncio.gather(ticking, return_exceptions=True)

    client = await process.start()
    await libertai.reply("The report.")

    assert await acknowledged(client) == ["The report."]


async def test_a_letter_outlives_the_agent_and_is_written_once(process, environment):
    client = await due_now(process, environment, work=False)
    (before,) = (await tick(client))["letters"]
    process.signal(signal.SIGKILL)
    await process.ended()

    client = await process.start()

    assert (await tick(client))["letters"] == [before]


async def test_work_that_kills_the_agent_again_and_again_is_given_up(process, environment, libertai):
    client = await due_now(process, environment, work=True, tries=module.MAX_INTERRUPTED)

    assert await acknowledged(client) == ["⏰ Report\n\nI could not do this now."]
    assert await libertai.calls() == []


# The heartbeat


@pytest.fixture
async def beating(agents, now):
    return await agents(clock=now, agent_heartbeat_minutes=60)


async def test_it_beats_in_the_chat_where_the_owner_spoke_last(beating, libertai, now):
    await beating.events(chat_id="c1", role="owner", user=PERSON)
    await beating.events(chat_id="c2", role="owner", user=PERSON)
    events = await beating.events(chat_id="c3", role="visitor")
    assert isinstance(events[-1], Done)
    assert events[-1].next_due == NOW + HOUR
    now.now += HOUR
    await libertai.reply("Your soup is ready.")

    (letter,) = (await tick(beating))["letters"]

    assert (letter["chat_id"], letter["text"]) == ("c2", "Your soup is ready.")
    await acknowledged(beating)
    assert await tick(beating) == {"letters": [], "next_due": now.now + HOUR}
    await beating.events("Thanks", chat_id="c2", role="owner")
    assert "Your soup is ready." in str((await libertai.calls())[-1].messages)


@pytest.mark.parametrize("words", ["NOTHING", "**Nothing.**", "nothing\n"])
async def test_with_nothing_to_tell_it_is_silent_and_leaves_no_trace(beating, libertai, now, words):
    await beating.events("Hello", role="owner")
    now.now += 5 * HOUR
    await libertai.script(Script(calls=[ToolCall(name="reminders", arguments={})]), Script(text=words))

    assert await tick(beating) == {"letters": [], "next_due": now.now + HOUR}, "missed beats are one"

    await beating.events("Thanks", role="owner")
    assert await questions(libertai) == ["Hello", "Thanks"]
    assert [message["role"] for message in (await libertai.calls())[-1].messages] == ["user", "assistant", "user"]


async def test_a_beat_that_fails_is_silent(beating, libertai, now):
    await beating.events("Hello", role="owner")
    now.now += HOUR
    await libertai.refuse(402)

    assert await tick(beating) == {"letters": [], "next_due": now.now + HOUR}

    await beating.events("Thanks", role="owner")
    assert await questions(libertai) == ["Hello", "Thanks"]


async def test_a_beat_in_which_the_agent_died_leaves_no_trace(beating, libertai, now):
    await beating.events("Hello", role="owner")
    agenda = beating.agenda
    now.now += HOUR
    request = agenda.heartbeat.begin(now.now)
    agenda.store.add_messages(request.turn_id, "c1", [Message(Speaker.USER, request.message)])
    assert agenda.next_due() == 0

    assert await tick(beating) == {"letters": [], "next_due": now.now + HOUR}
    await beating.events("Thanks", role="owner")
    assert await questions(libertai) == ["Hello", "Thanks"]


async def test_without_the_setting_it_never_beats(client, now, libertai):
    events = await client.events(role="owner")
    now.now += 365 * DAY
    assert events[-1].next_due is None
    assert await tick(client) == {"letters": [], "next_due": None}
    assert len(await libertai.calls()) == 1


async def test_without_an_owner_it_never_beats(beating, now):
    await beating.events(role="visitor")
    now.now += DAY
    assert await tick(beating) == {"letters": [], "next_due": None}
