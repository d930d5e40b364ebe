"""Warm machines on real ones (folders with real agent processes), through failures, crashes and races."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import delete

from bot.errors import MachineError, NoCapacity, NoCredit, NotPrepared, NotReached, NotStarted
from bot.fleet.books import Books
from bot.fleet.brake import DELAYS
from bot.fleet.orphans import ORPHAN_SECONDS, Orphans
from bot.fleet.pool import RECYCLE_SECONDS, Pool, Ports
from bot.fleet.pool_books import PoolBooks
from bot.fleet.pool_plan import QUARANTINE_SECONDS
from bot.fleet.pool_work import AT_ONCE, CHECK_SECONDS, OFF, RETRY_SECONDS
from bot.machines.engine import Spec
from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine
from bot.store.models import Agent, Machine, MachineState, Purpose

READY, DOOMED, QUARANTINED = MachineState.READY, MachineState.DOOMED, MachineState.QUARANTINED


class Killed(BaseException):
    """The bot's process is gone: nothing catches it, and nothing is done after it."""


@dataclass
class Fate:
    """Counts calls to the outside. Before the chosen one the process dies."""

    at: int = -1
    calls: int = 0
    is_dead: bool = False

    def strike(self):
        self.calls += 1
        if self.is_dead or self.calls == self.at:
            self.is_dead = True
            raise Killed

    def begin(self, at):
        self.at, self.calls = at, 0

    def revive(self):
        self.is_dead, self.at = False, -1


@dataclass
class Around:
    """A provider, engine or books of which chosen calls fail first (`faults["rent"]`), and that notes all calls."""

    inner: Any
    fate: Fate = field(default_factory=Fate)
    faults: dict[str, list[Exception]] = field(default_factory=dict)
    called: list[tuple[Any, ...]] = field(default_factory=list)

    def __getattr__(self, name):
        real = getattr(self.inner, name)
        if not callable(real):
            return real

        async def call(*args, **kwargs):
            self.fate.strike()
            self.called.append((name, *args))
            if self.faults.get(name):
                raise self.faults[name].pop(0)
            return await real(*args)

        return call


class World:
    """One database and one folder of machines; pools on them come and go."""

    def __init__(self, database, folder, clock):
        self.database = database
        self.clock = clock
        self.fate = Fate()
        self.process = ProcessEngine()
        self.local = LocalProvider(folder / "machines", self.process)
        self.engine = Around(self.process, self.fate)
        self.provider = Around(self.local, self.fate)
        self.rows = PoolBooks(database, "local", clock=clock)
        self.release, self.may_rent = "r1", True
        self.told: list[tuple[str, str, str]] = []
        self.pool = self.start(size=2)

    def start(self, *, size):
        """As after a restart."""
        books: Any = Around(self.rows, self.fate)
        self.pool = Pool(books, self.provider, self.engine, self.ports(), size=size, clock=self.clock)
        return self.pool

    def ports(self):
        async def release():
            return self.release

        async def may_rent():
            return self.may_rent

        async def tell(notice_id, text, /, *, why):
            self.told.append((notice_id, text, why))

        return Ports(release, may_rent, tell)

    async def settle(self, pool=None):
        """Until nothing more is due at this moment."""
        pool = pool or self.pool
        while tasks := await pool.look():
            await asyncio.gather(*tasks)

    async def states(self):
        return Counter(machine.state for machine in await self.rows.machines())

    async def ready(self):
        return [machine for machine in await self.rows.machines() if machine.state is READY]

    async def agent(self, release="r1"):
        made = Agent(owner_id=7, name="Ada", job="cooks", model="m", sealed_secret="", release=release)
        async with self.database.session() as session:
            session.add(made)
        return made.id

    async def machine(self, machine_id):
        async with self.database.session() as session:
            return await session.get_one(Machine, machine_id)

    async def run_an_agent_on(self, machine_id):
        spec = Spec("r1", "Ada", "cooks", "m", SecretStr("s" * 32), "http://127.0.0.1:9/v1", SecretStr("k"))
        await self.process.run(await self.local.reach(machine_id), spec)

    def calls(self, name):
        return [call for call in [*self.provider.called, *self.engine.called] if call[0] == name]


@pytest.fixture
async def world(database, tmp_path, clock):
    made = World(database, tmp_path, clock)
    yield made
    for machine_id in await made.local.listed():
        await made.local.give_back(machine_id)


