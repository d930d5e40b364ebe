"""Measure the agent beside its floor in one run on loopback: first text, CPU per turn with a full history, its start.

`--check` exits with 1 if a goal is missed. Ratios are medians over rounds, in each of which both take their turn, so
that what else the machine does counts for both.
"""

import argparse
import asyncio
import itertools
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import aiohttp

from agent.store import Message, Speaker, Store
from scripts.bench_report import Report
from scripts.bench_servers import Server, running
from tests.fakes.libertai_sim import Pace

MODEL = "scripted"
KEY = f"LTAI_{secrets.token_hex(8)}"
SECRET = secrets.token_urlsafe(24)
CHATS, CROWD = 50, 500
HISTORY = 100
SEEDED = 1_600
"""Chats with a full history: each turn has one of its own, so that none has more."""
STARTS = 5
SLOW = Pace(first_token_seconds=0.1, tokens_per_second=100)
AT_ONCE = Pace()
FIRST_TEXT, CPU, START_SECONDS, IDLE_MEGABYTES = 1.2, 2.0, 1.0, 60.0
"""The goals."""


_fresh = itertools.count()


async def measure(report: Report, model: str, floor: Server, agent: Server) -> None:
    """Measure both, turn about."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        await _prepare(client, model, tokens=100, pace=AT_ONCE)
        await _same_question(client, model, floor, agent)
        for server in (floor, agent):  # with their connections open, as they are in the middle of a day
            await _turns(client, server, CHATS)
        await _prepare(client, model, tokens=100, pace=SLOW)
        for at_once, rounds in ((1, 9), (CHATS, 5)):
            texts = [[median(await _turns(client, each, at_once)) for each in (floor, agent)] for _ in range(rounds)]
            report.compare(f"first text, ms, {at_once} at once", [(a, b) for a, b in texts], FIRST_TEXT)
        await _prepare(client, model, tokens=40, pace=AT_ONCE)
        for at_once, rounds, times in ((1, 7, 40), (CHATS, 7, 2)):
            cpu = [[await _cpu(client, each, at_once, times) for each in (floor, agent)] for _ in range(rounds)]
            report.compare(f"CPU per turn, ms, {at_once} at once", [(a, b) for a, b in cpu], CPU)
        begun = time.perf_counter()
        lost = CROWD - len(await _turns(client, agent, CROWD))
        report.limit(f"lost of {CROWD} at once ({time.perf_counter() - begun:.1f} s)", lost, 0)


async def _same_question(client: aiohttp.ClientSession, model: str, floor: Server, agent: Server) -> None:
    await _turns(client, agent, 1)
    calls = await (await client.get(f"{model}/sim/calls")).json()
    (await client.put(f"{floor.url}/context", json=calls[-1]["body"])).raise_for_status()


async def _turns(client: aiohttp.ClientSession, server: Server, at_once: int) -> list[float]:
    """The seconds to the first text of each turn."""
    return await asyncio.gather(*(_turn(client, server, f"chat{next(_fresh)}") for _ in range(at_once)))


async def _cpu(client: aiohttp.ClientSession, server: Server, at_once: int, times: int) -> float:
    before = server.cpu_seconds()
    for _ in range(times):
        await _turns(client, server, at_once)
    return (server.cpu_seconds() - before) / (times * at_once)


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
    if not first or b'"error"' in told or not (b'"done"' in told or b"[DONE]" in told):
        raise SystemExit(f"a turn failed: {told[-200:]!r}")
    return first


async def _prepare(client: aiohttp.ClientSession, model: str, *, tokens: int, pace: Pace) -> None:
    text = " ".join(["word"] * tokens)
    (await client.post(f"{model}/sim/always", json={"text": text})).raise_for_status()
    (await client.post(f"{model}/sim/pace", json=pace.model_dump())).raise_for_status()


def _seed(folder: Path) -> None:
    """Give each chat a full history."""
    store = Store(folder)
    for chat in range(SEEDED):
        speakers = (Speaker.USER, Speaker.ASSISTANT) * (HISTORY // 2)
        said = [Message(speaker, f"Message {number}: {'word ' * 24}") for number, speaker in enumerate(speakers)]
        store.add_messages("seed", f"chat{chat}", said)
    store.close()


def _starts(report: Report, environment: dict[str, str]) -> None:
    starts, busy, sizes = [], [], []
    for _ in range(STARTS):
        with running("agent", environment) as agent:
            starts.append(agent.started)
            busy.append(agent.cpu_seconds())
            sizes.append(agent.megabytes())
    report.limit(f"start to /health, s ({median(busy):.2f} of CPU)", median(starts), START_SECONDS)
    report.limit("idle memory, MB", median(sizes), IDLE_MEGABYTES)


def main() -> int:
    """Start everything, measure, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    report = Report("agent")
    check = options.parse_args().check
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        _seed(Path(folder))
        model = stack.enter_context(running("scripts.bench_model", {"LLM_API_KEY": KEY}))
        environment = {"LLM_BASE_URL": f"{model.url}/v1", "LLM_API_KEY": KEY, "AGENT_MODEL": MODEL}
        floor = stack.enter_context(running("scripts.bench_floor", environment))
        environment |= {"AGENT_NAME": "Ada", "AGENT_JOB": "You cook.", "AGENT_SECRET": SECRET, "AGENT_DATA": folder}
        environment |= {"AGENT_WEB_URL": model.url}
        _starts(report, environment)
        agent = stack.enter_context(running("agent", environment))
        asyncio.run(measure(report, model.url, floor, agent))
    report.show(
        "First text: the model's comes after 100 ms, then 100 tokens at 100/s. CPU: 40 tokens at once. Both send the",
        "model the same: the system prompt, the agent's tools and 100 messages.",
    )
    return 0 if report.met or not check else 1


if __name__ == "__main__":
    sys.exit(main())
