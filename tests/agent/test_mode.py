"""Which of two copies of an agent works: standby, active, sealed, and the epochs of that."""

import asyncio

import pytest

from agent.protocol import Done, Failed
from tests.agent.conftest import answer
from tests.fakes.libertai_sim import Script


async def call(client, path, epoch, **query):
    return await client.http.post(path, json={"epoch": epoch}, params=query)


async def told(client):
    health = (await client.http.get("/health")).json()
    return health["mode"], health["epoch"]


async def refusal(client, **fields):
    response = await client.ask(**fields)
    return response.status_code, response.json().get("kind")


async def test_an_agent_works_from_the_beginning_unless_it_is_to_stand_by(agents, tmp_path):
    active = await agents()
    standby = await agents(agent_mode="standby", agent_data=tmp_path / "other")
    assert await told(active) == ("active", 0)
    assert await told(standby) == ("standby", 0)
    assert (await active.ask()).status_code == 200
    assert await refusal(standby) == (409, "not_active")


async def test_strangers_are_not_told(client):
    health = (await client.http.get("/health", headers={"Authorization": ""})).json()
    assert (health["mode"], health["epoch"]) == (None, None)


async def test_a_standby_that_is_activated_works(agents):
    client = await agents(agent_mode="standby")
    assert (await call(client, "/activate", 3)).status_code == 204
    assert await told(client) == ("active", 3)
    assert (await client.ask()).status_code == 200


async def test_a_sealed_agent_writes_nothing_and_answers_what_it_knows(client):
    first = await client.events(turn_id="t1")
    manifest = await call(client, "/seal", 1)
    assert manifest.status_code == 200
    assert await refusal(client) == (409, "not_active")
    assert answer(await client.events(turn_id="t1")) == answer(first)
    for response in (
        await client.http.delete("/chat/c1"),
        await client.http.put("/config", json={"version": 5, "name": "Bea"}),
        await client.http.put("/files/c1/f1", params={"name": "a"}, content=b"x"),
        await client.http.post("/outbox/ack", json={"up_to": 1}),
        await client.http.post("/tick"),
    ):
        assert (response.status_code, response.json()["kind"]) == (409, "not_active")
    assert (await call(client, "/seal", 1)).json() == manifest.json()


async def test_an_unsealed_agent_goes_on(client):
    await client.events("one")
    await call(client, "/seal", 1)
    assert (await call(client, "/unseal", 2)).status_code == 204
    assert isinstance((await client.events("two"))[-1], Done)


async def test_sealing_lets_a_running_turn_end(client, libertai):
    await libertai.script(Script(text="slow answer", hold_after=1))
    async with client.stream(turn_id="t1") as events:
        await anext(events)
        sealing = asyncio.create_task(call(client, "/seal", 1))
        turns = ["t1"]
        while (await refusal(client, chat_id="c2", turn_id=f"t{len(turns) + 1}"))[0] == 200:
            turns.append(f"t{len(turns) + 1}")
        assert not sealing.done()
        await libertai.release()
        assert isinstance([event async for event in events][-1], Done)
    assert (await sealing).json()["last_turn"] == turns[-1]


async def test_a_turn_that_takes_too_long_leaves_the_agent_working(client, libertai):
    await libertai.script(Script(text="slow answer", hold_after=1))
    async with client.stream(turn_id="t1") as events:
        await anext(events)
        late = await call(client, "/seal", 1, seconds=0)
        assert (late.status_code, late.json()["kind"]) == (503, "busy")
        assert await told(client) == ("active", 0)
        assert (await client.ask(chat_id="c2")).status_code == 200
        await libertai.release()
        assert isinstance([event async for event in events][-1], Done)


@pytest.mark.parametrize(
    ("path", "epoch"),
    [("/seal", 4), ("/activate", 4), ("/unseal", 4), ("/activate", 5), ("/unseal", 5)],
)
async def test_a_late_call_changes_nothing(client, path, epoch):
    await call(client, "/seal", 5)
    late = await call(client, path, epoch)
    assert (late.status_code, late.json()["kind"]) == (409, "stale_epoch")
    assert await told(client) == ("sealed", 5)


async def test_the_same_call_again_is_harmless(agents):
    client = await agents(agent_mode="standby")
    for _ in range(2):
        assert (await call(client, "/activate", 1)).status_code == 204
    assert await told(client) == ("active", 1)


@pytest.mark.parametrize("body", [{}, {"epoch": -1}, {"epoch": "x"}, {"epoch": 1, "more": 1}])
async def test_a_bad_body_is_refused(client, body):
    assert (await client.http.post("/seal", json=body)).status_code == 400
    assert await told(client) == ("active", 0)


async def test_mode_and_epoch_outlive_a_restart(agents):
    client = await agents()
    await client.ask(turn_id="t1")
    manifest = (await call(client, "/seal", 7)).json()
    await agents.stop(client)
    again = await agents()
    assert await told(again) == ("sealed", 7)
    assert await refusal(again) == (409, "not_active")
    assert (await call(again, "/seal", 7)).json() == manifest


async def test_a_turn_that_a_crash_cut_off_is_told_so_once_the_agent_works_again(process, libertai):
    client = await process.start()
    await libertai.script(Script(text="never ends", hold_after=1))
    async with client.stream(turn_id="t1") as events:
        await anext(events)
        await process.stop()
    again = await process.start()
    assert isinstance((await again.events(turn_id="t1"))[-1], Failed)
