"""What machines cost: counted from rows, on both databases, over the end of a month."""

from dataclasses import dataclass

import pytest
from sqlalchemy import insert

from bot.fleet.money import Account, Money, Usage, month_start
from bot.machines.aleph.price import Burn
from bot.store.database import Database
from bot.store.models import Agent, Machine, MachineState, Phase, Wanted
from tests.bot.fleet.costs import HOUR, OLGA, PRICE, VIKTOR, Rows, at


class Rented:
    """A provider whose machines cost something."""

    name = "rented"

    def __init__(self, balance=0, per_hour=0.0, price=PRICE):
        self.balance = balance
        self.per_hour = per_hour
        self.price = price
        self.asked = 0

    async def credits_per_hour(self):
        return self.price

    async def burn(self):
        self.asked += 1
        return Burn(self.balance, self.per_hour / HOUR)


@dataclass
class Own:
    """One whose machines are one's own."""

    name: str = "hosts"


@pytest.fixture
def books(database):
    return Rows(database)


@pytest.fixture
def money(database, clock):
    clock.now = at("2026-11-10T12:00")
    return Money(database, clock=clock)


async def test_a_machine_counts_from_its_order_until_it_is_gone(money, books):
    await books.agent(1)
    await books.machine(1, "2026-11-01T00:00", "2026-11-01T10:00")
    await books.machine(1, "2026-11-10T10:00")

    assert await money.account(1) == Usage(12.0, 12.0, 1_200, 1_200, per_hour=100.0)
    assert (await money.account(1)).forecast == 72_000


async def test_only_what_lies_in_this_month_counts_to_it(money, books):
    await books.agent(1)
    await books.machine(1, "2026-09-30T00:00", "2026-09-30T05:00")
    await books.machine(1, "2026-10-31T20:00", "2026-11-01T03:00")

    assert await money.account(1) == Usage(3.0, 12.0, 300, 1_200, per_hour=0.0)


async def test_a_month_begins_at_midnight_utc(money, books, clock):
    await books.agent(1)
    await books.machine(1, "2026-11-30T22:00")

    clock.now = at("2026-12-01T00:00") - 1
    assert round((await money.account(1)).hours_month, 2) == 2.0
    clock.now = at("2026-12-01T00:00") + 1
    assert round((await money.account(1)).hours_month, 2) == 0.0
    assert round((await money.account(1)).hours, 2) == 2.0


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2028-02-29T23:59:59", "2028-02-01"),
        ("2028-03-01T00:00:00", "2028-03-01"),
        ("2026-12-31T23:59:59", "2026-12-01"),
        ("2027-01-01T00:00:00", "2027-01-01"),
    ],
)
def test_months_of_any_length(now, start):
    assert month_start(at(now)) == at(start)


async def test_what_was_only_intended_costs_nothing_and_what_is_doomed_still_does(money, books):
    await books.agent(1)
    await books.machine(1, "2026-11-10T10:00", state=MachineState.INTENT)
    await books.machine(1, "2026-11-10T11:00", state=MachineState.DOOMED)

    assert await money.account(1) == Usage(1.0, 1.0, 100, 100, per_hour=100.0)


async def test_an_account_for_each_agent_the_dearest_first_and_the_pools_last(money, books):
    for agent_id, owner, phase in ((1, OLGA, Phase.RUNNING), (2, VIKTOR, Phase.ASLEEP), (3, OLGA, Phase.WAITING)):
        await books.agent(agent_id, owner, phase=phase)
    await books.agent(4, phase=Phase.GONE, wanted=Wanted.DELETED)
    await books.agent(5, phase=Phase.GONE, wanted=Wanted.DELETED)
    await books.machine(1, "2026-11-10T11:00")
    await books.machine(2, "2026-11-09T00:00", "2026-11-09T05:00")
    await books.machine(4, "2026-11-02T00:00", "2026-11-02T02:00")
    await books.machine(5, "2026-10-02T00:00", "2026-10-02T02:00")
    await books.machine(0, "2026-11-10T08:00", state=MachineState.READY)

    accounts = await money.accounts()

    assert [(each.agent_id, each.state, each.usage.credits_month) for each in accounts] == [
        (2, "asleep", 500),
        (4, "gone", 200),
        (1, "running", 100),
        (3, "waiting", 0),
        (0, "pool", 400),
    ]
    total = await money.total()
    assert (total.credits_month, total.credits, total.per_hour) == (1_200, 1_400, 200.0)
    assert total.hours == sum(each.usage.hours for each in accounts) + 2.0, "with those that are not shown"


