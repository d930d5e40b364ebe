"""Measure a rollout of a hundred agents while people write to all of them: real rows, real jobs, light agents."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bot.fleet.rollout.control import Control
from bot.fleet.rollout.plan import Plan
from bot.fleet.rollout.rollouts import Rollouts
from bot.store.models import Agent
from bot.store.records import ItemState
from scripts.bench_chats import Chats, writing
from scripts.bench_light import Light, light
from scripts.bench_report import Report
from scripts.bench_servers import running
from scripts.bench_world import KEY, Bot, bot, working

AGENTS = 100
OLGA = 7_000_000
PAUSE_SECONDS = 12.0
"""Between an answer and the next message, in each of a hundred chats."""
QUIET_SECONDS = 5.0
PATIENCE_SECONDS = 300.0
LOOK_SECONDS = 0.1
THINK_SECONDS = 0.1
PLAN = Plan(soak_minutes=0, batch=50, batch_share=0.5, surge=20)


async def measure(report: Report, folder: Path, model: str) -> None:
    """Make them, then bring another release to all."""
    async with light() as machines, bot(folder, machines.engine, machines.provider, model_url=model) as it, working(it):
        machines.machines.faults.think_seconds = THINK_SECONDS
        cpu, begun = time.process_time(), time.monotonic()
        agents = [await it.create(OLGA + number) for number in range(AGENTS)]
        for agent in agents:
            await it.ready(agent)
        report.tell(f"{AGENTS} agents made, s", time.monotonic() - begun)
        report.tell("CPU for each, s", (time.process_time() - cpu) / AGENTS)
        async with writing(it, agents, chats=1, pause=PAUSE_SECONDS) as said:
            await _roll(report, it, said)
        await _count(report, it, machines, said, agents)


async def _roll(report: Report, it: Bot, said: Chats) -> None:
    quiet = time.monotonic()
    await asyncio.sleep(QUIET_SECONDS)
    begun = time.monotonic()
    control = Control(it.database, by="bench", setting=it.settings.agent_image)
    await control.begin(await control.draft("r2", PLAN))
    rollouts = Rollouts(it.database)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await rollouts.open():  # noqa: ASYNC110  a row
            await asyncio.sleep(LOOK_SECONDS)
    ended = time.monotonic()
    usual, during = said.silences(quiet, begun), said.silences(begun, ended)
    report.tell(f"rollout of {AGENTS}, surge {PLAN.surge}, s", ended - begun)
    report.tell("message to answer, median, ms (floor: before it)", 1000 * median(during), floor=1000 * median(usual))
    report.tell("… the longest", 1000 * max(during), floor=1000 * max(usual))


async def _count(report: Report, it: Bot, machines: Light, said: Chats, agents: list[Agent]) -> None:
    rollouts = Rollouts(it.database)
    last = await rollouts.last()
    assert last is not None  # noqa: S101  it was just done
    done = sum(member.state is ItemState.DONE for member in await rollouts.crew(last))
    report.limit("agents not updated", len(agents) - done, 0)
    report.limit(f"of {len(said.asked)} messages meanwhile: lost", said.lost, 0)
    report.limit("… answered twice, or forgotten", said.doubled(machines.answered()), 0)


def main() -> int:
    """Make, measure, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    check = options.parse_args().check
    report = Report("Baal")
    with tempfile.TemporaryDirectory() as folder, running("scripts.bench_model", {"LLM_API_KEY": KEY}) as model:
        asyncio.run(measure(report, Path(folder), model.url))
    report.show(f"A rollout of {AGENTS} agents, each of which somebody writes to all the time. They think for 100 ms.")
    return 0 if report.met or not check else 1


if __name__ == "__main__":
    sys.exit(main())
