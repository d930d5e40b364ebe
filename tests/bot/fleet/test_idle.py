import sqlite3
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import event

from bot.accounts.agents import Agents, Card
from bot.accounts.users import Person, Users
from bot.fleet.idle import AGAIN_SECONDS, SOON_SECONDS, Idle
from bot.fleet.safety import Safety
from bot.store.models import Alarm, Draft, Letter, Machine, Phase, Turn, TurnState, Wanted

OLGA = 7_000_000_001
HOUR = 3_600.0


@pytest.fixture
async def slept(database, clock):
    """Who was put to sleep, and the watcher that does it, with an hour as the operator's limit."""
    asked = []

    async def sleep(agent_id):
        asked.append(agent_id)

    return asked, Idle(database, sleep, minutes=60, clock=clock)


@pytest.fixture
async def agent(database, vault, clock):
    await Users(database, vault).meet(Person(OLGA, "Olga", "en"))
    draft = Draft(user_id=OLGA, chat_id=OLGA, name="Ada", job="cooks", model="m")
    made = await Agents(database, vault, release="r1", limit=9).create(draft, Card(OLGA, 1))
    machine = Machine(agent_id=made.id or 0, provider="local", created_at=clock.now)
    await change(database, made, phase=Phase.RUNNING, observed_generation=1, machine_id=machine.id)
    await keep(database, machine)
    return made


async def change(database, agent, **values):
    for name, value in values.items():
        setattr(agent, name, value)
    async with database.session() as session:
        session.add(await session.merge(agent))


async def keep(database, row):
    async with database.session() as session:
        session.add(row)


def turn(agent, clock, **values):
    facts = {"id": "u1", "agent_id": agent.id, "chat_id": OLGA, "user_id": OLGA, "message_id": 1, "message": "hello"}
    return Turn(**facts | {"sequence": 1, "created_at": clock.now, "state": TurnState.DONE} | values)


async def test_an_agent_that_nobody_needs_is_put_to_sleep_after_the_operators_limit(slept, agent, clock):
    asked, idle = slept

    clock.now += HOUR - 1
    assert await idle.look() == []
    clock.now += 2
    await idle.look()

    assert asked == [agent.id]


async def test_its_owners_limit_goes_first(slept, agent, database, clock):
    asked, idle = slept
    await change(database, agent, idle_minutes=10)

    clock.now += 601
    await idle.look()

    assert asked == [agent.id]


async def test_what_is_always_on_never_sleeps(slept, agent, database, clock):
    await change(database, agent, idle_minutes=0)

    clock.now += 1_000 * HOUR

    assert await slept[1].look() == []


async def test_without_a_limit_nobody_sleeps(database, agent, clock):
    async def refuse(_agent_id):
        raise AssertionError

    clock.now += 1_000 * HOUR

    assert await Idle(database, refuse, minutes=0, clock=clock).look() == []


async def test_who_was_written_to_stays_awake_for_as_long_again(slept, agent, database, clock):
    asked, idle = slept
    clock.now += HOUR - 1
    await keep(database, turn(agent, clock))

    clock.now += HOUR - 1
    assert await idle.look() == []
    clock.now += 2
    await idle.look()

    assert asked == [agent.id]


@pytest.mark.parametrize("state", [TurnState.QUEUED, TurnState.RUNNING])
async def test_who_is_answering_is_not_put_to_sleep(slept, agent, database, clock, state):
    await keep(database, turn(agent, clock, state=state))

    clock.now += 2 * HOUR

    assert await slept[1].look() == []


async def test_who_is_to_be_called_soon_stays_awake_for_it(slept, agent, database, clock):
    asked, idle = slept
    clock.now += 2 * HOUR
    await keep(database, Alarm(agent_id=agent.id, at=clock.now + SOON_SECONDS - 1))

    assert await idle.look() == []
    async with database.session() as session:
        (await session.get_one(Alarm, agent.id)).at = clock.now + 2 * SOON_SECONDS
    await idle.look()

    assert asked == [agent.id]


async def test_whose_letter_waits_is_not_put_to_sleep(slept, agent, database, clock):
    await keep(database, Letter(agent_id=agent.id, id=1, chat_id=OLGA, text="hello", files=[]))

    clock.now += 2 * HOUR

    assert await slept[1].look() == []


@pytest.mark.parametrize(
    "values",
    [{"phase": Phase.UPDATING}, {"wanted": Wanted.DELETED}, {"phase": Phase.FAILED}, {"generation": 2}],
    ids=["updating", "deleted", "failed", "wanted otherwise"],
)
async def test_who_is_in_the_middle_of_something_is_left_alone(slept, agent, database, clock, values):
    await change(database, agent, **values)

    clock.now += 2 * HOUR

    assert await slept[1].look() == []


async def test_what_did_not_work_is_tried_again_an_hour_later(slept, agent, clock):
    asked, idle = slept
    clock.now += 2 * HOUR

    await idle.look()
    clock.now += 60
    await idle.look()
    assert asked == [agent.id]
    clock.now += AGAIN_SECONDS
    await idle.look()

    assert asked == [agent.id, agent.id]


async def test_neither_an_agents_past_nor_everybodys_is_read_each_minute(slept, database):
    """On SQLite: Postgres reads what is so small from end to end."""
    nobody: Any = None
    _, idle = slept
    if database.is_server:
        pytest.skip("its plans depend on how much there is")
    asked = []

    def note(*facts):
        asked.append(facts[2:4])

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    await idle.look()
    await Safety(database, nobody, nobody, nobody, nobody, minutes=0, clock=lambda: 0.0).look()

    with closing(sqlite3.connect(database.engine.url.database)) as opened:
        queries = [(f"EXPLAIN QUERY PLAN {words}", values) for words, values in asked if words.startswith("SELECT")]
        plans = [row[3] for words, values in queries for row in opened.execute(words, values)]
    turns = [step for step in plans if " turn " in step or " letter " in step]
    assert sorted({step.partition(" INDEX ")[2].split()[0] for step in turns}) == [
        "ix_letter_open",
        "ix_turn_agent",
        "ix_turn_open",
    ]
