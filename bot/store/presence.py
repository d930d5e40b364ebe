"""Whether a bot runs on a database: for commands that leave the work to it."""

import asyncio
import fcntl
from pathlib import Path

from sqlalchemy import text

from bot.store.database import Database
from bot.store.owner import LOCK

CLASS, NUMBER = LOCK.split(", ")
HELD = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND classid = :kind AND objid = :number"
)


async def is_bot_running(database: Database, folder: Path) -> bool:
    """By the lock that it holds: on a server in the database, else on its data folder."""
    if not database.is_server:
        return await asyncio.to_thread(_is_held, folder / "lock")
    async with database.transaction() as transaction:
        return bool((await transaction.execute(text(HELD), {"kind": int(CLASS), "number": int(NUMBER)})).scalar())


def _is_held(lock: Path) -> bool:
    """It is asked for a moment only, and not alone, so that no start fails."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
