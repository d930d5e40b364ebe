"""The operator hears in time that credits run out."""

import asyncio
import logging

import pytest

from bot.accounts.kept import KeptAnswers
from bot.errors import MachineError
from bot.fleet.runway import Runway, Warnings
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


class Told:
    def __init__(self):
        self.notices = {}

    async def __call__(self, notice_id, text, /, **facts):
        self.notices.setdefault(notice_id, (text, facts["hours"]))

    @property
    def hours(self):
        return [hours for _, hours in self.notices.values()]


async def test_the_operator_is_told_once_at_each_level_and_again_after_there_was_enough(database):
    told = Told()
    for hours, heard in (
        (100, []),
        (71, [71]),
        (73, [71]),
        (70, [71]),
        (47, [71, 47]),
        (49, [71, 47]),
        (46, [71, 47]),
        (61, [71, 47]),
        (45, [71, 47, 45]),
        (30, [71, 47, 45]),
        (200, [71, 47, 45]),
        (70, [71, 47, 45, 70]),
        (20, [71, 47, 45, 70, 20]),
    ):
        # Each time as after a restart.
        await Runway(lasting(hours), warnings=Warnings(KeptAnswers(database), told)).look()
        assert told.hours == heard, hours
    assert {text for text, _ in told.notices.values()} == {"notice-operator-runway"}


async def test_a_bot_killed_after_it_told_does_not_tell_twice(database):
    told, kept = Told(), KeptAnswers(database)

    class Dying(KeptAnswers):
        async def put(self, name, value):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await Warnings(Dying(database), told).look(await lasting(40)())
    await Warnings(kept, told).look(await lasting(39)())

    assert told.hours == [40]


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

    async with Runway(burn, pause=0).watched(), asyncio.timeout(30):
        for _ in range(3):
            await seen.get()
    assert "runway not known" in caplog.text
    assert asyncio.all_tasks() == {asyncio.current_task()}
