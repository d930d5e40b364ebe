"""A light agent answers what the real one answers: both are asked the same, call after call."""

import io
import tarfile
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from agent.protocol import EVENT_STREAM, VERSION_HEADER, Manifest
from bot.machines.engine import Spec
from bot.machines.process import ProcessEngine
from bot.machines.provider import Place
from tests.chaos.machines import LightMachines
from tests.fakes.libertai import LibertAIDouble

pytestmark = pytest.mark.e2e

SECRET = "a-secret-of-an-agent-x"
KEY = "LTAI_operator"
TURNS = ("first", "second", "third")


@dataclass
class Copy:
    """One copy of an agent, and all that it has answered."""

    url: str
    http: httpx.AsyncClient
    said: list[tuple[str, int, Any]] = field(default_factory=list)

    async def ask(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **body: Any
    ) -> httpx.Response:
        known = {"Authorization": f"Bearer {SECRET}"} | (headers or {})
        answer = await self.http.request(method, self.url + path, headers=known, timeout=20, **body)
        self.said.append((f"{method} {path.partition('?')[0]}", answer.status_code, essence(path, answer)))
        return answer

    async def chat(self, turn_id: str, chat_id: str = "c1", **fields: Any) -> None:
        request = {"chat_id": chat_id, "message": "hi", "turn_id": turn_id} | fields
        await self.ask("POST", "/chat", headers={"Accept": EVENT_STREAM}, json=request)

    async def epoch(self, what: str, number: int) -> None:
        await self.ask("POST", f"/{what}", json={"epoch": number})

    async def take(self, base: str = "") -> bytes:
        return (await self.ask("GET", f"/snapshot?base={base}")).content


def essence(path: str, answer: httpx.Response) -> Any:
    """What has to be the same: all of a refusal, and of the rest what does not depend on a model or a moment."""
    if answer.is_error:
        return answer.json()
    if not answer.content:
        return None
    if path.startswith("/snapshot") and answer.headers.get("content-type") == "application/x-tar":
        return facts(manifest_of(answer.content), "")
    match answer.headers.get("content-type", "").partition(";")[0]:
        case "text/event-stream":
            return ends_of(answer.text)
        case "application/json":
            return facts(answer.json(), path)
    return answer.text


def facts(said: dict[str, Any], path: str) -> dict[str, Any]:
    if "schema_version" in said:
        manifest = Manifest.model_validate(said)
        turns, base, mark = manifest.counts["turn"], bool(manifest.base), bool(manifest.mark)
        named = [part.name for part in manifest.parts]
        return {"turns": turns, "last": manifest.last_turn, "base": base, "mark": mark, "parts": named} | {
            "mode": manifest.mode,
            "epoch": manifest.epoch,
            "has_fingerprint": bool(manifest.fingerprint),
        }
    if path == "/health":
        passed = {"version", "revision", "digest", "next_due", "protocol"}
        return {name: value for name, value in said.items() if name not in passed}
    if path == "/config":
        return {name: said[name] for name in ("version", "name", "job", "model")}
    if path == "/chat":
        return {"turn_id": said["turn_id"], "has_words": bool(said["response"])}
    return said


def ends_of(stream: str) -> tuple[bool, str]:
    """Whether it has text, and how it ends."""
    kinds = [line.partition('"type":"')[2].partition('"')[0] for line in stream.splitlines() if line]
    return "text" in kinds, kinds[-1]


def manifest_of(content: bytes) -> dict[str, Any]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        held = archive.extractfile("manifest.json")
        assert held
        return Manifest.model_validate_json(held.read()).model_dump()


def spec(release: str, model_url: str) -> Spec:
    return Spec(
        release=release,
        name="Ada",
        job="cooks",
        model="qwen3.6-35b-a3b",
        secret=SecretStr(SECRET),
        llm_base_url=f"{model_url}/v1",
        llm_api_key=SecretStr(KEY),
    )


@pytest.fixture
async def http():
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


@pytest.fixture
async def model():
    async with LibertAIDouble(keys=[KEY]) as double:
        yield double


@pytest.fixture
async def real(tmp_path, http, model):
    """Two copies, each a process."""
    engine, places = ProcessEngine(), []
    copies = []
    for number in range(2):
        folder = tmp_path / f"real-{number}"
        folder.mkdir()
        places.append(Place(f"m-{number:016x}", path=str(folder)))
        copies.append(Copy(await engine.run(places[-1], spec(f"r{number}", model.url)), http))
    yield copies
    for place in places:
        await engine.remove(place)
    await engine.close()


