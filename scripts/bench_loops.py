"""Measure what the bot's own loops cost with ten thousand agents in its database, and how long a reconcile pass takes.

CPU is that of the whole process (the database's threads too), of one pass, times how often it comes.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import psutil
from sqlmodel import col, select

from bot.fleet import caps, fleet, idle, pool, probes, safety
from bot.fleet.books import Books
from bot.fleet.caps import Caps, CapWatch, SpendCaps
from bot.fleet.idle import Idle
from bot.fleet.notices import Notices
from bot.fleet.orphans import Orphans
from bot.fleet.pool import Pool, Ports
from bot.fleet.pool_books import PoolBooks
from bot.fleet.probes import Probes
from bot.fleet.rollout import runner, watcher
from bot.fleet.rollout.ports import Unpaid
from bot.fleet.rollout.probes import AgentProbes
from bot.fleet.rollout.runner import Runner
from bot.fleet.safety import Safety
from bot.fleet.shelf import Shelf
from bot.fleet.snapshots import Snapshots
from bot.machines.client import Door
from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine
from bot.store.models import Agent, Machine
from bot.store.objects import open_folder
from scripts import bench_rows
from scripts.bench_report import Report
from scripts.bench_servers import running
from scripts.bench_world import Bot, bot

ROUNDS = 5
PROBED = 500
"""Agents of one measured round of probes: all of them would take minutes."""
CORE_PERCENT, RECONCILE_SECONDS = 5.0, 10.0
"""The goals."""
NOTICES_SECONDS = 10.0
MONTH_MINUTES = 30 * 24 * 60
CAPS = Caps(agent=1_000_000, owner=1_000_000, total=1_000_000_000)
"""None of them is reached."""
MB = 1e6

type Pass = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Loop:
    """One pass, and how often it comes."""

    name: str
    seconds: float
    look: Pass


async def measure(report: Report, folder: Path, url: str) -> None:
    """Fill a database, and look at what each loop costs on it."""
    process = psutil.Process()
    engine = ProcessEngine()
    provider = LocalProvider(folder / "machines", engine)
    async with bot(folder, engine, provider) as it:
        before = process.memory_info().rss
        await bench_rows.fill(it.database, it.vault, url)
        for number in range(1, bench_rows.AGENTS + 1):
            await provider.rent(bench_rows.machine_id(number))
        bare = await _cpu(lambda: _bare(it))
        await _weigh(report, it, url, bare)
        seconds = [await _seconds(lambda: _reconcile(it)) for _ in range(ROUNDS)]
        report.limit("a reconcile pass, s (floor: the ids, read)", median(seconds), RECONCILE_SECONDS, floor=bare)
        report.tell("memory of the bot, MB (floor: with no agent)", process.memory_info().rss / MB, floor=before / MB)


async def _weigh(report: Report, it: Bot, url: str, bare: float) -> None:
    loops, share = _loops(it), 0.0
    for loop in loops:
        cost = await _cpu(loop.look)
        share += cost / loop.seconds
        report.tell(_named(loop, cost), 1000 * cost, floor=1000 * bare)
    await bench_rows.open_rollout(it.database)
    rollout = Loop("rollout of all, no news", watcher.LOOK_SECONDS, _runner(it).look)
    await rollout.look()
    cost = await _cpu(rollout.look)
    # Passes that read all of it take a share of their own, and rest for it.
    share += cost / rollout.seconds + runner.PASS_SHARE
    report.tell(_named(rollout, cost), 1000 * cost, floor=1000 * bare)
    asked = Probes(_Some(it.database), it.client, _door(it), _nothing, _nothing)
    await asked.look(pause=0)
    cost, bare = await _cpu(lambda: asked.look(pause=0)) / PROBED, await _cpu(lambda: _bare_calls(url)) / PROBED
    share += cost * probes.CALLS_A_SECOND
    probe = Loop("probe (floor: the call alone)", 1 / probes.CALLS_A_SECOND, _nothing)
    report.tell(_named(probe, cost), 1000 * cost, floor=1000 * bare)
    report.limit("all of them, % of a core", 100 * share, CORE_PERCENT)


def _named(loop: Loop, cost: float) -> str:
    return f"{loop.name}: {100 * cost / loop.seconds:.2f} % (each {loop.seconds:g} s)"


def _loops(it: Bot) -> list[Loop]:
    """All but the probes, without a rollout."""
    snapshots = Snapshots(Shelf(it.database, it.keepsakes), open_folder(it.settings.data_dir / "snapshots"))
    keeper = Safety(it.database, snapshots, it.books, it.people.agents, it.client, minutes=60, clock=_Minutes())
    notices = Notices(it.database)
    return [
        Loop("sweep", fleet.SWEEP_SECONDS, it.fleet._sweep),  # noqa: SLF001  a pass, as it is done by itself
        Loop("orphans", fleet.ORPHANS_SECONDS, lambda: _look_for_orphans(it)),
        Loop("idle", idle.LOOK_SECONDS, Idle(it.database, _nothing, minutes=MONTH_MINUTES).look),
        Loop("safety", safety.LOOK_SECONDS, lambda: _keep(keeper)),
        Loop("retention", safety.SWEEP_SECONDS, snapshots.sweep),
        Loop("caps", caps.LOOK_SECONDS, CapWatch(SpendCaps(it.database, CAPS), _nothing, notices.post).look),
        Loop("pool", pool.LOOK_SECONDS, _pool(it).look),
        Loop("rollout, none open", watcher.IDLE_SECONDS, _runner(it).look),
        Loop("notices", NOTICES_SECONDS, notices.waiting),
    ]


def _runner(it: Bot) -> Runner:
    return Runner(it.database, it.books, _nothing, AgentProbes(it.books, it.people.agents, it.client), Unpaid())


def _pool(it: Bot) -> Pool:
    async def release() -> str:
        return "r1"

    async def may_rent() -> bool:
        return False

    return Pool(
        PoolBooks(it.database, it.provider.name), it.provider, ProcessEngine(), Ports(release, may_rent, _tell), size=3
    )


def _door(it: Bot) -> Callable[[Agent, Machine], Door]:
    return lambda agent, machine: Door.of(machine, it.people.agents.secret(agent))


class _Some(Books):
    async def running(self) -> list[int]:
        return (await super().running())[:PROBED]


class _Minutes:
    """A clock that is a minute later each time it is asked: what falls due in a minute is taken into account."""

    def __init__(self) -> None:
        self._minutes = itertools.count()
        self._begun = time.time()

    def __call__(self) -> float:
        return self._begun + 60 * next(self._minutes)


async def _nothing(*_: object) -> None:
    return


async def _tell(_notice_id: str, _text: str, /, *, why: str) -> None:
    raise SystemExit(why)


async def _keep(keeper: Safety) -> None:
    await keeper.look()
    await keeper.finish()  # what the first look drops, which is retention's


async def _look_for_orphans(it: Bot) -> None:
    orphans = Orphans(it.books, it.provider)
    if await orphans.missing():
        raise SystemExit("machines are missing")
    await orphans.end()


async def _reconcile(it: Bot) -> None:
    await _look_for_orphans(it)
    await it.fleet._sweep()  # noqa: SLF001  a pass, as it is done by itself


async def _bare(it: Bot) -> None:
    async with it.database.transaction() as transaction:
        assert len((await transaction.execute(select(col(Agent.id)))).all()) == bench_rows.AGENTS  # noqa: S101


async def _bare_calls(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(PROBED):
            async with session.get(f"{url}/health") as response:
                await response.read()


async def _cpu(look: Pass) -> float:
    """Seconds of CPU of a pass, of all threads."""
    costs = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        await look()
        costs.append(time.process_time() - begun)
    return median(costs)


async def _seconds(look: Pass) -> float:
    begun = time.perf_counter()
    await look()
    return time.perf_counter() - begun


def main() -> int:
    """Fill, measure, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    check = options.parse_args().check
    report = Report("bot")
    with tempfile.TemporaryDirectory() as folder, running("scripts.bench_health", {}) as agents:
        asyncio.run(measure(report, Path(folder), agents.url))
    report.show(
        f"The bot's loops with {bench_rows.AGENTS:,} agents: ms of CPU of a pass, beside reading all agents' ids; and",
        "what that is of a core, as often as it comes.",
    )
    return 0 if report.met or not check else 1


if __name__ == "__main__":
    sys.exit(main())
