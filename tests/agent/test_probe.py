"""`POST /probe`: key, model and network of a machine are proved before anybody's turn goes there."""

import pytest

from agent.config import Live
from agent.errors import HINTS, Refused
from agent.llm import Server
from agent.probe import Prober
from agent.protocol import ErrorKind
from agent.store import Store
from tests.fakes.libertai_sim import Ending, KeyState, Script


async def probe(client):
    response = await client.http.post("/probe")
    return response.status_code, response.json() if response.content else None


def rows(folder):
    """All that is stored, with the database closed or not."""
    store = Store(folder)
    try:
        return list(store._database.connection.iterdump())
    finally:
        store.close()


@pytest.mark.parametrize("mode", ["active", "standby", "sealed"])
async def test_an_agent_that_its_model_answers_says_so_in_any_mode(agents, libertai, mode):
    client = await agents(agent_mode="standby" if mode == "standby" else "active")
    if mode == "sealed":
        await client.http.post("/seal", json={"epoch": 1})

    assert await probe(client) == (204, None)

    [call] = await libertai.calls()
    assert "tools" not in call.body
    assert call.body["max_tokens"] <= 16
    assert (await client.http.get("/health")).json()["mode"] == mode


async def test_a_model_that_was_cut_off_while_it_thought_has_answered(client, libertai):
    await libertai.script(Script(text="", reasoning="Let me think about that word", ending=Ending.LENGTH))
    assert await probe(client) == (204, None)


@pytest.mark.parametrize(
    ("refusal", "kind", "status"),
    [
        ((401, None), ErrorKind.BAD_KEY, 502),
        ((402, None), ErrorKind.NO_ALLOWANCE, 402),
        ((404, None), ErrorKind.UNKNOWN_MODEL, 502),
        ((429, None), ErrorKind.BUSY, 503),
        ((502, "<html>Bad Gateway</html>"), ErrorKind.UNREACHABLE, 503),
    ],
)
async def test_why_it_does_not_answer_is_told_by_its_kind_and_in_a_persons_words(
    client, libertai, refusal, kind, status
):
    await libertai.refuse(*refusal)
    assert await probe(client) == (status, {"kind": kind, "text": HINTS[kind]})
    assert await probe(client) == (204, None)


async def test_a_key_without_allowance_is_found_before_a_turn_is_lost(client, libertai):
    await libertai.set_key("LTAI_test_key", KeyState.NO_CREDITS)
    assert (await probe(client))[0] == 402


async def test_a_model_server_that_is_not_there_is_unreachable(agents):
    client = await agents(llm_base_url="http://127.0.0.1:9/v1")
    assert (await probe(client))[1]["kind"] == ErrorKind.UNREACHABLE


async def test_a_model_that_says_nothing_is_waited_for_no_longer_than_told(libertai, settings, tmp_path):
    await libertai.script(Script(text="never ends", hold_after=0))
    store = Store(tmp_path / "data")
    given = settings()
    server = Server(base_url=str(given.llm_base_url), api_key=given.llm_api_key)
    try:
        with pytest.raises(Refused) as refused:
            await Prober(server, Live(given, store), seconds=0.2).probe()
    finally:
        await libertai.release()
        await server.close()
        store.close()
    assert (refused.value.status, refused.value.kind) == (503, ErrorKind.UNREACHABLE)


async def test_it_leaves_no_trace(agents, tmp_path):
    client = await agents()
    await client.ask()
    await agents.stop(client)
    before = rows(tmp_path / "data")
    again = await agents()
    assert await probe(again) == (204, None)
    assert (await again.http.get("/usage")).json()["days"][0]["turns"] == 1
    await agents.stop(again)
    assert rows(tmp_path / "data") == before


async def test_a_stranger_spends_nothing(client, libertai):
    answer = await client.http.post("/probe", headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401
    assert await libertai.calls() == []
