"""What only a server can do to us: be wrongly named, away, slow to start, restarted, or another bot's already."""

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext

import pytest
from sqlmodel import select

from bot.errors import BadSettings, DatabaseLost
from bot.settings import read_settings
from bot.store import owner
from bot.store.database import Database
from bot.store.models import Chat
from bot.store.owner import sole_bot
from tests.postgres import PASSWORD, QUOTED_PASSWORD

pytestmark = pytest.mark.postgres

ID = 7_000_000_001


@pytest.fixture
def name(postgres):
    with postgres.database() as made:
        yield made


@asynccontextmanager
async def opened(url, *, patience=20.0):
    database = Database(url, patience=patience)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def refusal(url, *, patience=0.3):
    """What an operator is told of a database that cannot be used."""
    database = Database(url, patience=patience)
    with pytest.raises(BadSettings) as caught:
        await database.open()
    await database.close()
    told = str(caught.value)
    assert told.startswith("DATABASE_URL: ")
    assert "\n" not in told
    assert not {PASSWORD, QUOTED_PASSWORD, "wr0ng"} & set(told.split())
    assert PASSWORD not in told
    return told


async def chats(database):
    async with database.session() as session:
        return [chat.id for chat in await session.exec(select(Chat))]


async def write(database):
    async with database.transaction() as transaction:
        await transaction.execute(database.insert_new(Chat, Chat(id=ID).model_dump()))


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# -- wrongly named ---------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_told_at_once(postgres, name):
    told = await refusal(postgres.url(name, password="wr0ng"), patience=60)

    assert told.endswith(
        'FATAL:  password authentication failed for user "baal". '
        "Correct user and password in it; write special characters as %40 and the like."
    )


async def test_a_missing_password_is_told_at_once(postgres, name):
    told = await refusal(postgres.url(name).replace(f":{QUOTED_PASSWORD}", ""), patience=60)

    assert "no password supplied. Correct user and password" in told


async def test_a_missing_database_is_told_at_once(postgres):
    told = await refusal(postgres.url("nowhere"), patience=60)

    assert told.endswith(
        'FATAL:  database "nowhere" does not exist. Create what it names (`createdb`), or correct the name.'
    )


async def test_an_unknown_option_is_told_at_once(postgres, name):
    assert 'invalid connection option "colour". Correct it' in await refusal(
        f"{postgres.url(name)}?colour=red", patience=60
    )


async def test_encryption_that_the_server_does_not_have_is_told_at_once(postgres, name):
    told = await refusal(f"{postgres.url(name)}?sslmode=require", patience=60)

    assert told.endswith("server does not support SSL, but SSL was required. Correct its sslmode.")


async def test_a_server_that_does_not_come_is_told_after_a_while():
    told = await refusal(f"postgresql+psycopg://baal:wr0ng@127.0.0.1:{closed_port()}/baal")

    assert told.endswith("failed: Connection refused. Start the server, or correct host and port.")


async def test_a_server_that_comes_on_none_of_its_hosts_addresses_is_one_line_too():
    told = await refusal(f"postgresql+psycopg://baal:wr0ng@localhost:{closed_port()}/baal")

    assert told.endswith("failed: Connection refused. Start the server, or correct host and port.")


async def test_a_host_that_does_not_exist_is_told_after_a_while():
    told = await refusal("postgresql+psycopg://baal:wr0ng@no-such-host.invalid/baal")

    assert "'no-such-host.invalid'" in told
    assert told.endswith("Start the server, or correct host and port.")


async def test_a_user_who_may_not_make_tables_is_told_what_to_do(postgres, name):
    with postgres.guest(name) as url:
        told = await refusal(url)

    assert told == (
        "DATABASE_URL: permission denied for schema public. "
        "Make its user the database's owner: ALTER DATABASE … OWNER TO …."
    )


async def test_a_database_that_cannot_hold_every_character_is_refused(postgres):
    with postgres.database("TEMPLATE template0 ENCODING 'SQL_ASCII'") as ascii_only:
        told = await refusal(postgres.url(ascii_only))

    assert told.startswith("DATABASE_URL: the database is encoded as SQL_ASCII and cannot hold every character.")


