"""What stands in the rows of agents, and who may work on them when."""

import pytest

from bot.accounts.agents import Agents, Card
from bot.accounts.users import Person, Users
from bot.fleet.books import BACKOFF_SECONDS, MOST_DOUBLINGS, Books
from bot.fleet.durable import Attempt
from bot.fleet.machine_rows import LEASE_SECONDS
from bot.fleet.shelf import Shelf
from bot.store.keepsakes import Keepsakes
from bot.store.models import Draft, MachineState, Phase, Purpose, Turn, TurnState, Wanted
from bot.store.records import Reason

OLGA = 7_000_000_001
HOUR = 3600


@pytest.fixture
def books(database, clock):
    return Books(database, clock=clock)


@pytest.fixture
async def agent_id(database, vault):
    await Users(database, vault).meet(Person(OLGA, "Olga", "en"))
    draft = Draft(user_id=OLGA, chat_id=OLGA, name="Ada", job="cooks", model="m")
    return (await Agents(database, vault, release="r1", limit=9).create(draft, Card(OLGA, 1))).id


def attempt(agent_id, generation=1, number=1):
    return Attempt(agent_id=agent_id, generation=generation, number=number)


async def fail(books, tried):
    assert not await books.fail(tried, error="failed", code="AAAA", forever=True, at_once=False, instead={})


async def test_an_attempt_that_failed_is_put_off(books, agent_id, clock):
    await fail(books, attempt(agent_id))

    assert await books.due() == []
    clock.now += BACKOFF_SECONDS
    assert [agent.id for agent in await books.due()] == [agent_id]


async def test_the_longest_that_an_attempt_is_put_off_is_waited_for(books, agent_id, clock):
    for number in range(1, MOST_DOUBLINGS + 3):
        await fail(books, attempt(agent_id, number=number))

    assert await books.due() == []
    clock.now += BACKOFF_SECONDS * 2**MOST_DOUBLINGS - 1
    assert await books.due() == []


async def test_a_clock_that_was_ahead_puts_nobody_off_until_then(books, agent_id, clock):
    clock.now += HOUR
    await fail(books, attempt(agent_id))

    clock.now -= HOUR
    assert [agent.id for agent in await books.due()] == [agent_id]


async def test_a_lease_is_nobody_elses_until_it_has_ended(books, agent_id, clock):
    assert await books.lease(attempt(agent_id))
    await books.wish(agent_id, release="r2")

    assert not await books.lease(attempt(agent_id, generation=2))
    clock.now += LEASE_SECONDS + 1
    assert await books.lease(attempt(agent_id, generation=2))


async def test_a_lease_from_a_clock_that_was_ahead_ends_with_it(books, agent_id, clock):
    clock.now += HOUR
    assert await books.lease(attempt(agent_id))
    await books.wish(agent_id, release="r2")

    clock.now -= HOUR
    assert await books.lease(attempt(agent_id, generation=2))


async def answer(database, agent_id, *numbers):
    async with database.session() as session:
        for number in numbers:
            at = 1_800_000_000 + number
            facts = {"agent_id": agent_id, "chat_id": number, "user_id": OLGA, "message_id": 1, "message": "hi"}
            session.add(Turn(id=f"u{number}", **facts, sequence=number, state=TurnState.DONE, created_at=at))


@pytest.fixture
def shelf(database, vault, clock):
    return Shelf(database, Keepsakes(database, vault), clock=clock)


async def test_nothing_is_lost_that_was_answered_before_the_snapshot(books, shelf, database, agent_id):
    await answer(database, agent_id, 1, 2)
    snapshot = await shelf.begin(agent_id, Reason.SCHEDULE, None)

    assert await books.minutes_lost(agent_id, snapshot) == 0


async def test_a_chat_that_was_overtaken_by_another_is_not_forgotten_in_silence(
    books, shelf, database, agent_id, clock
):
    await answer(database, agent_id, 2)
    snapshot = await shelf.begin(agent_id, Reason.SCHEDULE, None)
    await answer(database, agent_id, 1)
    clock.now += 61

    assert await books.minutes_lost(agent_id, snapshot) == 2


async def test_a_snapshot_from_when_the_clock_was_ahead_hides_no_loss(books, shelf, database, agent_id, clock):
    clock.now += HOUR
    snapshot = await shelf.begin(agent_id, Reason.SCHEDULE, None)
    clock.now -= HOUR
    await answer(database, agent_id, 1)

    assert await books.minutes_lost(agent_id, snapshot) == 1


async def test_without_a_snapshot_all_answers_are_lost(books, database, agent_id):
    assert await books.minutes_lost(agent_id, None) == 0
    await answer(database, agent_id, 1)
    assert await books.minutes_lost(agent_id, None)


async def test_a_wish_that_has_come_true_leaves_no_successor_that_was_begun_for_another(books, agent_id):
    serving = await books.intend(agent_id, "local", Purpose.DEPLOY)
    assert await books.switch(attempt(agent_id), serving)
    successor = await books.intend(agent_id, "local", Purpose.UPDATE)
    await books.wish(agent_id, release="r2")
    await books.note(successor.id, MachineState.RENTED)
    await books.wish(agent_id, release="r1")

    assert await books.fulfil(attempt(agent_id, generation=3), Phase.RUNNING)

    assert await books.successor(agent_id) is None
    assert {machine.id: machine.state for machine in await books.machines(agent_id)} == {
        serving.id: MachineState.ACTIVE,
        successor.id: MachineState.DOOMED,
    }


async def test_who_falls_asleep_leaves_no_successor_either(books, agent_id):
    serving = await books.intend(agent_id, "local", Purpose.DEPLOY)
    assert await books.switch(attempt(agent_id), serving)
    successor = await books.intend(agent_id, "local", Purpose.UPDATE)
    await books.wish(agent_id, wanted=Wanted.ASLEEP)

    assert await books.fall_asleep(attempt(agent_id, generation=2))

    assert {machine.id: machine.state for machine in await books.machines(agent_id)} == {
        serving.id: MachineState.DOOMED,
        successor.id: MachineState.DOOMED,
    }


async def test_a_wish_that_was_outdone_dooms_nothing(books, agent_id):
    successor = await books.intend(agent_id, "local", Purpose.DEPLOY)
    await books.wish(agent_id, release="r2")

    assert not await books.fulfil(attempt(agent_id), Phase.RUNNING)

    assert (await books.successor(agent_id)).id == successor.id
