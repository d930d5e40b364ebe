"""The durable engine: where it is not let work, what its history is for, and the traps of changed code."""

import asyncio
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest
from dbos import DBOS

from bot.errors import BadSettings
from bot.fleet import durable as engine
from bot.fleet.durable import KEPT_SECONDS, Attempt, Durable, step

ADA = Attempt(1, 1, 1)
BEN = Attempt(2, 1, 1)


async def do_nothing(_attempt):
    pass


@pytest.fixture
def durable_url(database_url, tmp_path):
    is_server = database_url.startswith("postgresql")
    return database_url if is_server else f"sqlite:///{tmp_path / 'durable.sqlite'}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(engine, "STOP_SECONDS", 0)


@asynccontextmanager
async def running(url, converge):
    durable, before = Durable(url), asyncio.all_tasks()
    await durable.start(converge)
    try:
        yield durable
    finally:
        await durable.stop()
        # The end of a process ends them too.
        left = asyncio.all_tasks() - before
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def until_ended(durable, attempt):
    async with asyncio.timeout(30):
        while not await durable.has_ended(attempt):
            await asyncio.sleep(0.02)


class Work:
    """Goes through named steps, and stops for ever in one of them."""

    def __init__(self, *names, stuck_in=""):
        self.names = names
        self.stuck_in = stuck_in
        self.done = []
        self.stuck = asyncio.Event()

    async def __call__(self, _attempt):
        for name in self.names:
            await step(name, partial(self.do, name))

    async def do(self, name):
        if name == self.stuck_in:
            self.stuck.set()
            await asyncio.Event().wait()
        self.done.append(name)


async def left_in_the_middle(url, attempt):
    """Work that is at its second step when its bot ends."""
    work = Work("rent", "start", stuck_in="start")
    async with running(url, work) as durable:
        await durable.submit(attempt)
        async with asyncio.timeout(30):
            await work.stuck.wait()


async def test_a_step_that_was_done_is_passed_over_at_the_next_start(durable_url):
    await left_in_the_middle(durable_url, ADA)

    work = Work("rent", "start")
    async with running(durable_url, work) as durable:
        await until_ended(durable, ADA)

    assert work.done == ["start"]


async def test_work_that_another_version_has_begun_ends_so_that_the_sweep_begins_it_anew(durable_url, monkeypatch):
    await left_in_the_middle(durable_url, ADA)
    monkeypatch.setattr(engine, "APPLICATION_VERSION", "later")

    work = Work("rent", "start")
    async with running(durable_url, work) as durable:
        assert await durable.has_ended(ADA)
        again = Attempt(ADA.agent_id, ADA.generation, ADA.number + 1)
        await durable.submit(again)
        await until_ended(durable, again)

    assert work.done == ["rent", "start"]


async def test_work_whose_steps_are_in_another_order_now_ends(durable_url):
    await left_in_the_middle(durable_url, ADA)

    work = Work("start", "rent")
    async with running(durable_url, work) as durable:
        await until_ended(durable, ADA)

    assert work.done == []


async def test_without_its_database_it_knows_of_nothing_and_begins_anew(durable_url, tmp_path, request):
    await left_in_the_middle(durable_url, ADA)
    for path in tmp_path.glob("durable.sqlite*"):
        path.unlink()
    if durable_url.startswith("postgresql"):
        name = durable_url.rpartition("/")[2]
        request.getfixturevalue("postgres").execute("DROP SCHEMA dbos CASCADE", database=name)

    work = Work("rent", "start")
    async with running(durable_url, work) as durable:
        assert not await durable.has_ended(ADA)
        await durable.submit(ADA)
        await until_ended(durable, ADA)

    assert work.done == ["rent", "start"]


async def test_what_ended_two_weeks_ago_is_forgotten_and_nothing_else(durable_url, monkeypatch):
    monkeypatch.setattr(engine, "BATCH", 2)
    old, work = [Attempt(1, 1, number) for number in range(5)], Work("rent")
    async with running(durable_url, work) as durable:
        for attempt in old:
            await durable.submit(attempt)
            await until_ended(durable, attempt)
        work.stuck_in = "rent"
        await durable.submit(BEN)
        await work.stuck.wait()

        assert await durable.gc(now=time.time() + KEPT_SECONDS - 60) == 0
        assert await durable.has_ended(old[0])
        assert await durable.gc(now=time.time() + KEPT_SECONDS + 60) == len(old)
        assert not await durable.has_ended(old[0])

    work.stuck_in = ""
    async with running(durable_url, work) as durable:
        await until_ended(durable, BEN)


async def test_the_history_is_tidied_while_it_runs(durable_url, monkeypatch):
    monkeypatch.setattr(engine, "KEPT_SECONDS", -60.0)
    monkeypatch.setattr(engine, "TIDY_SECONDS", 0.02)
    async with running(durable_url, Work("rent")) as durable:
        await durable.submit(ADA)
        async with asyncio.timeout(30):
            while await DBOS.list_workflows_async():
                await asyncio.sleep(0.02)


@pytest.mark.postgres
async def test_a_user_who_may_not_make_a_schema_is_told_what_to_do(postgres, caplog):
    with postgres.database() as name, postgres.guest(name) as url:
        durable = Durable(url)

        with pytest.raises(BadSettings) as caught:
            await durable.start(do_nothing)
        await durable.stop()

    assert str(caught.value) == (
        f"DATABASE_URL: permission denied for database {name}. "
        "Make its user the database's owner: ALTER DATABASE … OWNER TO …."
    )
    assert caplog.records == []


@pytest.mark.postgres
async def test_a_schema_made_for_it_beforehand_is_enough(postgres):
    with postgres.database() as name, postgres.guest(name) as url:
        postgres.execute(f"CREATE SCHEMA dbos AUTHORIZATION {url.split('//')[1].partition(':')[0]}", database=name)
        durable = Durable(url)

        await durable.start(do_nothing)
        await durable.stop()
