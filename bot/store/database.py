"""Open the database: SQLite by default, Postgres by URL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Insert, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlmodel import SQLModel
from sqlmodel.ext.asyncio.session import AsyncSession

from bot.store import models  # noqa: F401  registers the tables


class Database:
    """One engine; sessions for cold paths, plain Core transactions for per-message paths."""

    def __init__(self, url: str) -> None:
        self.engine: AsyncEngine = create_async_engine(url)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine.sync_engine, "connect", _tune_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_immediate)

    async def open(self) -> None:
        """Create what is missing."""
        async with self.engine.begin() as connection:
            await connection.run_sync(SQLModel.metadata.create_all)

    async def close(self) -> None:
        await self.engine.dispose()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session of one transaction: committed at the end of the block, rolled back on an exception."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """The same without the object mapper: five times cheaper, for what happens with every message."""
        async with self.engine.begin() as connection:
            yield connection

    def insert_new(self, table: type[SQLModel], values: dict[str, Any] | list[dict[str, Any]]) -> Insert:
        """An INSERT that passes over rows that are there already."""
        if self.engine.dialect.name == "postgresql":
            return postgresql.insert(table).values(values).on_conflict_do_nothing()
        return sqlite.insert(table).values(values).on_conflict_do_nothing()


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself: it would begin them without the write lock (see below).
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA busy_timeout=30000")


def _begin_immediate(connection: Any) -> None:
    # A deferred transaction that reads and then writes fails with "database is locked" when another wrote in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
