"""Measure how soon a new agent answers, and what people notice when an agent with a past is replaced while they write.

Real agent processes, real turns, a real durable engine; the model's double thinks for 100 ms.
"""

import argparse
import asyncio
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
from sqlmodel import col, select

from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine
from bot.store.models import Agent, Machine, MachineState
from scripts.bench_chats import WORDS, Chats, say, writing
from scripts.bench_report import Report
from scripts.bench_servers import running
from scripts.bench_world import KEY, Bot, bot, working
from tests.fakes.libertai_sim import Pace

ROUNDS = 3
OLGA = 7_000_000
FILES, FILE_BYTES, MESSAGES, CHATS_BEFORE = 500, 200_000, 10_000, 20
CHATS = 4
QUIET_SECONDS = 3.0
PATIENCE_SECONDS = 120.0
LOOK_SECONDS = 0.01
HOUR = 3_600
PACE = Pace(first_token_seconds=0.1, tokens_per_second=100)
FIRST_ANSWER_SECONDS, SILENCE_SECONDS = 5.0, 3.0
"""The goals."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One replacement, in seconds: all of it, from sealing to switch, and the silences then and before."""

    whole: float
    held: float
    silence: float
    usual: float


async def measure(report: Report, folder: Path, model: str) -> None:
    """Make agents, then replace one."""
    async with aiohttp.ClientSession() as client:
        (await client.post(f"{model}/sim/always", json={"text": "word " * 20})).raise_for_status()
        (await client.post(f"{model}/sim/pace", json=PACE.model_dump())).raise_for_status()
    engine = ProcessEngine()
    for name, size in (("no", 0), ("a", 1)):
        place = folder / f"pool{size}"
        provider = LocalProvider(place / "machines", engine)
        async with bot(place, engine, provider, model_url=model, pool_size=size) as it, working(it):
            firsts, costs = zip(*[await _first_answer(it, OLGA + each) for each in range(ROUNDS)], strict=True)
            if size:
                report.limit("created to first answer, s, a warm machine", median(firsts), FIRST_ANSWER_SECONDS)
            else:
                report.tell(f"created to first answer, s, {name} warm machine", median(firsts))
                report.tell("CPU of the bot for it, s", median(costs))
    provider = LocalProvider(folder / "machines", engine)
    async with bot(folder, engine, provider, model_url=model) as it, working(it):
        await _replacements(report, it, folder, model)


async def _first_answer(it: Bot, person: int) -> tuple[float, float]:
    """Seconds from the wish to the beginning of the first answer, and of the bot's CPU until it runs."""
    await _warm(it)
    begun, cpu = time.monotonic(), time.process_time()
    agent = await it.create(person)
    await it.ready(agent)
    cpu = time.process_time() - cpu
    asked = await say(it, agent)
    if not asked.is_answered:
        raise SystemExit("a new agent does not answer")
    return asked.heard - begun, cpu


async def _warm(it: Bot) -> None:
    """As many machines of the pool are ready as there shall be."""
    query = select(col(Machine.id)).where(col(Machine.state) == MachineState.READY)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with it.database.session() as session:
                if len((await session.exec(query)).all()) == it.settings.pool_size:
                    return
            await asyncio.sleep(LOOK_SECONDS)


async def _replacements(report: Report, it: Bot, folder: Path, model: str) -> None:
    agent = await it.create(OLGA)
    await it.ready(agent)
    data = await _stopped(it, agent, folder)
    await asyncio.to_thread(_live, data)
    await it.fleet.lost(await it.books.agent(agent.id or 0))
    await it.ready(agent)
    copied = [await asyncio.to_thread(_copy, data, folder / f"copy{number}") for number in range(ROUNDS)]
    async with writing(it, [agent], chats=CHATS) as said:
        switches = [await _switch(it, agent, said, f"r{number}") for number in range(2, 2 + ROUNDS)]
    held = median(each.held for each in switches)
    silences = [each.silence - each.usual for each in switches]
    usual = median(each.usual for each in switches)
    report.limit("longest silence beyond the usual, s (floor: that)", median(silences), SILENCE_SECONDS, floor=usual)
    report.tell("sealed to switched, s (floor: cp of all of it)", held, floor=median(copied))
    report.tell("the whole replacement, s", median(each.whole for each in switches))
    doubled = said.doubled(await _heard(await _stopped(it, agent, folder))) + said.doubled(await _thought(model))
    report.limit(f"of {len(said.asked)} messages meanwhile: lost", said.lost, 0)
    report.limit("… answered twice, or forgotten", doubled, 0)