async def test_so_many_machines_as_are_wanted_are_made_ready_and_run_nothing(world):
    await world.settle()

    ready = await world.ready()
    assert [(machine.agent_id, machine.purpose, machine.release) for machine in ready] == [(0, Purpose.POOL, "r1")] * 2
    assert await world.local.listed() == sorted(machine.id for machine in ready)
    assert Counter(call[0] for call in world.engine.called) == {"prepare": 2, "warm": 2, "inspect": 2}


async def test_an_empty_pool_rents_nothing(world):
    await world.settle(world.start(size=0))

    assert not await world.rows.machines()
    assert await world.pool.claim(await world.agent(), Purpose.DEPLOY) is None


async def test_a_claimed_machine_is_the_agents_and_another_takes_its_place(world):
    await world.settle()
    agent_id = await world.agent()

    machine = await world.pool.claim(agent_id, Purpose.WAKE)
    await world.settle()

    assert (machine.agent_id, machine.purpose, machine.state) == (agent_id, Purpose.WAKE, MachineState.RENTED)
    assert await world.machine(machine.id) == machine
    assert await world.states() == {READY: 2}
    assert machine.id not in [each.id for each in await world.ready()]


async def test_the_machine_that_is_warm_for_the_agents_release_comes_first_then_the_oldest(world):
    for release in ("r1", "r2", "r2"):
        world.release = release
        world.clock.now += 1
        made = await world.rows.intend()
        await world.rows.rented(made.id)
        await world.rows.ready(made.id, release)
    first, second, third = (machine.id for machine in await world.ready())

    claims = [await world.pool.claim(await world.agent("r2"), Purpose.DEPLOY) for _ in range(4)]

    assert [machine and machine.id for machine in claims] == [second, third, first, None]


async def test_of_fifty_that_claim_ten_machines_at_once_no_two_get_the_same(world):
    for _ in range(10):
        made = await world.rows.intend()
        await world.rows.rented(made.id)
        await world.rows.ready(made.id, "r1")
    agents = [await world.agent() for _ in range(50)]

    claims = await asyncio.gather(*(world.pool.claim(agent_id, Purpose.DEPLOY) for agent_id in agents))

    got = [machine for machine in claims if machine]
    assert len({machine.id for machine in got}) == len(got) == 10
    assert len({machine.agent_id for machine in got}) == 10
    assert not await world.rows.machines()


async def test_those_that_claim_at_once_get_one_each_while_there_are_enough(world):
    for _ in range(8):
        made = await world.rows.intend()
        await world.rows.rented(made.id)
        await world.rows.ready(made.id, "r1")
    agents = [await world.agent() for _ in range(8)]

    claims = await asyncio.gather(*(world.pool.claim(agent_id, Purpose.DEPLOY) for agent_id in agents))

    assert all(claims)


async def test_no_other_providers_machine_is_claimed_or_ended(world, caplog):
    await world.settle()
    rows = PoolBooks(world.database, "aleph", clock=world.clock)
    other = Pool(rows, world.provider, world.engine, world.ports(), size=0, clock=world.clock)

    assert await other.claim(await world.agent(), Purpose.DEPLOY) is None
    async with other.watched():
        await other.look()

    assert await world.states() == {READY: 2}
    assert "machines of the pool are another provider's: they end when it is PROVIDER count=2" in caplog.text


async def test_what_was_claimed_is_left_alone_whatever_becomes_of_the_pool(world):
    await world.settle()
    machine = await world.pool.claim(await world.agent(), Purpose.DEPLOY)
    before = await world.machine(machine.id)

    changes = [
        world.rows.rewarmed(machine.id, "r2"),
        world.rows.gone(machine.id),
        *(change(machine.id, state) for change in (world.rows.doom, world.rows.quarantine) for state in MachineState),
    ]
    world.release = "r2"
    world.clock.now += 2 * RECYCLE_SECONDS
    await world.settle(world.start(size=0))

    assert not any([await change for change in changes])
    assert await world.machine(machine.id) == before
    assert await world.local.listed() == [machine.id]


async def test_a_machine_claimed_while_it_is_looked_at_goes_to_its_agent(world):
    await world.settle(world.start(size=1))
    [machine] = await world.ready()
    world.clock.now += CHECK_SECONDS
    agent_id = await world.agent()

    async def claimed_meanwhile(_machine_id):
        assert await world.pool.claim(agent_id, Purpose.DEPLOY)
        raise NotReached("too late")

    world.provider.reach = claimed_meanwhile
    await asyncio.gather(*await world.pool.look())

    assert (await world.machine(machine.id)).state is MachineState.RENTED
    assert (await world.pool.status()).failures == 0


