"""One bot at a time works on a Postgres database, wherever it runs; others stand by, and one takes over when it dies.

An advisory lock on a connection of its own says who works. The server ends that connection, and with it the lock, when
nothing was said on it for ten seconds: a bot that was frozen, or lost its machine, keeps it no longer. So who has
not asked lately, by the clock that also goes while a machine sleeps, does not know whether it is still the one: before
every transaction and every call to Telegram it asks first (`Database.confirm`).
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from bot.errors import BadSettings, DatabaseLost
from bot.log import line
from bot.store.database import Database, nobody_else, server_options
from bot.store.reach import complaint, first_line, reach

log = logging.getLogger(__name__)

LOCK = "1650549100, 0"
"""`baal` in ASCII, as a number. Locks of two numbers never meet those of one, which `Database.lock` and DBOS take."""
BEAT_SECONDS = 2.0
SURE_SECONDS = 6.0
"""So long after a beat it is certain that the server has not given the lock to another bot."""
ANSWER_SECONDS = 10.0
STANDBY_SECONDS = 1.0
"""How often one that stands by tries."""
# Servers before 14 cannot end silent connections. There a frozen bot keeps the lock, and one whose machine lost its
# power until the server notices: after 25 s instead of two hours.
NOTICE = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
SILENCE = "SELECT set_config(name, '10s', false) FROM pg_settings WHERE name = 'idle_session_timeout'"

StandingBy = Callable[[], AbstractAsyncContextManager[None]]


def _clock() -> float:
    """Goes on while the machine sleeps, where there is such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@asynccontextmanager
async def sole_bot(database: Database, standing_by: StandingBy = nullcontext) -> AsyncIterator[None]:
    """Wait until no other bot works on this database, and keep others off. While it waits it is in `standing_by()`.

    `BadSettings` if the database cannot be used; `DatabaseLost` if it goes away while another bot works on it. A SQLite
    file is kept by its folder's lock.
    """
    if not database.is_server:
        yield
        return
    lock = _Lock(database)
    await lock.take(standing_by)
    database.confirm = lock.confirm
    keeping = asyncio.create_task(lock.keep(), name="database lock")
    try:
        yield
    finally:
        database.confirm = nobody_else
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await lock.release()


class _Lock:
    """The lock lives as long as its connection. Lost, it is taken again; taken by another, this bot is told to end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Not the database's own pool: a loss here is mended, a loss there ends the bot.
        self._engine = create_async_engine(
            database.engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT", **server_options(database.engine.url)
        )
        self._connection: AsyncConnection | None = None
        self._ending: set[asyncio.Future[None]] = set()
        self._sure_until = 0.0
        self._asking = asyncio.Lock()

    async def take(self, standing_by: StandingBy) -> None:
        """Take it, however long another bot has it."""
        is_taken = False
        try:
            is_taken = await self._first_try()
            if not is_taken:
                await self._stand_by(standing_by)
                is_taken = True
        finally:
            if not is_taken:
                await self.release()

    async def keep(self) -> None:
        """Say something before the server takes silence for death; the database is given up once the lock is lost."""
        while not self._database.lost.is_set():
            await asyncio.sleep(BEAT_SECONDS)
            with suppress(DatabaseLost):
                async with self._asking:
                    await self._beat()

    async def confirm(self) -> None:
        """Return once it is certain that the lock is held; `DatabaseLost` if it is not."""
        while _clock() >= self._sure_until:
            async with self._asking:
                if _clock() >= self._sure_until:
                    await self._beat()

    async def release(self) -> None:
        """Give it up with its connection."""
        self._sure_until = 0.0
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _first_try(self) -> bool:
        try:
            return await self._try()
        except DatabaseLost as error:
            raise BadSettings(str(error)) from None

    async def _stand_by(self, standing_by: StandingBy) -> None:
        log.info("standing by: another bot works on the database of DATABASE_URL")
        async with standing_by():
            while not await self._try():  # noqa: ASYNC110  a fact in the database
                await asyncio.sleep(STANDBY_SECONDS)
        log.info("taking over")

    async def _beat(self) -> None:
        if self._database.lost.is_set():
            raise DatabaseLost("another bot may work on the database by now")
        began = _clock()
        try:
            if await self._answers():
                self._sure_until = began + SURE_SECONDS
            else:
                await self._take_again()
        except Exception as error:
            lost = error if isinstance(error, DatabaseLost) else DatabaseLost(f"{type(error).__name__}: {error}")
            self._database.give_up(lost)
            raise lost from error

    async def _take_again(self) -> None:
        log.warning("database lock lost; taking it again")
        await self.release()
        # Whoever has it works by now: this bot must not go on, not even until that one has ended.
        if not await self._try():
            raise DatabaseLost("another bot works on the database")
        log.warning("database lock taken again")

    async def _try(self) -> bool:
        began = _clock()
        try:
            connection = self._connection or await self._connect()
            is_taken = bool((await connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({LOCK})")).scalar())
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise BadSettings(complaint(error)) from error
            log.info(line("database went away again", why=first_line(error.orig)))
            await self.release()
            return False
        if is_taken:
            self._sure_until = began + SURE_SECONDS
        return is_taken

    async def _connect(self) -> AsyncConnection:
        self._connection = await reach(self._engine, patience=self._database.patience, ending=self._ending)
        await self._connection.exec_driver_sql(NOTICE)
        await self._connection.exec_driver_sql(SILENCE)
        return self._connection

    async def _answers(self) -> bool:
        assert self._connection is not None  # noqa: S101  taken before it is kept
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._connection.exec_driver_sql("SELECT 1")
        except (DBAPIError, TimeoutError):
            return False
        return True
