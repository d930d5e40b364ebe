"""Open the database: SQLite by default, Postgres by URL."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

from sqlalchemy import URL, Insert, event, func, inspect, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from bot.errors import BadSettings, DatabaseLost
from bot.store import models, records  # noqa: F401  registers the tables
from bot.store.migrations import migrate
from bot.store.reach import complaint, first_line, reach

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""How long a server may be away: it starts together with the bot, or is restarted under it."""
# `pool_pre_ping`: a connection that died while nobody used it is replaced before anything is said on it.
POOL = {"pool_size": 10, "max_overflow": 10, "pool_pre_ping": True, "isolation_level": "READ COMMITTED"}
# Without `client_encoding`, a database that has none answers in bytes.
# A server that fell silent is noticed in half a minute, not in two hours.
CONNECT = {
    "application_name": "baal",
    "client_encoding": "utf8",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


class FileConnection(sqlite3.Connection):
    """Its write lock ends with it.

    SQLAlchemy closes the connection of a cancelled task. As long as anything refers to an unfinished SELECT (the task's
    exception does, by its traceback) SQLite only pretends to, and nobody else can write: sqlite.org/c3ref/close.html.
    """

    def close(self) -> None:
        """End the transaction, then the connection."""
        with suppress(sqlite3.ProgrammingError):  # closed before
            self.rollback()
        super().close()


class Database:
    """One engine; sessions for cold paths, plain Core transactions for per-message paths.

    A server that is away is waited for. A connection that breaks in a transaction is not mended: `lost` is set, and the
    bot has to be started again, which goes on from the rows.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE_SECONDS) -> None:
        self.patience = patience
        self.lost = asyncio.Event()
        self._given_back: set[asyncio.Future[None]] = set()
        self.confirm: Callable[[], Awaitable[None]] = nobody_else
        """Returns if no other bot works on it: asked before each transaction, and before others hear of us."""
        self.is_server = make_url(url).get_backend_name() == "postgresql"
        options = (
            POOL | server_options(make_url(url)) if self.is_server else {"connect_args": {"factory": FileConnection}}
        )
        # What people write, and their sealed keys, are parameters: not for the log.
        self.engine: AsyncEngine = create_async_engine(url, hide_parameters=True, **options)
        if self.is_server:
            event.listen(self.engine.sync_engine, "handle_error", _call_it_lost)
            event.listen(self.engine.sync_engine, "connect", _tune_server)
        else:
            event.listen(self.engine.sync_engine, "connect", _tune_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_immediate)

    async def open(self) -> None:
        """Add what is missing, alone. `BadSettings` if this database cannot be used."""
        try:
            self._knock()
            async with self._reached() as connection, connection.begin():
                await self._check_encoding(connection)
                await self.lock(connection, "tables", 0)
                await connection.run_sync(migrate)
        except DatabaseLost as error:
            raise BadSettings(str(error)) from None
        except DBAPIError as error:
            raise BadSettings(complaint(error)) from None

    def _knock(self) -> None:
        """Open a file once ourselves: where that fails, aiosqlite's thread outlives the loop and complains."""
        file = self.engine.url.database
        if self.is_server or not file:
            return
        try:
            sqlite3.connect(file).close()
        except sqlite3.Error as error:
            raise BadSettings(complaint(DBAPIError("connect", None, error))) from None

    async def close(self) -> None:
        # Who is cancelled while it gives its connection back does not wait for that.
        await asyncio.gather(*self._given_back, return_exceptions=True)
        await self.engine.dispose()

    async def trouble(self) -> str:
        """Empty: it takes transactions (SQLite gives the write lock for each). It raises what is wrong."""
        async with self.transaction() as transaction:
            await transaction.execute(select(1))
        return ""

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session of one transaction: committed at the end of the block, rolled back on an exception."""
        async with (
            self._connection() as connection,
            AsyncSession(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """The same without the object mapper: five times cheaper, for what happens with every message."""
        async with self._connection() as connection, connection.begin():
            yield connection

    async def lock(self, transaction: AsyncConnection, name: str, number: int) -> None:
        """Until this transaction ends, others that name the same wait here: for reading before writing.

        SQLite has one writer at a time anyway.
        """
        if self.is_server:
            key = func.hashtextextended(f"{name} {number}", 0)
            await transaction.execute(select(func.pg_advisory_xact_lock(key)))

    def insert_new(self, table: type[SQLModel], values: dict[str, Any] | list[dict[str, Any]]) -> Insert:
        """An INSERT that passes over rows that are there already."""
        insert: Insert = self._insert(table).values(values).on_conflict_do_nothing()
        return insert

    def insert_or_replace(self, row: SQLModel) -> Insert:
        """An INSERT that overwrites the row with the same key."""
        table = type(row)
        insert, keys = self._insert(table).values(row.model_dump()), inspect(table).primary_key
        changed = {name: insert.excluded[name] for name in table.model_fields}
        replacing: Insert = insert.on_conflict_do_update(index_elements=keys, set_=changed)
        return replacing

    def give_up(self, reason: Exception) -> None:
        """The database cannot be used any more: say why, and have the bot ended."""
        if not self.lost.is_set():
            log.error("database lost: %s", reason)
            self.lost.set()

    def _insert(self, table: type[SQLModel]) -> Any:
        return (postgresql if self.is_server else sqlite).insert(table)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        try:
            await self.confirm()
            async with self._reached() as connection:
                yield connection
        except DatabaseLost as error:
            self.give_up(error)
            raise

    @asynccontextmanager
    async def _reached(self) -> AsyncIterator[AsyncConnection]:
        patience = self.patience if self.is_server else 0
        connection = await reach(self.engine, patience=patience, ending=self._given_back)
        try:
            yield connection
        finally:
            giving_back = asyncio.ensure_future(connection.close())
            self._given_back.add(giving_back)
            giving_back.add_done_callback(self._given_back.discard)
            await asyncio.shield(giving_back)

    async def _check_encoding(self, transaction: AsyncConnection) -> None:
        if not self.is_server:
            return
        encoding = (await transaction.exec_driver_sql("SHOW server_encoding")).scalar()
        if encoding != "UTF8":
            raise BadSettings(
                f"DATABASE_URL: the database is encoded as {encoding} and cannot hold every character. "
                "Make another: createdb --encoding=UTF8 --template=template0."
            )


async def nobody_else() -> None:
    """There can be no other bot on it, or that does not matter."""


def _call_it_lost(context: ExceptionContext) -> None:
    # A ping that fails is no loss: the pool replaces that connection. Nor is a cancelled task, although SQLAlchemy
    # throws its connection away.
    is_servers = isinstance(context.sqlalchemy_exception, DBAPIError) and not context.is_pre_ping
    if is_servers and context.is_disconnect:
        raise DatabaseLost(
            f"the connection broke: {first_line(context.original_exception)}"
        ) from context.original_exception


def server_options(url: URL) -> dict[str, Any]:
    """How to connect to a Postgres server; what the URL says itself comes first."""
    return {"connect_args": {name: value for name, value in CONNECT.items() if name not in url.query}}


def _tune_server(connection: Any, _record: Any) -> None:
    # A bot that was frozen in a transaction keeps its locks no longer than the right to work (bot.store.owner).
    with closing(connection.cursor()) as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = '7s'")
    connection.commit()


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself: it would begin them without the write lock (see below).
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA busy_timeout=30000")


def _begin_immediate(connection: Any) -> None:
    # A deferred transaction that reads and then writes fails with "database is locked" when another wrote in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