async def test_a_pool_made_smaller_gives_back_the_machines_of_older_releases_first(world):
    await world.settle(world.start(size=3))
    world.release = "r2"
    world.clock.now += 1
    await asyncio.gather(*await world.pool.look())
    [fresh] = [machine.id for machine in await world.ready() if machine.release == "r2"]

    await world.settle(world.start(size=1))

    assert [machine.id for machine in await world.ready()] == [fresh]
    assert await world.local.listed() == [fresh]


async def test_machines_that_are_still_coming_end_when_the_pool_is_made_smaller(world):
    world.provider.faults["rent"] = [Killed(), Killed()]
    with pytest.raises(Killed):
        await asyncio.gather(*await world.pool.look())
    assert await world.states() == {MachineState.INTENT: 2}

    await world.settle(world.start(size=0))

    assert not await world.rows.machines()
    assert not await world.local.listed()


async def test_on_a_tag_bump_machines_nobody_touched_are_made_warm_again_where_they_are(world):
    await world.settle()
    before = [machine.id for machine in await world.ready()]
    world.release = "r2"

    await world.settle()

    assert [(machine.id, machine.release) for machine in await world.ready()] == [(each, "r2") for each in before]
    assert len(world.calls("rent")) == 2


async def test_a_machine_that_cannot_be_made_warm_for_the_new_release_is_replaced(world):
    await world.settle(world.start(size=1))
    [old] = await world.ready()
    world.release, world.engine.faults["warm"] = "r2", [NotStarted("no such image")]

    await world.settle()
    assert await world.states() == {}
    world.clock.now += DELAYS[0]
    await world.settle()

    [new] = await world.ready()
    assert (new.release, await world.local.listed()) == ("r2", [new.id])
    assert new.id != old.id


async def test_a_tag_bump_to_an_image_that_is_nowhere_costs_one_machine_at_a_time(world):
    await world.settle(world.start(size=3))
    world.release, world.engine.faults["warm"] = "r2", [NotStarted("no such image")] * 9

    await world.settle()

    assert await world.states() == {READY: 2}


async def test_old_machines_are_replaced_one_at_a_time_each_after_its_successor_is_ready(world):
    await world.settle()
    old = {machine.id for machine in await world.ready()}
    world.clock.now += RECYCLE_SECONDS
    fewest, most = 9, 0

    while tasks := await world.pool.look():
        states = await world.states()
        fewest, most = min(fewest, states[READY]), max(most, states.total() - states[DOOMED])
        await asyncio.gather(*tasks)

    assert (fewest, most) == (2, 3)
    assert await world.states() == {READY: 2}
    assert not old & {machine.id for machine in await world.ready()}
    assert await world.local.listed() == sorted(machine.id for machine in await world.ready())


async def test_a_machine_that_fails_is_kept_for_half_an_hour_and_then_given_back(world, caplog):
    world.engine.faults["prepare"] = [NotPrepared("apt is broken")]
    await world.settle(world.start(size=1))
    [failed] = await world.rows.machines()
    assert failed.state is QUARANTINED
    assert f"machine of the pool failed machine={failed.id}" in caplog.text
    assert "apt is broken" in caplog.text

    world.clock.now += QUARANTINE_SECONDS - 1
    await world.settle(world.start(size=1))
    assert await world.states() == {QUARANTINED: 1, READY: 1}
    world.clock.now += 1
    await world.settle()

    assert (await world.machine(failed.id)).gone_at == world.clock.now
    assert await world.states() == {READY: 1}
    assert failed.id not in await world.local.listed()


async def test_what_was_never_rented_is_not_kept(world):
    world.provider.faults["rent"] = [NoCapacity("full")]

    await world.settle(world.start(size=1))

    assert not await world.rows.machines()


