"""Connect to a server that may be starting or restarting, and say in one line why there is no connection."""

import asyncio
import logging
import re
import time

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bot.errors import DatabaseLost
from bot.log import line

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
# libpq keeps the SQLSTATE of a refused connection to itself, so its words have to do. What is not listed here is waited
# for: that costs some seconds, while giving up on a server that is starting would cost the bot.
FINAL = (
    ("unable to open", "It is in DATA_DIR unless DATABASE_URL says otherwise: let this user write there."),
    ("certificate", "Correct its sslmode and sslrootcert."),
    ("password", "Correct user and password in it; write special characters as %40 and the like."),
    ("authentication", "Correct user and password in it."),
    ("pg_hba.conf", "Let this host in, in the server's pg_hba.conf."),
    ("does not exist", "Create what it names (`createdb`), or correct the name."),
    ("SSL was required", "Correct its sslmode."),
    ("invalid", "Correct it; .env.example shows one."),
    ("permission denied", "Make its user the database's owner: ALTER DATABASE … OWNER TO …."),
    ("read-only", "Name the primary server, not a copy of it."),
)
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
OTHERWISE = "Start the server, or correct host and port."


async def reach(engine: AsyncEngine, *, patience: float, ending: set[asyncio.Future[None]]) -> AsyncConnection:
    """A connection, waited for so many seconds; `DatabaseLost` says why there is none.

    In `ending` are those that are closed because nobody waits for them any more.
    """
    deadline, pause = time.monotonic() + patience, FIRST_PAUSE_SECONDS
    while True:
        try:
            return await _connect(engine, ending)
        except DBAPIError as error:
            if _final_advice(error) or time.monotonic() + pause > deadline:
                raise DatabaseLost(complaint(error)) from error
            if pause == FIRST_PAUSE_SECONDS:
                log.warning(line("waiting for the database", why=first_line(error.orig)))
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


async def _connect(engine: AsyncEngine, ending: set[asyncio.Future[None]]) -> AsyncConnection:
    connecting = asyncio.ensure_future(_connected(engine))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        # Half a connection would be closed by nobody. A server that says nothing holds this up for `connect_timeout`.
        closing = asyncio.ensure_future(_close(connecting))
        ending.add(closing)
        closing.add_done_callback(ending.discard)
        # Who is cancelled again does not wait for it; it is closed all the same.
        await asyncio.shield(closing)
        raise


async def _close(connecting: asyncio.Future[AsyncConnection]) -> None:
    await asyncio.wait({connecting})
    if not connecting.cancelled() and connecting.exception() is None:
        await connecting.result().close()


async def _connected(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()


def complaint(error: DBAPIError) -> str:
    """What is wrong and what to do, for the operator. No server repeats a password."""
    return f"DATABASE_URL: {first_line(error.orig)}. {_final_advice(error) or OTHERWISE}"


def _final_advice(error: DBAPIError) -> str | None:
    """What to do where waiting does not help. Names in quotes are the operator's, and say nothing."""
    words = QUOTED.sub("", first_line(error.orig))
    return next((advice for word, advice in FINAL if word in words), None)


def first_line(error: BaseException | None) -> str:
    """What the driver says; the rest of it are guesses of its own."""
    first = str(error).strip().partition("\n")[0]
    return first.removeprefix("connection failed: ").removeprefix("connection is bad: ").rstrip(".")
