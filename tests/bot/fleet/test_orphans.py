"""What the provider lists, compared with the rows: on an empty disk of facts, with a clock that is set."""

from dataclasses import dataclass, field

import pytest

from bot.errors import MachineError
from bot.fleet.books import Books
from bot.fleet.durable import Attempt
from bot.fleet.orphans import LOST_SECONDS, ORPHAN_SECONDS, Orphans
from bot.store.models import Agent, MachineState, Purpose

STRANGER = "m-ffffffffffffffff"


@dataclass
class Listing:
    """A provider that lists what a test says."""

    name: str = "aleph"
    machines: set[str] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)
    ended: list[str] = field(default_factory=list)
    trouble: Exception | None = None

    async def listed(self):
        if self.trouble:
            raise self.trouble
        return sorted(self.machines)

    async def give_back(self, machine_id):
        self.ended.append(machine_id)

    async def strangers(self):
        return sorted(self.orders)

    async def forget_stranger(self, reference):
        self.ended.append(reference)


@pytest.fixture
def books(database, clock):
    return Books(database, clock=clock)


@pytest.fixture
def provider():
    return Listing()


@pytest.fixture
def orphans(books, provider, clock):
    return Orphans(books, provider, clock=clock)


@pytest.fixture
async def agent(database):
    made = Agent(owner_id=7, name="Ada", job="cooks", model="m", sealed_secret="", release="r1")
    async with database.session() as session:
        session.add(made)
    return made


@pytest.fixture
async def machine(books, provider, agent):
    """The agent runs on it."""
    made = await books.intend(agent.id, provider.name, Purpose.DEPLOY)
    await books.note(made.id, url="http://127.0.0.1:9")
    await books.switch(Attempt(agent.id, 1, 1), made)
    provider.machines.add(made.id)
    return made


async def later(orphans, clock, seconds):
    await orphans.end()
    clock.now += seconds
    await orphans.end()


async def test_a_machine_that_no_row_knows_is_given_back_when_it_is_seen_again_later(orphans, provider, machine, clock):
    provider.machines.add(STRANGER)
    await later(orphans, clock, ORPHAN_SECONDS - 1)
    assert provider.ended == []
    clock.now += 1
    await orphans.end()
    assert provider.ended == [STRANGER]


async def test_a_machine_that_our_books_know_as_gone_and_is_still_listed_is_given_back(
    books, orphans, provider, machine, clock
):
    await books.note(machine.id, MachineState.GONE)
    await later(orphans, clock, ORPHAN_SECONDS)
    assert provider.ended == [machine.id]


@pytest.mark.parametrize("state", [each for each in MachineState if each is not MachineState.GONE])
async def test_a_machine_in_the_books_is_left_alone(books, orphans, provider, machine, state):
    await books.note(machine.id, state)
    await later(orphans, books._clock, ORPHAN_SECONDS)
    assert provider.ended == []


async def test_what_is_not_seen_at_every_look_is_left_alone(orphans, provider, machine, clock):
    provider.machines.add(STRANGER)
    await orphans.end()
    provider.machines.remove(STRANGER)
    clock.now += ORPHAN_SECONDS
    await orphans.end()
    provider.machines.add(STRANGER)
    await orphans.end()
    assert provider.ended == []


async def test_an_order_that_nobody_remembers_is_forgotten(orphans, provider, machine, clock):
    provider.orders.add("hash")
    await later(orphans, clock, ORPHAN_SECONDS)
    assert provider.ended == ["hash"]


async def test_what_cannot_be_ended_now_is_ended_at_a_later_look(orphans, provider, machine, clock, monkeypatch):
    tried = []

    async def refuse(name):
        tried.append(name)
        raise MachineError("not yet")

    monkeypatch.setattr(provider, "give_back", refuse)
    provider.machines.add(STRANGER)
    provider.orders.add("hash")
    await later(orphans, clock, ORPHAN_SECONDS)
    await orphans.end()
    assert tried == [STRANGER, STRANGER]
    assert provider.ended == ["hash", "hash"]


async def test_nothing_is_done_while_the_list_cannot_be_read(orphans, provider, machine, clock):
    provider.orders.add("hash")
    await orphans.end()
    provider.trouble = MachineError("away")
    clock.now += ORPHAN_SECONDS
    with pytest.raises(MachineError):
        await orphans.end()
    with pytest.raises(MachineError):
        await orphans.missing()
    assert provider.ended == []


async def test_a_database_that_never_rented_anything_ends_nothing(orphans, provider, clock, caplog):
    provider.machines.add(STRANGER)
    provider.orders.add("hash")
    await later(orphans, clock, ORPHAN_SECONDS)
    assert provider.ended == []
    assert "is not the one they were rented by" in caplog.text


async def test_an_agent_whose_machine_is_listed_no_more_is_told_when_it_stays_so(orphans, provider, machine, clock):
    assert await orphans.missing() == []
    provider.machines.clear()
    assert await orphans.missing() == []
    clock.now += LOST_SECONDS
    (lost,) = await orphans.missing()
    assert lost.id == machine.agent_id


async def test_machines_of_another_provider_are_not_missed(orphans, provider, machine, clock):
    provider.machines.clear()
    provider.name = "hosts"
    await orphans.missing()
    clock.now += LOST_SECONDS
    assert await orphans.missing() == []


async def test_an_agent_that_is_being_deployed_is_not_missed(books, orphans, provider, machine, clock):
    provider.machines.clear()
    await orphans.missing()
    await books.lost(machine.agent_id, 1)
    clock.now += LOST_SECONDS
    assert await orphans.missing() == []
