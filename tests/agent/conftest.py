import asyncio
import json
import os
import re
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.app import Agent, build
from agent.history import CHARS_PER_TOKEN
from agent.protocol import EVENT_STREAM, ChatRequest, Event, KeepAlive, Restart, Text, from_sse
from agent.settings import Settings
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.libertai_serving import Serving

KEY = "LTAI_test_key"
SECRET = "a-secret-of-an-agent"
MODEL = "qwen3.6-35b-a3b"
DEADLINE = 10
NOTE = "\n\n[Not written by the person, "
_NOTE = re.compile(re.escape(NOTE) + r".*?\](?=\n\n|$)", re.DOTALL)
# Loading the certificates of a context that is never used costs 30 ms for each client.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Client:
    """Talks to an agent as the bot does."""

    def __init__(self, url: str, agent: Agent | None = None) -> None:
        if agent:  # inside this process
            self.turns, self.agenda = agent.turns, agent.agenda
        self.http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {SECRET}"}, timeout=DEADLINE, verify=NO_TLS
        )

    @asynccontextmanager
    async def stream(self, message: str = "hi", **fields) -> AsyncIterator[AsyncIterator[Event]]:
        fields = {"chat_id": "c1"} | fields
        content = ChatRequest(message=message, **fields).model_dump_json()
        headers = {"Accept": EVENT_STREAM, "Content-Type": "application/json"}
        async with self.http.stream("POST", "/chat", content=content, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            yield from_sse(response.aiter_bytes())

    async def events(self, message: str = "hi", **fields) -> list[Event]:
        async with self.stream(message, **fields) as events:
            return [event async for event in events]

    async def ask(self, message: str = "hi", **fields) -> httpx.Response:
        return await self.http.post("/chat", json={"chat_id": "c1", "message": message} | fields)


def answer(events: list[Event]) -> str:
    """Add up the answer as a client shows it."""
    text = ""
    for event in events:
        if isinstance(event, Text):
            text += event.text
        elif isinstance(event, Restart):
            text = ""
    return text


async def next_of[E: Event](events: AsyncIterator[Event], kind: type[E]) -> E:
    """Read on to the next event of a kind."""
    async with asyncio.timeout(DEADLINE):
        async for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the stream ended without {kind.__name__}")


def as_written(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was said, without the notes on the time and the memory that go with questions."""
    return [message | {"content": _NOTE.sub("", message["content"])} for message in messages]


async def room_for_chats(client: Client, libertai: LibertAIDouble, tokens: int, **fields) -> None:
    """Leave this much of the context to chats, however large the system prompt and the tools are; asks one question."""
    await client.events(chat_id="measured", **fields)
    call = (await libertai.calls())[-1]
    frame = (len(call.system) + len(json.dumps(call.body["tools"]))) // CHARS_PER_TOKEN
    response = await client.http.put("/config", json={"version": 1, "context_tokens": frame + tokens})
    assert response.is_success, response.text


def without_keepalives(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, KeepAlive)]


@pytest.fixture
async def libertai():
    async with LibertAIDouble(keys=[KEY]) as double:
        yield double


@pytest.fixture
def settings(libertai, tmp_path):
    def make(**changes) -> Settings:
        values = {
            "agent_name": "Ada",
            "agent_job": "You cook.\nOnly vegetables.",
            "agent_model": MODEL,
            "agent_secret": SECRET,
            "agent_data": tmp_path / "data",
            "llm_base_url": libertai.base_url,
            "llm_api_key": KEY,
            "agent_coalesce_seconds": 0.001,
            "agent_retry_pause_seconds": 0,
        }
        return Settings(**(values | changes))

    return make


class Agents:
    """Starts agents inside this process: `client = await agents(agent_keepalive_seconds=1)`."""

    def __init__(self, settings: Callable[..., Settings]) -> None:
        self._settings = settings
        self._servings: dict[Client, Serving] = {}

    async def __call__(self, *, clock: Callable[[], float] = time.time, **changes) -> Client:
        agent = build(self._settings(**changes), clock=clock)
        serving = Serving(agent.asgi)
        await serving.start()
        client = Client(serving.url, agent)
        self._servings[client] = serving
        return client

    async def stop(self, client: Client) -> None:
        """End it, so that another may use its folder."""
        await client.http.aclose()
        await self._servings.pop(client).stop()

    async def close(self) -> None:
        for client in reversed(list(self._servings)):
            await self.stop(client)


@pytest.fixture
async def agents(settings):
    made = Agents(settings)
    yield made
    await made.close()


@pytest.fixture
async def client(agents):
    return await agents()


class AgentProcess:
    """An agent as a process of its own, on a socket opened beforehand, so that no two tests race for a port."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._clients: list[Client] = []

    async def start(self) -> Client:
        with socket.create_server(("127.0.0.1", 0)) as door:
            environment = self._environment | {"AGENT_FD": str(door.fileno())}
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent", env=environment, pass_fds=[door.fileno()]
            )
            client = Client(f"http://127.0.0.1:{door.getsockname()[1]}")
        self._clients.append(client)
        return client

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    async def ended(self) -> int:
        assert self._process
        async with asyncio.timeout(DEADLINE):
            return await self._process.wait()

    async def stop(self) -> None:
        if self._process and self._process.returncode is None:
            self.signal(signal.SIGKILL)
            await self.ended()
        for client in self._clients:
            await client.http.aclose()


@pytest.fixture
def environment(libertai, tmp_path):
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "AGENT_NAME": "Ada",
        "AGENT_JOB": "You cook.\nOnly vegetables.",
        "AGENT_MODEL": MODEL,
        "AGENT_SECRET": SECRET,
        "AGENT_DATA": str(tmp_path / "data"),
        "LLM_BASE_URL": libertai.base_url,
        "LLM_API_KEY": KEY,
    }


@pytest.fixture
async def process(environment):
    agent = AgentProcess(environment)
    yield agent
    await agent.stop()
