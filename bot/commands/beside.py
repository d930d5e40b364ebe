"""What the operator's commands share: the database of the bot that runs, and who gives the command."""

import getpass
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import make_url

from bot.errors import BadSettings
from bot.settings import Settings
from bot.store.database import Database

PATIENCE_SECONDS = 5.0
NOBODY_ACTS = "No bot runs on this database now: it goes on when one does."


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """The database; `BadSettings` if it is not there: a command that makes one has the wrong settings."""
    url = make_url(settings.database)
    database = Database(settings.database, patience=PATIENCE_SECONDS)
    if not database.is_server and not _is_there(url.database or ""):
        raise BadSettings(f"there is no database {url.database}: start the bot once, or correct DATA_DIR")
    try:
        await database.open()
        yield database
    finally:
        await database.close()


def _is_there(path: str) -> bool:
    return Path(path).exists()


def user() -> str:
    """Who is logged in; in a container, where nobody has a name, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
