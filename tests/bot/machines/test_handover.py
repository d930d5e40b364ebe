"""The bot's calls that move an agent, against real agents."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from litestar import Litestar, Request, Response, get, post
from pydantic import SecretStr

from agent.app import build
from agent.protocol import ChatRequest, Config, Event, Mode, Refusal
from agent.settings import Settings
from bot.errors import AgentHeld, AgentOffline, AgentRefused
from bot.machines.client import AgentClient, Door
from tests.fakes.libertai_serving import Serving

SECRET = "a-secret-of-an-agent"


@pytest.fixture
async def client():
    client = AgentClient()
    yield client
    await client.close()


@pytest.fixture
async def agents(tmp_path):
    """Starts agents whose model cannot be reached: `door = await agents("name", "standby")`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str, mode: str = "active") -> Door:
            settings = Settings.model_validate(
                {
                    "agent_name": "Ada",
                    "agent_job": "You cook.",
                    "agent_model": "m",
                    "agent_secret": SECRET,
                    "agent_data": tmp_path / name,
                    "agent_mode": mode,
                    "agent_retry_pause_seconds": 0,
                    "llm_base_url": "http://127.0.0.1:9/v1",
                    "llm_api_key": "k",
                }
            )
            serving = Serving(build(settings).asgi)
            await serving.start()
            stack.push_async_callback(serving.stop)
            return Door(serving.url, SecretStr(SECRET))

        yield start


async def events(client: AgentClient, door: Door, turn_id: str) -> list[Event]:
    request = ChatRequest(chat_id="c1", turn_id=turn_id, message="hi")
    return [event async for event in client.chat(door, request)]


async def in_pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 10_000):
        yield content[start : start + 10_000]


async def test_agent_is_moved_from_one_machine_to_another(client, agents):
    old, new = await agents("old"), await agents("new", "standby")
    first = await events(client, old, "t1")
    manifest = await client.seal(old, 1)
    assert manifest.mode is Mode.SEALED
    assert await client.seal(old, 1) == manifest
    restored = await client.restore(new, client.snapshot(old))
    assert (restored.last_turn, restored.counts) == (manifest.last_turn, manifest.counts)
    await client.activate(new, 1)
    assert (await client.health(new)).mode is Mode.ACTIVE
    assert await events(client, new, "t1") == first
    with pytest.raises(AgentHeld, match="handed over"):
        await events(client, old, "t2")


async def test_called_off_the_old_machine_goes_on(client, agents):
    door = await agents("old")
    await client.seal(door, 1)
    await client.unseal(door, 2)
    health = await client.health(door)
    assert (health.mode, health.epoch) == (Mode.ACTIVE, 2)
    for call in (client.seal, client.activate, client.unseal):
        with pytest.raises(AgentRefused, match="stale_epoch"):
            await call(door, 1)


async def test_refused_snapshot_is_told_why(client, agents):
    old, new = await agents("old"), await agents("new", "standby")
    content = b"".join([piece async for piece in client.snapshot(old)])
    with pytest.raises(AgentRefused, match="bad_snapshot"):
        await client.restore(new, in_pieces(content[:-2048]))
    assert (await client.restore(new, in_pieces(content))).mode is Mode.ACTIVE


async def test_snapshot_for_an_agent_that_works_is_not_even_sent(client, agents):
    door = await agents("old")
    sent = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(1)
            yield bytes(100_000)

    with pytest.raises(AgentRefused, match="not_standby"):
        await client.restore(door, endless())
    assert not sent


async def test_nobody_there_is_offline(client):
    door = Door("http://127.0.0.1:9", SecretStr(SECRET))
    for call in (client.seal, client.activate, client.unseal):
        with pytest.raises(AgentOffline):
            await call(door, 1)
    with pytest.raises(AgentOffline):
        await client.restore(door, in_pieces(b"x"))
    with pytest.raises(AgentOffline):
        [piece async for piece in client.snapshot(door)]


async def test_an_agent_that_does_not_work_says_so_to_whoever_wants_something_of_it(client, agents):
    door = await agents("old")
    await client.seal(door, 1)
    for call in (
        events(client, door, "t1"),
        client.tick(door),
        client.acknowledge(door, 1),
        client.configure(door, Config(version=1, name="Eva")),
        client.forget(door, "c1"),
    ):
        with pytest.raises(AgentHeld):
            await call
    with pytest.raises(AgentHeld, match="stands by"):
        await events(client, await agents("new", "standby"), "t1")


async def test_what_spoils_a_snapshot_on_its_way_is_told_and_not_called_offline(client, agents):
    class Spoilt(Exception):
        pass

    async def spoilt() -> AsyncIterator[bytes]:
        yield bytes(1_000)
        raise Spoilt

    with pytest.raises(Spoilt):
        await client.restore(await agents("new", "standby"), spoilt())


class Double:
    """An agent whose answers a test says."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Response[Any] = Response(None, status_code=204)
        handlers = [self._probe(), self._snapshot()]
        self.serving = Serving(Litestar(handlers, openapi_config=None, logging_config=None))
        self.door = Door(self.serving.url, SecretStr(SECRET))

    def _probe(self) -> Any:
        @post("/probe", status_code=200)
        async def probe(request: Request[Any, Any, Any]) -> Response[Any]:
            return self._say(request)

        return probe

    def _snapshot(self) -> Any:
        @get("/snapshot")
        async def snapshot(request: Request[Any, Any, Any]) -> Response[Any]:
            return self._say(request)

        return snapshot

    def _say(self, request: Request[Any, Any, Any]) -> Response[Any]:
        self.asked.append(f"{request.method} {request.url.path}?{request.url.query}")
        return self.answer


@pytest.fixture
async def double():
    made = Double()
    await made.serving.start()
    yield made
    await made.serving.stop()


async def test_a_probe_says_whether_the_agent_can_think(client, double):
    await client.probe(double.door)
    double.answer = Response(Refusal(kind="bad_key", text="LibertAI does not accept its key."), status_code=502)
    with pytest.raises(AgentRefused, match="bad_key") as refused:
        await client.probe(double.door)
    assert refused.value.status == 502
    assert double.asked == ["POST /probe?"] * 2


async def test_what_the_receiver_has_already_is_named_only_if_there_is_something(client, double):
    double.answer = Response(b"archive", status_code=200, media_type="application/x-tar")
    assert b"".join([piece async for piece in client.snapshot(double.door)]) == b"archive"
    assert b"".join([piece async for piece in client.snapshot(double.door, "a1+b")]) == b"archive"
    assert double.asked == ["GET /snapshot?", "GET /snapshot?base=a1%2Bb"]


async def test_an_answer_that_is_no_manifest_is_refused(client):
    serving = Serving(Litestar([_nonsense()], openapi_config=None, logging_config=None))
    await serving.start()
    try:
        with pytest.raises(AgentRefused, match="bad_manifest"):
            await client.seal(Door(serving.url, SecretStr(SECRET)), 1)
    finally:
        await serving.stop()


def _nonsense() -> Any:
    @post("/seal", status_code=200)
    async def seal() -> dict[str, int]:
        return {"answer": 42}

    return seal
