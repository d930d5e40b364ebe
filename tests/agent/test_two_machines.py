"""Two copies of one agent, of which one works: what the other must not do, and what goes over with the hand-over."""

import asyncio
import shutil

import pytest

from agent.protocol import Done, Role
from agent.schedule import Wish
from tests.agent.test_mode import call, refusal, told
from tests.agent.test_snapshot import put, take
from tests.fakes.libertai_sim import Script

NOW = 1_800_000_000.0
HOUR = 3600.0


@pytest.fixture
def now(clock):
    clock.now = NOW
    return clock


@pytest.fixture
async def old(agents, now):
    return await agents(clock=now, agent_heartbeat_minutes=60)


@pytest.fixture
async def new(agents, now, tmp_path):
    return await agents(clock=now, agent_mode="standby", agent_data=tmp_path / "other", agent_heartbeat_minutes=60)


async def hand_over(old, new, epoch=1):
    assert (await call(old, "/seal", epoch)).status_code == 200
    restored = await put(new, await take(old))
    assert restored.status_code == 200, restored.text
    assert (await call(new, "/activate", epoch)).status_code == 204


def plan(client, what, *, due=NOW, work=False):
    client.agenda.schedule.add(Wish("c1", Role.OWNER, None, what, "", "UTC", due, work))
    client.agenda.store.commit()


async def letters(client):
    response = await client.http.post("/tick")
    assert response.status_code == 200, response.text
    return [(letter["id"], letter["text"]) for letter in response.json()["letters"]]


async def refused(client, method, path, **fields):
    response = await client.http.request(method, path, **fields)
    return response.status_code, response.json().get("kind")


# --- what does not work does nothing


@pytest.mark.parametrize("mode", ["standby", "sealed"])
async def test_a_copy_that_does_not_work_reminds_nobody_beats_not_and_delivers_nothing(old, new, now, libertai, mode):
    await old.events("hello", role="owner")
    old.agenda.outbox.add("c1", "a letter that waits")
    plan(old, "Soup", due=NOW + HOUR)
    plan(old, "Look at the soup", due=NOW + HOUR, work=True)
    assert (await call(old, "/seal", 1)).status_code == 200
    assert (await put(new, await take(old))).status_code == 200
    idle = new if mode == "standby" else old
    before, asked = await take(idle), len(await libertai.calls())

    now.now += 2 * HOUR  # the reminder, the work and a heartbeat are due
    for method, path, body in (
        ("POST", "/tick", None),
        ("GET", "/outbox", None),
        ("POST", "/outbox/ack", {"up_to": 2**50}),
        ("DELETE", "/chat/c1", None),
        ("PUT", "/files/c1/f1?name=a", None),
    ):
        assert await refused(idle, method, path, json=body) == (409, "not_active"), path
    assert await refusal(idle) == (409, "not_active")

    assert [letter.text for letter in idle.agenda.outbox.page()] == ["a letter that waits"]
    assert (await libertai.calls())[asked:] == []
    assert await counts(idle) == counts_of(before)


async def counts(client):
    return counts_of(await take(client))


def counts_of(archive):
    from tests.agent.test_snapshot import manifest_of  # noqa: PLC0415

    return manifest_of(archive).counts


async def test_no_tick_begins_anything_while_the_agent_is_about_to_be_sealed(old, new, libertai):
    await libertai.script(Script(text="slow answer", hold_after=1))
    async with old.stream(turn_id="t1") as events:
        await anext(events)
        sealing = asyncio.create_task(call(old, "/seal", 1))
        while (await refusal(old, chat_id="c2"))[0] == 200:
            pass
        plan(old, "Soup")
        assert await refused(old, "POST", "/tick") == (409, "not_active")
        assert not sealing.done()
        await libertai.release()
        assert isinstance([event async for event in events][-1], Done)
    assert (await sealing).status_code == 200
    assert (await put(new, await take(old))).status_code == 200
    await call(new, "/activate", 1)
    assert [text for _, text in await letters(new)] == ["⏰ Soup"], "it is not lost: the other one does it"