async def _switch(it: Bot, agent: Agent, said: Chats, release: str) -> Switch:
    """Replace it once, while people write."""
    quiet = time.monotonic()
    await asyncio.sleep(QUIET_SECONDS)
    begun, before = time.monotonic(), await _machine(it, agent)
    await it.fleet.wish(agent.id or 0, release=release)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await _machine(it, agent)).id == before.id:  # noqa: ASYNC110  a row
            await asyncio.sleep(LOOK_SECONDS)
    switched, sealed = time.monotonic(), it.client.sealed_at
    await it.ready(agent)
    # Who waited at the switch has been answered by then.
    await asyncio.sleep(QUIET_SECONDS / 2)
    silence, usual = max(said.silences(sealed, switched)), max(said.silences(quiet, begun))
    return Switch(switched - begun, switched - sealed, silence, usual)


async def _machine(it: Bot, agent: Agent) -> Machine:
    machine = await it.books.machine(agent.id or 0)
    assert machine is not None  # noqa: S101  it runs
    return machine


async def _stopped(it: Bot, agent: Agent, folder: Path) -> Path:
    """What it holds. Its process is ended first: nobody else opens its database while it runs."""
    machine = await _machine(it, agent)
    await it.engine.remove(await it.provider.reach(machine.id))
    return folder / "machines" / machine.id / "data"


def _live(data: Path) -> None:
    """Give it a past: 100 MB of files that nobody has touched for an hour, and 10,000 messages."""
    for number in range(FILES):
        place = data / "workspace" / f"d{number % 20}"
        place.mkdir(parents=True, exist_ok=True)
        file = place / f"f{number}"
        file.write_bytes(os.urandom(FILE_BYTES))
        os.utime(file, (time.time() - HOUR,) * 2)
    said = [
        (str(OLGA * 1_000 + number % CHATS_BEFORE), f"t{number // 2}", ("user", "assistant")[number % 2], "word " * 60)
        for number in range(MESSAGES)
    ]
    with closing(sqlite3.connect(data / "agent.db", timeout=PATIENCE_SECONDS)) as database:
        database.executemany("INSERT INTO message (chat_id, turn_id, speaker, text) VALUES (?, ?, ?, ?)", said)
        database.commit()


def _copy(data: Path, place: Path) -> float:
    begun = time.monotonic()
    shutil.copytree(data, place)
    return time.monotonic() - begun


async def _heard(data: Path) -> list[str]:
    """Our messages that the agent remembers."""
    with closing(sqlite3.connect(data / "agent.db", timeout=PATIENCE_SECONDS)) as database:
        said = database.execute("SELECT text FROM message WHERE speaker = 'user'")
        return [words for (text,) in said for words in WORDS.findall(text)]


async def _thought(model: str) -> list[str]:
    """Our messages that the model was asked for an answer to."""
    async with aiohttp.ClientSession() as client, client.get(f"{model}/sim/calls") as response:
        asked = [call["body"]["messages"][-1] for call in await response.json()]
        return [words for each in asked for words in WORDS.findall(str(each["content"]))]


def main() -> int:
    """Start the model, measure, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    check = options.parse_args().check
    report = Report("Baal")
    with tempfile.TemporaryDirectory() as folder, running("scripts.bench_model", {"LLM_API_KEY": KEY}) as model:
        asyncio.run(measure(report, Path(folder), model.url))
    report.show(
        "A new agent, and one that is replaced: 100 MB in 500 files and 10,000 messages, four chats that write all the",
        "time. The model's first text comes after 100 ms.",
    )
    return 0 if report.met or not check else 1


if __name__ == "__main__":
    sys.exit(main())
