import asyncio
import gc

import pytest
from sqlalchemy import event, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, func, select

from bot.store.database import Database
from bot.store.models import Chat, Kept

ID = 7_000_000_001


async def test_a_row_that_is_there_is_passed_over_or_replaced(database):
    async with database.transaction() as transaction:
        for chat in (Chat(id=ID, agent_id=1), Chat(id=ID, agent_id=2)):
            await transaction.execute(database.insert_new(Chat, chat.model_dump()))
        await transaction.execute(database.insert_new(Kept, Kept(name="a", value="1").model_dump()))
        await transaction.execute(database.insert_or_replace(Kept(name="a", value="2", at=5.5)))

    async with database.session() as session:
        assert (await session.get_one(Chat, ID)).agent_id == 1
        kept = await session.get_one(Kept, "a")
    assert (kept.value, kept.at) == ("2", 5.5)


async def test_what_fails_in_the_middle_leaves_nothing(database):
    async def write_and_fail():
        async with database.transaction() as transaction:
            await transaction.execute(database.insert_new(Chat, Chat(id=ID).model_dump()))
            raise RuntimeError

    async def write_twice():
        async with database.session() as session:
            session.add(Chat(id=ID))
            await session.flush()
            await (await session.connection()).execute(insert(Chat).values(Chat(id=ID).model_dump()))

    with pytest.raises(RuntimeError):
        await write_and_fail()
    with pytest.raises(IntegrityError):
        await write_twice()

    async with database.session() as session:
        assert await session.get(Chat, ID) is None


async def test_who_reads_and_then_writes_under_a_lock_is_alone(database):
    async def count_up():
        async with database.transaction() as transaction:
            await database.lock(transaction, "chats", ID)
            count = await transaction.scalar(select(func.count()).select_from(Chat))
            await asyncio.sleep(0)  # others get their chance
            await transaction.execute(database.insert_new(Chat, Chat(id=count).model_dump()))

    await asyncio.gather(*(count_up() for _ in range(12)))

    async with database.session() as session:
        ids = sorted(await session.exec(select(col(Chat.id))))
    assert ids == list(range(12)), "none counted what another was about to write"


async def test_a_cancelled_reader_is_no_loss(database):
    reading = asyncio.Event()
    event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *_: reading.set())

    async def read_for_ever():
        while True:
            async with database.session() as session:
                await session.exec(select(Chat))

    reader = asyncio.create_task(read_for_ever())
    for _ in range(20):
        reading.clear()
        await reading.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader

    assert not database.lost.is_set()
    async with database.session() as session:
        assert list(await session.exec(select(Chat))) == []


async def test_what_people_write_is_not_in_the_errors_of_the_database(database):
    async def fail():
        async with database.transaction() as transaction:
            row = Kept(name="a", value="private words").model_dump()
            await transaction.execute(insert(Kept).values(row))
            await transaction.execute(insert(Kept).values(row))

    with pytest.raises(IntegrityError) as caught:
        await fail()

    assert "private words" not in str(caught.value)


async def test_a_cancelled_task_leaves_no_lock_behind_however_long_its_exception_is_kept(tmp_path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'baal.sqlite'}")
    await database.open()

    async def write_and_read():
        async with database.transaction() as transaction:
            await transaction.execute(database.insert_new(Chat, Chat(id=ID).model_dump()))
            driver = (await transaction.get_raw_connection()).driver_connection
            assert driver
            unfinished = await driver.execute("SELECT 1 UNION SELECT 2")
            # What SQLAlchemy does when a task is cancelled while its statement runs.
            await transaction.invalidate()
            raise asyncio.CancelledError(unfinished)

    with pytest.raises(asyncio.CancelledError) as kept:
        await write_and_read()

    async with asyncio.timeout(10), database.transaction() as transaction:
        await transaction.execute(database.insert_new(Chat, Chat(id=ID + 1).model_dump()))
    assert kept.value.args
    await database.close()


async def test_a_connection_that_is_still_being_given_back_is_closed_too(database, monkeypatch):
    begun, may_go_on = asyncio.Event(), asyncio.Event()
    close = AsyncConnection.close

    async def close_later(connection):
        begun.set()
        await may_go_on.wait()
        await close(connection)

    monkeypatch.setattr(AsyncConnection, "close", close_later)
    using = asyncio.create_task(database.trouble())
    await begun.wait()
    using.cancel()
    closing = asyncio.create_task(database.close())
    with pytest.raises(asyncio.CancelledError):
        await using
    assert not closing.done()

    may_go_on.set()
    await closing

    assert database.engine.pool.checkedout() == 0


@pytest.mark.parametrize("times", [1, 2])
async def test_who_is_cancelled_while_connecting_leaves_no_connection_behind(database, times):
    for steps in range(40):
        using = asyncio.create_task(database.trouble())
        for _ in range(steps):
            await asyncio.sleep(0)
        for _ in range(times):
            using.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(using, return_exceptions=True)
        await database.close()

    gc.collect()  # says so of any that nobody closed
    assert database.engine.pool.checkedout() == 0
