"""A database of an older bot is brought up to date, and one of a newer bot still takes what an older one writes."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlmodel import select

from bot.errors import BadSettings
from bot.store.database import Database
from bot.store.models import Agent, Machine, MachineState, Phase, Purpose, Wanted
from bot.store.records import Notice, Rollout, RolloutState

SCHEMAS = Path(__file__).parent / "schemas"
"""The tables as they were before agents could move from one machine to another."""
OLGA = 7_000_000_001
AGENT = (
    "INSERT INTO agent (id, owner_id, link, name, job, model, sealed_secret, release, wanted, generation,"
    " observed_generation, phase, attempt, next_at, deploy_started_at, lease_until, card_open, created_at)"
    " VALUES ({id}, 7000000001, 'link{id}', 'Ada', 'cooks', 'm', 'sealed', 'r{id}', 'on', 3, 3, 'running', 1, 0, 1.5,"
    " 0, {no}, 1.5)"
)
MACHINE = (
    "INSERT INTO machine (id, agent_id, provider, state, created_at) VALUES ('{id}', {agent}, 'local', '{state}', {at})"
)


@pytest.fixture
def empty_url(request, database_url):
    """A database without any table."""
    if database_url.startswith("sqlite"):
        yield database_url.replace("baal.sqlite", "old.sqlite")
        return
    server = request.getfixturevalue("postgres")
    with server.database() as name:
        yield server.url(name)


@pytest.fixture
async def old(empty_url):
    """A database with the tables and the rows of an older bot."""
    made = Database(empty_url)
    name = "postgres" if made.is_server else "sqlite"
    await run(made, *(SCHEMAS / f"{name}.sql").read_text().splitlines())
    await run(made, *(old_agent(made, number) for number in (1, 2)))
    await run(
        made,
        MACHINE.format(id="m-gone", agent=1, state="gone", at=1),
        MACHINE.format(id="m-first", agent=1, state="active", at=2),
        MACHINE.format(id="m-newer", agent=1, state="active", at=3),
        MACHINE.format(id="m-rented", agent=2, state="rented", at=2),
        MACHINE.format(id="m-nobody", agent=99, state="doomed", at=2),
    )
    yield made
    await made.close()


def old_agent(database, number):
    return AGENT.format(id=number, no="false" if database.is_server else "0")


async def run(database, *statements):
    async with database.transaction() as transaction:
        for statement in statements:
            await transaction.exec_driver_sql(statement)


async def rows(database, table):
    async with database.session() as session:
        return list(await session.exec(select(table)))


async def tables(database):
    """Columns and indices, as the database has them."""

    def look(connection):
        there = inspect(connection)
        return {
            name: (
                {column["name"]: (str(column["type"]), column["nullable"]) for column in there.get_columns(name)},
                {index["name"]: bool(index["unique"]) for index in there.get_indexes(name)},
            )
            for name in there.get_table_names()
        }

    async with database.transaction() as transaction:
        return await transaction.run_sync(look)


async def test_an_old_database_gets_what_is_missing_and_keeps_its_rows(old):
    await old.open()

    agents = {agent.id: agent for agent in await rows(old, Agent)}
    assert (agents[1].name, agents[1].phase, agents[1].epoch, agents[1].idle_minutes) == ("Ada", Phase.RUNNING, 0, None)
    machines = {machine.id: machine for machine in await rows(old, Machine)}
    assert {machine.purpose for machine in machines.values()} == {Purpose.DEPLOY}
    assert {(machine.epoch, machine.credits_per_hour) for machine in machines.values()} == {(0, 0.0)}
    assert await rows(old, Rollout) == []


async def test_it_ends_with_the_same_tables_as_a_new_database(old, database):
    await old.open()

    assert await tables(old) == await tables(database)


async def test_an_agent_works_where_its_newest_active_machine_is(old):
    await old.open()

    assert {agent.id: agent.machine_id for agent in await rows(old, Agent)} == {1: "m-newer", 2: None}
    assert {machine.id: machine.release for machine in await rows(old, Machine)} == {
        "m-gone": "r1",
        "m-first": "r1",
        "m-newer": "r1",
        "m-rented": "",
        "m-nobody": "",
    }


async def test_a_second_start_changes_nothing(old):
    await old.open()
    await run(old, "UPDATE agent SET machine_id = NULL, epoch = 4 WHERE id = 1")

    await old.open()

    agent = next(agent for agent in await rows(old, Agent) if agent.id == 1)
    assert (agent.machine_id, agent.epoch) == (None, 4)


async def test_bots_that_start_together_do_not_collide(old, empty_url):
    others = [Database(empty_url) for _ in range(4)]

    await asyncio.gather(*(each.open() for each in others))

    assert len(await rows(old, Machine)) == 5
    for each in others:
        await each.close()


async def test_what_fails_in_the_middle_leaves_the_old_tables_as_they_were(old, monkeypatch):
    before = await tables(old)

    def fail(_added):
        raise RuntimeError

    monkeypatch.setattr("bot.store.migrations._backfills", fail)
    with pytest.raises(RuntimeError):
        await old.open()

    assert await tables(old) == before


async def test_an_older_bot_writes_into_the_database_of_a_newer_one(database):
    await run(
        database,
        old_agent(database, 1),
        MACHINE.format(id="m-old", agent=1, state="active", at=2),
        "INSERT INTO rollout (id, release, previous) VALUES (1, 'new', 'old')",
        "INSERT INTO notice (id, user_id, text) VALUES ('n', 1, 'key')",
    )

    (agent,), (machine,) = await rows(database, Agent), await rows(database, Machine)
    assert (agent.epoch, agent.machine_id, agent.wanted) == (0, None, Wanted.ON)
    assert (machine.purpose, machine.release, machine.state) == (Purpose.DEPLOY, "", MachineState.ACTIVE)
    (rollout,), (notice,) = await rows(database, Rollout), await rows(database, Notice)
    assert (rollout.state, rollout.is_open, rollout.plan) == (RolloutState.CANARY, True, {})
    assert notice.facts == {}


async def test_columns_and_tables_of_a_newer_bot_are_left_alone(database):
    await run(
        database,
        "ALTER TABLE agent ADD COLUMN mood VARCHAR DEFAULT 'good' NOT NULL",
        "CREATE TABLE dreams (id INTEGER PRIMARY KEY)",
        "CREATE INDEX ix_agent_mood ON agent (mood)",
    )

    await database.open()

    async with database.session() as session:
        session.add(Agent(owner_id=OLGA, name="Ada", job="", model="m", sealed_secret="s", release="r"))
    async with database.transaction() as transaction:
        assert (await transaction.execute(text("SELECT mood FROM agent"))).scalars().all() == ["good"]
    columns, indices = (await tables(database))["agent"]
    assert "mood" in columns
    assert "ix_agent_mood" in indices
    assert "dreams" in await tables(database)


async def test_an_index_that_is_missing_is_made(database):
    await run(database, "DROP INDEX ix_turn_open")

    await database.open()

    assert "ix_turn_open" in (await tables(database))["turn"][1]


async def test_a_column_that_no_old_row_can_have_is_told(database):
    await run(database, "ALTER TABLE offer DROP COLUMN options")

    with pytest.raises(BadSettings) as caught:
        await database.open()

    assert str(caught.value) == (
        "DATABASE_URL: the database is too old: offer.options cannot be added to it. Start a release in between first."
    )