async def test_work_that_runs_is_over_before_it_is_sealed_and_its_letter_goes_over(old, new, libertai):
    plan(old, "Look at the soup", work=True)
    await libertai.script(Script(text="It is done.", hold_after=0))
    ticking = asyncio.create_task(letters(old))
    await libertai.calls(at_least=1)
    sealing = asyncio.create_task(call(old, "/seal", 1))
    assert not sealing.done()
    await libertai.release()
    sent = await ticking
    assert (await sealing).status_code == 200
    assert (await put(new, await take(old))).status_code == 200
    await call(new, "/activate", 1)
    assert await letters(new) == sent, "under the same number, by which it is delivered once"
    assert [text for _, text in sent] == ["It is done."]


# --- letters and numbers


@pytest.mark.parametrize("behind", [0.0, HOUR], ids=["clocks agree", "the new machine's clock is behind"])
async def test_letters_go_over_and_their_numbers_go_on(old, new, now, behind):
    outbox = old.agenda.outbox
    for text in ("delivered", "waits", "waits too"):
        outbox.add("c1", text)
    first = outbox.page()[0]
    outbox.drop(first.id)
    kept = [(letter.id, letter.text) for letter in outbox.page()]

    await hand_over(old, new)
    now.now -= behind
    new.agenda.outbox.add("c1", "written there")

    there = await letters(new)
    assert there[:2] == kept
    assert there[2][1] == "written there"
    assert there[2][0] > kept[-1][0]


async def test_no_number_is_given_out_twice_when_the_outbox_was_empty(old, new, now):
    old.agenda.outbox.add("c1", "delivered")
    (given,) = old.agenda.outbox.page()
    old.agenda.outbox.drop(given.id)
    plan(old, "Soup", due=NOW + HOUR)
    number = old.agenda.schedule.of_chat("c1", list(Role))[0].number
    old.agenda.schedule.remove(number)
    old.agenda.store.commit()

    await hand_over(old, new)
    now.now -= HOUR
    new.agenda.outbox.add("c1", "written there")
    plan(new, "Bread")

    assert new.agenda.outbox.page()[0].id > given.id
    assert new.agenda.schedule.of_chat("c1", list(Role))[0].number > number


async def test_an_agent_moves_there_and_on_and_reminds_once(agents, old, new, now, tmp_path):
    plan(old, "Soup", due=NOW + HOUR)
    await hand_over(old, new, 1)
    third = await agents(clock=now, agent_mode="standby", agent_data=tmp_path / "third")
    await hand_over(new, third, 2)
    now.now += 2 * HOUR
    assert [text for _, text in await letters(third)] == ["⏰ Soup"]
    for idle in (old, new):
        assert await refused(idle, "POST", "/tick") == (409, "not_active")


# --- starts


async def test_the_first_deployment_is_an_empty_standby_that_is_activated_and_works_at_once(new):
    assert await told(new) == ("standby", 0)
    for _ in range(2):
        assert (await call(new, "/activate", 1)).status_code == 204
    assert await told(new) == ("active", 1)
    assert isinstance((await new.events("hello"))[-1], Done)


async def test_one_that_was_activated_stays_active_whatever_its_environment_says(process, environment):
    environment["AGENT_MODE"] = "standby"
    client = await process.start()
    assert (await call(client, "/activate", 4)).status_code == 204
    await client.events("hello", turn_id="t1")
    await process.stop()
    again = await process.start()
    assert await told(again) == ("active", 4)
    assert (await call(again, "/activate", 4)).status_code == 204
    assert isinstance((await again.events("and on"))[-1], Done)


async def test_one_whose_disk_was_emptied_stands_by_and_takes_no_turn(process, environment, tmp_path):
    environment["AGENT_MODE"] = "standby"
    client = await process.start()
    await call(client, "/activate", 4)
    await client.events("hello")
    await process.stop()
    shutil.rmtree(tmp_path / "data")
    again = await process.start()
    assert await told(again) == ("standby", 0)
    assert await refusal(again) == (409, "not_active")
    assert await refused(again, "POST", "/tick") == (409, "not_active")


async def test_a_standby_may_be_configured_before_it_works(new):
    assert (await new.http.put("/config", json={"version": 2, "name": "Bea"})).status_code == 200
    assert (await new.http.get("/health")).json()["agent_name"] == "Bea"


async def test_a_standby_that_is_not_wanted_any_more_can_be_sealed(new):
    assert (await call(new, "/seal", 1)).status_code == 200
    assert await told(new) == ("sealed", 1)
    assert (await call(new, "/activate", 1)).json()["kind"] == "stale_epoch"
