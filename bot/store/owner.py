"""One bot at a time on a Postgres database, wherever it runs: an advisory lock on a connection of its own."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from bot.errors import BadSettings, DatabaseLost
from bot.log import line
from bot.store.database import Database, server_options
from bot.store.reach import complaint, first_line, reach

log = logging.getLogger(__name__)

LOCK = "1650549100, 0"
"""`baal` in ASCII, as a number. Locks of two numbers never meet those of one, which `Database.lock` and DBOS take."""
HELD_SECONDS = 5.0
"""How long a bot that was just killed may keep the lock."""
BEAT_SECONDS = 2.0
ANSWER_SECONDS = 10.0
# A bot whose machine lost its power holds the lock until the server notices: after 25 s instead of two hours.
NOTICE = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"


@asynccontextmanager
async def sole_bot(database: Database) -> AsyncIterator[None]:
    """Keep other bots off this database; `BadSettings` if one is on it.

    A SQLite file is kept by its folder's lock.
    """
    if not database.is_server:
        yield
        return
    lock = _Lock(database)
    try:
        await lock.take(wait=HELD_SECONDS)
    except DatabaseLost as error:
        raise BadSettings(str(error)) from None
    keeping = asyncio.create_task(lock.keep(), name="database lock")
    try:
        yield
    finally:
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

    async def take(self, *, wait: float) -> None:
        """Take it, if need be after so many seconds; `BadSettings` if another bot keeps it."""
        deadline = time.monotonic() + wait
        while not await self._try():
            if time.monotonic() > deadline:
                raise BadSettings(
                    "another bot already runs on the database of DATABASE_URL; end it, or name another database"
                )
            await asyncio.sleep(0.2)

    async def keep(self) -> None:
        """Notice its loss, and take it again."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if await self._is_held():
                continue
            log.warning("database lock lost; taking it again")
            try:
                await self.release()
                await self.take(wait=self._database.patience)
            except Exception as error:  # noqa: BLE001  a job's top: whatever it was, the lock is not held
                self._database.give_up(error)
                return
            log.warning("database lock taken again")

    async def release(self) -> None:
        """Give it up with its connection."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _try(self) -> bool:
        connection = await reach(self._engine, patience=self._database.patience)
        try:
            await connection.exec_driver_sql(NOTICE)
            taken = (await connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({LOCK})")).scalar()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise BadSettings(complaint(error)) from error
            log.info(line("database went away again", why=first_line(error.orig)))
            taken = False
        if taken:
            self._connection = connection
        else:
            await connection.close()
        return bool(taken)

    async def _is_held(self) -> bool:
        assert self._connection is not None  # noqa: S101  taken before it is kept
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._connection.exec_driver_sql("SELECT 1")
        except (DBAPIError, TimeoutError):
            return False
        return True
