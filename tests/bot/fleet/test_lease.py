"""Work under a lease, and the slots beside it."""

import asyncio

import pytest

from bot.fleet import lease
from bot.fleet.lease import Superseded, while_held


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)


class Right:
    """Renewed as long as it is held."""

    def __init__(self):
        self.renewed = 0
        self.held = True
        self.often = asyncio.Event()

    async def renew(self):
        self.renewed += 1
        if self.renewed == 3:
            self.often.set()
        return self.held


async def test_a_long_step_renews_its_lease_again_and_again():
    right = Right()
    await while_held(right.renew, right.often.wait())
    assert right.renewed == 3


async def test_a_step_that_may_not_go_on_is_stopped_before_the_next_attempt_hears_of_it():
    right, stopped = Right(), asyncio.Event()
    right.held = False

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            stopped.set()

    with pytest.raises(Superseded):
        await while_held(right.renew, work())
    assert stopped.is_set()


async def test_what_the_step_raises_passes_on():
    async def work():
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await while_held(Right().renew, work())


async def test_what_renewing_raises_passes_on_and_stops_the_step():
    async def fail():
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await while_held(fail, asyncio.Event().wait())


async def test_cancelled_it_leaves_nothing_running():
    right, stopped = Right(), asyncio.Event()

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    task = asyncio.create_task(while_held(right.renew, work()))
    await right.often.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()
    renewed = right.renewed
    await asyncio.sleep(0.03)
    assert right.renewed == renewed