async def test_a_socket_file_is_as_good_as_a_host(postgres, name):
    settings = read_settings(
        telegram_bot_token="4242:abc", bot_encryption_key="A" * 43 + "=", database_url=postgres.socket_url(name)
    )

    async with opened(settings.database) as database:
        assert await chats(database) == []


async def test_a_stricter_isolation_that_is_the_servers_default_changes_nothing(postgres, name):
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")

    async with opened(postgres.url(name)) as database, database.transaction() as transaction:
        assert (await transaction.exec_driver_sql("SHOW transaction_isolation")).scalar() == "read committed"


# -- away ------------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_started_later_is_waited_for(postgres, name):
    database = Database(postgres.url(name), patience=30)
    with postgres.away():
        opening = asyncio.create_task(database.open())
        await asyncio.wait({opening}, timeout=0.3)
        assert not opening.done()

    await opening
    assert await chats(database) == []
    await database.close()


async def test_a_server_restarted_while_nothing_was_said_is_not_noticed(postgres, name):
    async with opened(postgres.url(name)) as database:
        await write(database)
        with postgres.away():
            asking = asyncio.create_task(chats(database))
            await asyncio.wait({asking}, timeout=0.3)
            assert not asking.done()

        assert await asking == [ID]
        assert not database.lost.is_set()


async def test_a_connection_that_breaks_in_a_transaction_is_told_and_ends_the_bot(postgres, name, caplog):
    async def break_off(database):
        async with database.transaction() as transaction:
            pid = (await transaction.exec_driver_sql("SELECT pg_backend_pid()")).scalar()
            postgres.execute(f"SELECT pg_terminate_backend({pid})")
            await transaction.exec_driver_sql("SELECT 1")

    async with opened(postgres.url(name)) as database:
        with pytest.raises(DatabaseLost, match=r"^the connection broke: terminating connection"):
            await break_off(database)

        assert database.lost.is_set()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "database lost: the connection broke: terminating connection due to administrator command"
    ]


async def test_a_server_that_stays_away_ends_the_bot(postgres, name):
    async with opened(postgres.url(name), patience=0.3) as database:
        with postgres.away(), pytest.raises(DatabaseLost, match="Connection refused"):
            await chats(database)

        assert database.lost.is_set()


# -- another bot's ---------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(owner, "STANDBY_SECONDS", 0.05)
    monkeypatch.setattr(owner, "BEAT_SECONDS", 0.05)


@pytest.fixture
def frozen(monkeypatch, impatient):
    """Bots that say nothing by themselves, on a server that takes a second of silence for death."""
    monkeypatch.setattr(owner, "BEAT_SECONDS", 1_000)
    monkeypatch.setattr(owner, "SURE_SECONDS", 0.5)
    monkeypatch.setattr(owner, "SILENCE", "SET idle_session_timeout = '1s'")


@asynccontextmanager
async def bot_on(url, *, patience=20.0, standing_by=nullcontext):
    async with AsyncExitStack() as stack:
        database = Database(url, patience=patience)
        stack.push_async_callback(database.close)
        await stack.enter_async_context(sole_bot(database, standing_by))
        yield database


@asynccontextmanager
async def waiting_bot(url):
    """Another bot on it, which stands by; the event says when it has taken over."""
    stands_by, works, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def standing_by():
        stands_by.set()
        yield
        stands_by.clear()

    async def live():
        async with bot_on(url, standing_by=standing_by):
            assert not stands_by.is_set()
            works.set()
            await may_end.wait()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(live())
        await stands_by.wait()
        assert not works.is_set()
        yield works
        await works.wait()
        may_end.set()


def holders(postgres, name):
    with postgres.connection(name) as connection:
        query = (
            "SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database"
            " WHERE locktype = 'advisory' AND d.datname = %s"
        )
        return [pid for (pid,) in connection.execute(query, [name])]


async def until(condition):
    async with asyncio.timeout(30):
        while not (met := condition()):
            await asyncio.sleep(0.02)
    return met


async def test_a_second_bot_stands_by_until_the_first_has_ended(postgres, name, impatient, caplog):
    caplog.set_level("INFO")
    async with AsyncExitStack() as first:
        await first.enter_async_context(bot_on(postgres.url(name)))
        async with waiting_bot(postgres.url(name)):
            await first.aclose()

    told = [record.message for record in caplog.records if record.name == owner.__name__]
    assert told == ["standing by: another bot works on the database of DATABASE_URL", "taking over"]
    assert holders(postgres, name) == []


