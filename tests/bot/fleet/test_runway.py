"""The operator hears in time that credits run out."""

import asyncio
import logging
from typing import Any

import pytest

from bot.errors import MachineError
from bot.fleet.fleet import Fleet
from bot.fleet.runway import Runway
from bot.machines.aleph.price import Burn

PER_HOUR = 14_250


def lasting(hours):
    async def burn():
        return Burn(balance=round(hours * PER_HOUR), per_second=PER_HOUR / 3600)

    return burn


@pytest.mark.parametrize(("hours", "levels"), [(73, []), (71, [logging.WARNING]), (47, [logging.ERROR])])
async def test_it_warns_below_three_days_and_louder_below_two(caplog, hours, levels):
    await Runway(lasting(hours)).look()
    assert [record.levelno for record in caplog.records] == levels


async def test_it_says_how_many_credits_to_add(caplog):
    await Runway(lasting(40)).look()
    assert "last 40 h (570,000 are left): add 9,690,000 to have enough for 30 days" in caplog.text


async def test_without_machines_nothing_runs_out(caplog):
    async def burn():
        return Burn(balance=0, per_second=0)

    await Runway(burn).look()
    assert caplog.records == []


async def test_it_looks_again_also_after_it_could_not(caplog):
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def burn():
        seen.put_nowait(len(caplog.records))
        raise MachineError("away")

    runway = Runway(burn, pause=0)
    await runway.start()
    async with asyncio.timeout(5):
        for _ in range(3):
            await seen.get()
    await runway.stop()
    assert "runway not known" in caplog.text


async def test_stopped_before_it_started_is_harmless():
    await Runway(lasting(1)).stop()


async def test_it_starts_and_stops_with_the_fleet():
    events = []

    class Quiet:
        """Whatever the fleet asks of what is not there."""

        def __getattr__(self, name):
            async def answer(*_):
                events.append(name)
                return []

            return answer

    quiet: Any = Quiet()

    async def burn():
        events.append("burn")
        return Burn(balance=0, per_second=0)

    fleet = Fleet(quiet, quiet, quiet, quiet, runway=Runway(burn))
    await fleet.start()
    async with asyncio.timeout(5):
        while "burn" not in events:
            await asyncio.sleep(0)
    await fleet.stop()
    assert all(task is asyncio.current_task() for task in asyncio.all_tasks())