@pytest.mark.parametrize("trouble", ["listed", "reach", "inspect", "warm"])
async def test_a_ready_machine_that_fails_a_look_is_nobodys_any_more_and_is_replaced(world, trouble):
    await world.settle(world.start(size=1))
    [machine] = await world.ready()
    world.clock.now += CHECK_SECONDS
    if trouble == "listed":
        await world.local.give_back(machine.id)
    elif trouble == "inspect":
        await world.run_an_agent_on(machine.id)
    else:
        broken = world.provider if trouble == "reach" else world.engine
        broken.faults[trouble] = [MachineError("no")]

    await world.settle()

    assert await world.states() == {QUARANTINED: 1}
    assert await world.pool.claim(await world.agent(), Purpose.DEPLOY) is None
    world.clock.now += DELAYS[0]
    await world.settle()
    assert await world.states() == {QUARANTINED: 1, READY: 1}


async def test_ready_machines_are_looked_at_every_few_minutes(world):
    await world.settle(world.start(size=1))
    await world.settle()
    looks = len(world.calls("inspect"))

    for _ in range(6):
        world.clock.now += CHECK_SECONDS / 2
        await world.settle()

    assert len(world.calls("inspect")) == looks + 3


async def test_a_provider_that_cannot_list_says_nothing_about_its_machines(world):
    await world.settle()
    world.clock.now += CHECK_SECONDS
    world.provider.faults["listed"] = [MachineError("away"), MachineError("away")]

    await world.settle()

    assert await world.states() == {READY: 2}


async def test_after_failures_the_pool_waits_longer_and_longer_and_after_five_tells_the_operator_once(world):
    world.provider.faults["rent"] = [NoCredit(9, 1) for _ in range(7)]
    await world.settle(world.start(size=1))

    for number, delay in enumerate([*DELAYS, DELAYS[-1]], start=1):
        assert len(world.calls("rent")) == number
        world.clock.now += delay - 1
        await world.settle()
        assert len(world.calls("rent")) == number
        assert len(world.told) == (number >= len(DELAYS))
        world.clock.now += 1
        await world.settle()

    [(_, text, why)] = world.told
    assert text == OFF
    assert "9 credits are required, 1 are there" in why
    assert str(await world.pool.status()) == "0 of 1 ready, off after 7 failures"
    world.clock.now += DELAYS[-1]
    await world.settle()
    assert str(await world.pool.status()) == "1 of 1 ready"


async def test_a_restart_lets_a_pool_that_is_off_try_at_once(world):
    world.provider.faults["rent"] = [NoCapacity("full") for _ in DELAYS]
    await world.settle(world.start(size=1))
    for delay in DELAYS[:-1]:
        world.clock.now += delay
        await world.settle()
    assert (await world.pool.status()).is_off

    await world.settle(world.start(size=1))

    assert await world.states() == {READY: 1}


async def test_many_that_fail_of_one_cause_are_one_failure_and_then_one_is_tried(world):
    world.provider.faults["reach"] = [NotReached("no") for _ in range(AT_ONCE)]
    world.start(size=5)

    tasks = await world.pool.look()
    await asyncio.gather(*tasks)

    assert len(tasks) == AT_ONCE
    assert (await world.pool.status()).failures == 1
    world.clock.now += DELAYS[0]
    assert len(await world.pool.look()) == 1


async def test_what_fails_is_paid_for_at_most_twice(world):
    world.provider.faults["reach"] = [NotReached("no") for _ in range(99)]
    world.start(size=2)

    for _ in range(20):
        world.clock.now += 60
        await world.settle()
        assert len(await world.local.listed()) <= 4


async def test_a_machine_that_cannot_be_given_back_stays_in_the_books_and_is_tried_again(world):
    await world.settle(world.start(size=1))
    world.provider.faults["give_back"] = [MachineError("away")]
    await world.settle(world.start(size=0))
    assert await world.states() == {DOOMED: 1}

    world.clock.now += RETRY_SECONDS
    await world.settle()

    assert not await world.rows.machines()
    assert not await world.local.listed()


async def test_a_machine_leaves_the_books_only_when_the_provider_does_not_list_it(world, monkeypatch):
    await world.settle(world.start(size=1))

    async def keep(_machine_id):
        """Says yes and does nothing."""

    with monkeypatch.context() as patched:
        patched.setattr(world.local, "give_back", keep)
        await world.settle(world.start(size=0))
    assert await world.states() == {DOOMED: 1}
    world.clock.now += RETRY_SECONDS
    await world.settle()
    assert not await world.rows.machines()


