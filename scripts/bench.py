"""Measure the agent beside its floor in one run on loopback: first text seen, and CPU per turn with a full history."""

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import psutil

from agent.store import Message, Speaker, Store
from tests.fakes.libertai_sim import Pace

MODEL = "scripted"
KEY = f"LTAI_{secrets.token_hex(8)}"
SECRET = secrets.token_urlsafe(24)
CHATS = 50
HISTORY = 100
START_SECONDS = 30
SLOW = Pace(first_token_seconds=0.1, tokens_per_second=100)
AT_ONCE = Pace()


@dataclass(frozen=True, slots=True)
class Server:
    """A running process that answers `POST /chat`."""

    url: str
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """CPU time used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one server was measured at."""

    first_text: dict[int, list[float]]
    cpu: dict[int, float]


async def measure(model: str, servers: dict[str, Server]) -> dict[str, Figures]:
    """Measure all servers in turns, so that they share whatever else the machine does."""
    figures = {name: Figures({1: [], CHATS: []}, {}) for name in servers}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        await _prepare(client, model, tokens=100, pace=SLOW)
        for server in servers.values():  # both with their connections open, as they are in the middle of a day
            await _first_texts(client, server, CHATS)
        for concurrency, rounds in ((1, 8), (CHATS, 3)):
            for _ in range(rounds):
                for name, server in servers.items():
                    figures[name].first_text[concurrency] += await _first_texts(client, server, concurrency)
        await _prepare(client, model, tokens=40, pace=AT_ONCE)
        for concurrency, rounds in ((1, 150), (CHATS, 8)):
            for name, server in servers.items():
                figures[name].cpu[concurrency] = await _cpu_per_turn(client, server, concurrency, rounds)
    return figures


async def _first_texts(client: aiohttp.ClientSession, server: Server, concurrency: int) -> list[float]:
    return await asyncio.gather(*(_turn(client, server, f"chat{number}") for number in range(concurrency)))


async def _cpu_per_turn(client: aiohttp.ClientSession, server: Server, concurrency: int, rounds: int) -> float:
    before = server.cpu_seconds()
    for _ in range(rounds):
        await _first_texts(client, server, concurrency)
    return (server.cpu_seconds() - before) / (rounds * concurrency)


async def _turn(client: aiohttp.ClientSession, server: Server, chat_id: str) -> float:
    """Run one turn to its end; return the seconds to its first text."""
    begun = time.perf_counter()
    first = 0.0
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {SECRET}"}
    body = {"chat_id": chat_id, "message": "How do I make soup?"}
    async with client.post(f"{server.url}/chat", json=body, headers=headers) as response:
        response.raise_for_status()
        told = b""
        async for piece in response.content.iter_any():
            told = told[-200:] + piece
            if not first and b"word" in piece:
                first = time.perf_counter() - begun
    if not first or b'"error"' in told:
        raise SystemExit(f"a turn failed: {told[-200:]!r}")
    return first


async def _prepare(client: aiohttp.ClientSession, model: str, *, tokens: int, pace: Pace) -> None:
    text = " ".join(["word"] * tokens)
    (await client.post(f"{model}/sim/always", json={"text": text})).raise_for_status()
    (await client.post(f"{model}/sim/pace", json=pace.model_dump())).raise_for_status()


@contextmanager
def _running(module: str, environment: dict[str, str]) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as door:
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
        variables = os.environ | environment | {"AGENT_FD": str(door.fileno())}
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", module], env=variables, pass_fds=[door.fileno()], stderr=subprocess.DEVNULL
        )
    try:
        yield Server(url, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(10)


async def _until_up(urls: list[str]) -> None:
    async with aiohttp.ClientSession() as client, asyncio.timeout(START_SECONDS):
        for url in urls:
            (await client.get(f"{url}/health")).raise_for_status()


def _seed(folder: Path) -> None:
    """Give each chat a full history."""
    store = Store(folder)
    for chat in range(CHATS):
        speakers = (Speaker.USER, Speaker.ASSISTANT) * (HISTORY // 2)
        said = [Message(speaker, f"Message {number}: {'word ' * 24}") for number, speaker in enumerate(speakers)]
        store.add_messages("seed", f"chat{chat}", said)
    store.close()


def _table(figures: dict[str, Figures]) -> str:
    rows = [f"{'':44}{'floor':>9}{'agent':>9}{'ratio':>8}"]
    for concurrency in (1, CHATS):
        texts = {name: [1000 * value for value in figure.first_text[concurrency]] for name, figure in figures.items()}
        middle = {name: median(values) for name, values in texts.items()}
        high = {name: quantiles(values, n=20)[-1] for name, values in texts.items()}
        cpu = {name: 1000 * figure.cpu[concurrency] for name, figure in figures.items()}
        rows += [
            _row(f"first text, p50 ms, {concurrency} at once", middle),
            _row(f"first text, p95 ms, {concurrency} at once", high),
            _row(f"CPU ms per turn, {concurrency} at once", cpu),
        ]
    return "\n".join(rows)


def _row(name: str, values: dict[str, float]) -> str:
    floor, agent = values["floor"], values["agent"]
    return f"{name:44}{floor:9.1f}{agent:9.1f}{agent / floor:8.2f}"


def main() -> None:
    """Start everything, measure, print."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        data = Path(folder)
        _seed(data)
        model = stack.enter_context(_running("scripts.bench_model", {"LLM_API_KEY": KEY}))
        environment = {"LLM_BASE_URL": f"{model.url}/v1", "LLM_API_KEY": KEY, "AGENT_MODEL": MODEL}
        agent = {"AGENT_NAME": "Ada", "AGENT_JOB": "You cook.", "AGENT_SECRET": SECRET, "AGENT_DATA": folder}
        servers = {
            "floor": stack.enter_context(_running("scripts.bench_floor", environment)),
            "agent": stack.enter_context(_running("agent", environment | agent)),
        }
        asyncio.run(_until_up([model.url, *(server.url for server in servers.values())]))
        figures = asyncio.run(measure(model.url, servers))
    print("Model: first token after 100 ms, 100 tokens at 100/s. CPU: 40 tokens at once; the agent with 100 messages")
    print("of history, the floor with none.\n")
    print(_table(figures))


if __name__ == "__main__":
    main()
