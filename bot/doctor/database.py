"""Whether the database opens, and the keys open what is in it. Nothing is made or changed here."""

import asyncio
import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection, create_engine, func, inspect, make_url, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from bot.doctor.checks import Check, Once
from bot.doctor.findings import Skipped, Wrong
from bot.errors import Undecryptable
from bot.settings import POSTGRES, Settings, encryption_keys
from bot.store.database import server_options
from bot.store.models import Agent, Keepsake, User
from bot.store.owner import LOCK
from bot.store.reach import complaint
from bot.store.vault import Vault

SECONDS = 5
LOOKED_AT = 1_000
"""Secrets of each kind, the newest: enough to see that a key is missing."""
SEALED: tuple[tuple[Any, Any], ...] = (
    (Keepsake, Keepsake.sealed),
    (Agent, Agent.sealed_secret),
    (User, User.sealed_key),
)
LOCK_QUERY = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND "
CLASS, NUMBER = LOCK.split(", ")


@dataclass(frozen=True, slots=True)
class Content:
    """What was read of it. `host_keys` are those of own servers at the first contact, by `host:port`."""

    version: str
    agents: int
    sealed: list[str]
    host_keys: dict[str, str]
    is_in_use: bool


def reading(settings: Settings) -> Once[Content | None]:
    """Its content; None: there is no database yet."""
    return Once(lambda: asyncio.to_thread(_read, settings))


def checks(settings: Settings, read: Once[Content | None]) -> list[Check]:
    """The database and the secrets in it."""

    async def secrets() -> str:
        content = await read.given("the database does not open")
        return await asyncio.to_thread(_open_all, content.sealed if content else [], settings)

    async def database() -> str:
        content = await read.get()
        return _told(content) if content else "SQLite, made at the first start"

    needs = ("data_dir", "database_url")
    return [Check("database", database, needs), Check("secrets", secrets, (*needs, "bot_encryption_key"))]


def _told(content: Content) -> str:
    used = "a bot runs on it" if content.is_in_use else "no bot runs on it now"
    return f"{content.version}, agents: {content.agents}; {used}"


def _read(settings: Settings) -> Content | None:
    """None: there is no file yet."""
    url = make_url(settings.database)
    is_server = settings.database.startswith(POSTGRES)
    if not is_server and not _is_there(Path(url.database or ""), settings.data_dir.resolve()):
        return None
    try:
        with _connected(settings) as connection:
            if is_server:
                in_use = bool(connection.scalar(text(f"{LOCK_QUERY}classid = {CLASS} AND objid = {NUMBER}")))
            else:
                in_use = _is_locked(settings.data_dir / "lock")
            return _content(connection, is_in_use=in_use)
    except DBAPIError as error:
        raise Wrong(complaint(error)) from None
    except SQLAlchemyError:
        raise Wrong("DATABASE_URL cannot be used; .env.example shows one") from None


def _is_there(file: Path, data: Path) -> bool:
    """Whether there is something in it; `Wrong` if the bot cannot make it."""
    folder = file.parent
    try:
        # The bot makes its data folder, and no other.
        if not folder.is_dir() and (folder.exists() or folder != data):
            raise Wrong(
                f"{folder} is no folder: make it, or correct {'DATA_DIR' if folder == data else 'DATABASE_URL'}"
            )
        return file.exists() and file.stat().st_size > 0
    except OSError as error:
        raise Wrong(f"{file} cannot be opened ({error.strerror}): let the bot's user own it") from None


@contextmanager
def _connected(settings: Settings) -> Iterator[Connection]:
    """By a driver that waits in this thread, and for a few seconds only."""
    url = make_url(settings.database)
    if url.get_backend_name() == "postgresql":
        options = server_options(url)
        options["connect_args"] |= {"connect_timeout": SECONDS, "options": f"-c statement_timeout={SECONDS}s"}
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True, **options)
    else:
        path = Path(url.database or "").absolute().as_uri()
        engine = create_engine(
            "sqlite://", poolclass=NullPool, creator=lambda: _sqlite(f"{path}?mode=rw"), hide_parameters=True
        )
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _sqlite(uri: str) -> sqlite3.Connection:
    """Opened as the bot opens it, with the write lock taken and let go again: a file may be there and not be ours."""
    connection = sqlite3.connect(uri, uri=True, timeout=SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _is_locked(lock: Path) -> bool:
    """Whether a bot holds the data folder. It is asked for a moment only, and not alone, so that no start fails."""
    try:
        with lock.open() as file, closing(file):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _content(connection: Connection, *, is_in_use: bool) -> Content:
    tables = set(inspect(connection).get_table_names())
    rows: list[str] = []
    for table, column in SEALED:
        if table.__tablename__ in tables:
            newest = select(column).where(column.is_not(None)).order_by(table.created_at.desc())
            rows += connection.scalars(newest.limit(LOOKED_AT))
    pinned = connection.execute(text("SELECT server, key FROM host_key")) if "host_key" in tables else ()
    host_keys = {str(server): str(key) for server, key in pinned}
    agents = connection.scalar(select(func.count()).select_from(Agent)) if "agent" in tables else 0
    dialect = connection.dialect
    name = {"postgresql": "Postgres", "sqlite": "SQLite"}[dialect.name]
    version = ".".join(map(str, dialect.server_version_info or ()))
    return Content(f"{name} {version}", agents or 0, rows, host_keys, is_in_use)


def _open_all(sealed: list[str], settings: Settings) -> str:
    if not sealed:
        raise Skipped("nothing is stored yet")
    vault = Vault(encryption_keys(settings.bot_encryption_key))
    shut = sum(not _opens(vault, each) for each in sealed)
    if shut:
        raise Wrong(
            f"{shut} of {len(sealed)} do not open with BOT_ENCRYPTION_KEY: put the old key back, last, after a comma"
        )
    return f"all {len(sealed)} open with BOT_ENCRYPTION_KEY"


def _opens(vault: Vault, sealed: str) -> SecretStr | None:
    try:
        return vault.open(sealed)
    except Undecryptable:
        return None