async def test_under_a_spend_cap_nothing_is_rented_and_old_machines_end_without_a_successor(world):
    await world.settle()
    world.may_rent = False
    [claimed, _] = await world.ready()
    assert (await world.pool.claim(await world.agent(), Purpose.DEPLOY)).id == claimed.id

    await world.settle()
    assert await world.states() == {READY: 1}
    world.clock.now += RECYCLE_SECONDS
    await world.settle()
    assert await world.states() == {}

    world.may_rent = True
    await world.settle()
    assert await world.states() == {READY: 2}


async def test_the_orphans_watcher_leaves_the_pool_alone(world):
    await world.settle()
    orphans = Orphans(Books(world.database, clock=world.clock), world.local, clock=world.clock)

    await orphans.end()
    world.clock.now += ORPHAN_SECONDS
    await orphans.end()

    assert await orphans.missing() == []
    assert await world.local.listed() == sorted(machine.id for machine in await world.ready())


async def test_the_watcher_refills_at_once_and_stops_where_it_is(world):
    async with asyncio.timeout(30), world.pool.watched():
        await until_ready(world, 2)
        await world.pool.claim(await world.agent(), Purpose.DEPLOY)
        await until_ready(world, 2)
        assert await world.pool.trouble() == ""

    assert await world.pool.trouble() == "the watcher of the pool has ended"
    assert await world.states() == {READY: 2}


async def until_ready(world, number):
    while len(await world.ready()) < number:
        await asyncio.sleep(0.01)


async def test_a_database_that_fails_once_does_not_end_the_watcher(world, monkeypatch, caplog):
    monkeypatch.setattr("bot.fleet.pool.LOOK_SECONDS", 0.01)
    books: Any = Around(world.rows, faults={"machines": [MachineError("locked")]})
    pool = Pool(books, world.provider, world.engine, world.ports(), size=1, clock=world.clock)

    async with asyncio.timeout(30), pool.watched():
        await until_ready(world, 1)

    assert "pool not looked at why=locked" in caplog.text


async def test_killed_at_any_call_of_any_chapter_of_its_life_it_goes_on_and_loses_no_machine(world):
    longest = max(await live(world))
    assert longest > 15

    for call in range(1, longest + 1):
        async with world.database.transaction() as transaction:
            await transaction.execute(delete(Machine))
        await live(world, kill_at=call)


async def live(world, *, kill_at=-1):
    """From nothing over a claim, a bump and old age to nothing; killed once in each. How many calls each took."""
    chapters = [fill, refill, bump, age, drain]
    return [await chapter(world, kill_at) for chapter in chapters]


async def fill(world, kill_at):
    world.release = "r1"
    return await endure(world, kill_at)


async def refill(world, kill_at):
    agent_id = await world.agent()
    world.fate.begin(kill_at)
    claimed = await claim(world, agent_id)
    begun = world.fate.calls
    calls = await endure(world, kill_at)
    assert (await world.machine(claimed.id)).agent_id == agent_id
    await world.local.give_back(claimed.id)
    return begun + calls


async def bump(world, kill_at):
    world.release = "r2"
    calls = await endure(world, kill_at)
    assert [machine.release for machine in await world.ready()] == ["r2"]
    return calls


async def age(world, kill_at):
    world.clock.now += RECYCLE_SECONDS
    calls = await endure(world, kill_at)
    assert {machine.created_at for machine in await world.ready()} == {world.clock.now}
    assert await world.states() == {READY: 1}
    return calls


async def drain(world, kill_at):
    calls = await endure(world, kill_at, size=0)
    assert await world.local.listed() == []
    assert not await world.rows.machines()
    return calls


async def endure(world, kill_at, *, size=1):
    """Until nothing is due, restarted wherever it dies. How many calls it took."""
    world.fate.begin(kill_at)
    world.start(size=size)
    while True:
        try:
            await world.settle()
        except Killed:
            await world.pool._work.stop()
            await nothing_is_lost(world)
            world.fate.revive()
            world.start(size=size)
        else:
            await nothing_is_lost(world)
            return world.fate.calls


async def claim(world, agent_id):
    """As `converge` does it: it looks first for what it may have claimed before it was killed."""
    try:
        return await world.pool.claim(agent_id, Purpose.DEPLOY)
    except Killed:
        world.fate.revive()
        return await Books(world.database).machine(agent_id) or await world.pool.claim(agent_id, Purpose.DEPLOY)


async def nothing_is_lost(world):
    """Whatever is rented has a row that is not gone."""
    listed = await world.local.listed()
    assert await Books(world.database).living(listed) == set(listed)
    assert not [each for each in await world.rows.machines() if each.agent_id]