async def test_an_owner_sees_their_own(money, books):
    await books.agent(1, OLGA)
    await books.agent(2, VIKTOR)
    await books.machine(2, "2026-11-10T11:00")
    await books.machine(0, "2026-11-10T08:00", state=MachineState.READY)

    assert await money.accounts(VIKTOR) == [
        Account(2, "Ada 2", VIKTOR, "running", Usage(1.0, 1.0, 100, 100, per_hour=100.0))
    ]


async def test_nothing_has_cost_nothing(money):
    assert await money.total() == Usage(0, 0, 0, 0, per_hour=0)
    assert await money.account(1) == Usage(0, 0, 0, 0, per_hour=0)
    assert await money.accounts() == []


@pytest.mark.parametrize(
    ("balance", "per_hour", "count"),
    [(0, 0, 0), (2_399, 0, 0), (2_400, 0, 1), (24_000, 0, 10), (24_000, 900.0, 1), (2_400, 500.0, 0)],
)
async def test_as_many_more_as_last_for_a_day_with_all_that_runs(database, clock, balance, per_hour, count):
    assert await Money(database, Rented(balance, per_hour), clock=clock).affordable() == count


async def test_of_own_machines_one_has_as_many_as_one_likes(database):
    money = Money(database, Own())

    assert (await money.affordable(), await money.runway(), await money.burn()) == (None, None, None)
    assert await money.credits_per_hour() == 0.0


async def test_the_balance_is_asked_for_once_a_minute(database, clock):
    provider = Rented(1_000, 10.0)
    money = Money(database, provider, clock=clock)

    assert [await money.runway() for _ in range(3)] == [100.0] * 3
    assert provider.asked == 1
    clock.now += 61
    await money.runway()
    assert provider.asked == 2


class Reads:
    """How much work SQLite does for a query, in steps of its machine: no clock, so that a busy one does not matter."""

    def __init__(self, database):
        self.database = database

    async def steps(self, read):
        count = 0

        def step():
            nonlocal count
            count += 1

        async with self.database.engine.connect() as connection:
            raw = await connection.get_raw_connection()
            inner = raw.driver_connection
            await inner.set_progress_handler(step, 100)
        await read()
        await inner.set_progress_handler(None, 0)
        return count


async def fill(database, agents, tombstones=4):
    rows = [
        {"id": f"m-{agent}-{number}", "agent_id": agent, "created_at": 1.0 + number, "gone_at": 2.0 + number}
        for agent in range(1, agents + 1)
        for number in range(tombstones)
    ]
    fixed = {"provider": "x", "state": MachineState.GONE, "purpose": "deploy", "release": "", "epoch": 0}
    people = [
        {"id": agent, "owner_id": OLGA + agent % 100, "link": f"l{agent}", "name": "A"}
        for agent in range(1, agents + 1)
    ]
    person = Agent(owner_id=1, name="", job="", model="m", sealed_secret="s", release="r").model_dump()
    async with database.transaction() as transaction:
        await transaction.execute(insert(Machine), [fixed | {"credits_per_hour": 1.0} | row for row in rows])
        await transaction.execute(insert(Agent), [person | row for row in people])


@pytest.fixture
async def countable(tmp_path):
    """SQLite: its steps can be counted."""
    opened = Database(f"sqlite+aiosqlite:///{tmp_path / 'many.sqlite'}")
    await opened.open()
    yield opened
    await opened.close()


async def test_the_work_grows_with_the_agents_and_not_with_their_square(countable):
    database, money, reads = countable, Money(countable), Reads(countable)
    await fill(database, 1_000)
    few = await reads.steps(money.accounts)
    async with database.transaction() as transaction:
        await transaction.exec_driver_sql("DELETE FROM machine")
        await transaction.exec_driver_sql("DELETE FROM agent")
    await fill(database, 10_000)

    many = await reads.steps(money.accounts)
    one = await reads.steps(lambda: money.account(77))

    assert many < 14 * few
    assert one < many / 1_000, "one agent is looked up, not searched for"


async def test_what_a_machine_cost_in_the_pool_is_the_pools(money, books):
    await books.agent(1)
    await books.machine(1, "2026-11-10T00:00", claimed="2026-11-10T10:00")
    await books.machine(0, "2026-11-10T11:00", state=MachineState.READY)

    assert await money.account(1) == Usage(2.0, 2.0, 200, 200, per_hour=100.0)
    assert await money.account(0) == Usage(11.0, 11.0, 1_100, 1_100, per_hour=100.0)
    assert await money.total() == Usage(13.0, 13.0, 1_300, 1_300, per_hour=200.0)
    assert [(each.name, each.usage.credits) for each in await money.accounts()] == [("Ada 1", 200), ("pool", 1_100)]