@pytest.fixture
async def light(tmp_path, http, dice):
    """Two copies on light machines."""
    async with LightMachines(tmp_path / "light", dice) as machines:
        copies = []
        for number in range(2):
            port = (await machines.start(f"{number}", []))[22]
            environment = spec(f"r{number}", "http://127.0.0.1:9").environment()
            assert (await http.put(f"{machines.url}/engine/{port}/run", json=environment)).is_success
            copies.append(Copy(f"{machines.url}/{port}", http))
        yield copies


async def test_both_refuse_and_do_the_same_in_the_same_words(real, light):
    for one, other in (real, light):
        await doors(one)
        await standing_by(one)
        await at_work(one)
        await sealed(one)
        await moved(one, other)

    said = [pair for mine, theirs in zip(light, real, strict=True) for pair in zip(mine.said, theirs.said, strict=True)]
    assert [pair for pair in said if pair[0] != pair[1]] == []


async def doors(copy):
    await copy.ask("GET", "/health")
    await copy.ask("GET", "/health", headers={"Authorization": ""})
    await copy.ask("POST", "/chat", headers={"Authorization": "Bearer other"}, json={"chat_id": "c1", "message": "hi"})
    await copy.ask("GET", "/config", headers={VERSION_HEADER: "1000"})
    await copy.ask("GET", "/nowhere")


async def standing_by(copy):
    await copy.chat("early")
    await copy.ask("POST", "/tick")
    await copy.ask("GET", "/outbox")
    await copy.ask("POST", "/outbox/ack", json={"up_to": 0})
    await copy.ask("DELETE", "/chat/c1")
    await copy.ask("POST", "/chat/c1/stop")
    await copy.ask("PUT", "/config", json={"version": 2, "job": "bakes"})
    await copy.ask("PUT", "/config", json={"version": 1, "job": "fries"})
    await copy.ask("GET", "/config")
    await copy.epoch("seal", 1)
    await copy.epoch("activate", 1)


async def at_work(copy):
    await copy.epoch("activate", 2)
    await copy.epoch("activate", 2)
    await copy.epoch("activate", 1)
    for turn_id in TURNS:
        await copy.chat(turn_id)
    await copy.chat(TURNS[0])
    await copy.chat(TURNS[0], after=1000)
    await copy.chat(TURNS[0], retry=True)
    await copy.chat(TURNS[0], chat_id="c2")
    await copy.ask("POST", "/chat", json={"chat_id": "c2", "message": "hi", "turn_id": "whole"})
    await copy.ask("POST", "/tick")
    await copy.ask("GET", "/outbox")
    await copy.ask("POST", "/outbox/ack", json={"up_to": 0})
    await copy.ask("POST", "/probe")
    await copy.ask("GET", "/health")
    await copy.ask("PUT", "/snapshot", content=await copy.take())


async def sealed(copy):
    await copy.epoch("seal", 1)
    await copy.epoch("seal", 2)
    await copy.epoch("seal", 3)
    await copy.epoch("seal", 3)
    await copy.ask("GET", "/health")
    await copy.chat("late")
    await copy.chat(TURNS[1])
    await copy.ask("POST", "/tick")
    await copy.ask("PUT", "/config", json={"version": 3, "job": "fries"})
    await copy.ask("DELETE", "/chat/c1")
    await copy.ask("POST", "/probe")
    await copy.epoch("unseal", 3)
    await copy.epoch("unseal", 4)
    await copy.chat("again")


async def moved(one, other):
    """What one has goes to the other, which stands by: whole, in part, and broken."""
    await other.ask("PUT", "/snapshot", content=b"no archive")
    whole = await one.take()
    await other.ask("PUT", "/snapshot", content=whole[: len(whole) // 2])
    await other.ask("PUT", "/snapshot", content=whole[:700] + b"x" + whole[701:])
    await other.ask("PUT", "/snapshot", content=whole)
    await one.chat("meanwhile")
    await one.epoch("seal", 5)
    mark = manifest_of(whole)["mark"]
    rest = await one.take(mark)
    await one.take("unknown")
    await other.ask("PUT", "/snapshot", content=rest)
    await other.epoch("activate", 5)
    await other.chat("meanwhile")
    await other.chat("next")
    await other.epoch("seal", 6)
    await other.ask("PUT", "/snapshot", content=rest)
    await other.ask("GET", "/health")
