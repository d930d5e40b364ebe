"""The operator hears in time that credits run out."""

import asyncio
import logging

import pytest

from bot.errors import MachineError
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


async def test_it_looks_again_also_after_it_could_not_until_the_end(caplog):
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def burn():
        seen.put_nowait(len(caplog.records))
        raise MachineError("away")

    async with Runway(burn, pause=0).watched(), asyncio.timeout(5):
        for _ in range(3):
            await seen.get()
    assert "runway not known" in caplog.text
    assert asyncio.all_tasks() == {asyncio.current_task()}