async def test_one_that_stands_by_can_be_told_to_end(postgres, name, impatient):
    async with bot_on(postgres.url(name)):
        entering, stack = asyncio.Event(), AsyncExitStack()

        @asynccontextmanager
        async def standing_by():
            entering.set()
            yield

        waiting = asyncio.create_task(stack.enter_async_context(bot_on(postgres.url(name), standing_by=standing_by)))
        await entering.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(holders(postgres, name)) == 1


async def test_a_server_that_goes_away_while_it_stands_by_is_no_fault_of_the_settings(postgres, name, impatient):
    async def stand_by(stands_by):
        @asynccontextmanager
        async def standing_by():
            stands_by.set()
            yield

        async with bot_on(postgres.url(name), patience=0.5, standing_by=standing_by):
            pass

    stands_by = asyncio.Event()
    with postgres.connection(name) as other:
        other.execute(f"SELECT pg_advisory_lock({owner.LOCK})")
        waiting = asyncio.create_task(stand_by(stands_by))
        await stands_by.wait()
        with postgres.away(), pytest.raises(DatabaseLost):
            await waiting


async def test_two_databases_of_a_server_have_a_bot_each(postgres, name):
    with postgres.database() as other:
        async with bot_on(postgres.url(name)), bot_on(postgres.url(other)):
            pass


async def test_a_lock_whose_connection_breaks_is_taken_again(postgres, name, impatient):
    async with bot_on(postgres.url(name)) as database:
        (pid,) = holders(postgres, name)
        postgres.execute(f"SELECT pg_terminate_backend({pid})")

        await until(lambda: [holder for holder in holders(postgres, name) if holder != pid])

        assert not database.lost.is_set()


async def test_a_lock_that_another_bot_has_taken_meanwhile_ends_this_one(postgres, name, impatient):
    async with bot_on(postgres.url(name), patience=0.5) as database:
        (pid,) = holders(postgres, name)
        # Queued behind the lock, so that it has it the moment it is free.
        with postgres.connection(name) as thief:
            stealing = asyncio.create_task(asyncio.to_thread(thief.execute, f"SELECT pg_advisory_lock({owner.LOCK})"))
            await until(lambda: len(holders(postgres, name)) == 2)
            postgres.execute(f"SELECT pg_terminate_backend({pid})")
            await stealing

            async with asyncio.timeout(30):
                await database.lost.wait()


async def test_a_bot_that_was_silent_too_long_is_followed_and_writes_nothing_more(postgres, name, frozen):
    async with opened(postgres.url(name)), bot_on(postgres.url(name)) as database:
        async with waiting_bot(postgres.url(name)) as works:
            await works.wait()

            with pytest.raises(DatabaseLost):
                await write(database)
            with pytest.raises(DatabaseLost):
                await database.confirm()

        assert database.lost.is_set()
    async with opened(postgres.url(name)) as database:
        assert await chats(database) == []


async def test_a_silent_bot_that_nobody_has_followed_goes_on(postgres, name, frozen):
    async with opened(postgres.url(name)), bot_on(postgres.url(name)) as database:
        await until(lambda: holders(postgres, name) == [])

        await write(database)

        assert len(holders(postgres, name)) == 1
        assert not database.lost.is_set()


async def test_who_asks_often_asks_the_server_seldom(postgres, name):
    async with bot_on(postgres.url(name)) as database:
        (pid,) = holders(postgres, name)
        postgres.execute(f"SELECT pg_terminate_backend({pid})")

        for _ in range(100):
            await database.confirm()

        assert not database.lost.is_set()


async def test_a_transaction_that_was_frozen_ends_before_the_lock_does(postgres, name):
    async with opened(postgres.url(name)) as database, database.transaction() as transaction:
        (limit,) = (await transaction.exec_driver_sql("SHOW idle_in_transaction_session_timeout")).one()
        assert limit == "7s"


async def test_a_server_that_went_away_for_good_ends_the_bot_that_only_waits(postgres, name, impatient):
    async with bot_on(postgres.url(name), patience=0.5) as database:
        with postgres.away():
            async with asyncio.timeout(30):
                await database.lost.wait()
