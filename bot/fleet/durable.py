"""Run a converge once per (agent, generation, attempt), and go on with it after a crash. The one file that knows DBOS.

DBOS's database is disposable: it holds only the steps in flight. The truth is in our own tables, and the sweep submits
again whatever is not as wanted.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn, Protocol

from dbos import DBOS, DBOSConfig, SetWorkflowID
from sqlalchemy import Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from bot.errors import BadSettings
from bot.log import line
from bot.store.database import server_options
from bot.store.reach import complaint

log = logging.getLogger(__name__)

APPLICATION_VERSION = "3"
"""To be counted up when the steps of work in flight have changed. By default it is a hash of the code, and work begun
before any edit would stay pending for ever."""

STOP_SECONDS = 5
CONNECTIONS = 10
SCHEMA = "dbos"
NO_WORKFLOW = "none"
"""An id that no attempt has."""
ENDED = {"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}
KEPT_SECONDS = 14 * 86_400.0
"""So long it can be looked up how an attempt went."""
TIDY_SECONDS = 86_400.0
TIDY_END_SECONDS = 5.0
BATCH = 500


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one wish of an agent."""

    agent_id: int
    generation: int
    number: int

    @property
    def id(self) -> str:
        """The same try has the same id, so that it is never run twice at once."""
        return f"converge-{self.agent_id}-{self.generation}-{self.number}"


Converge = Callable[[Attempt], Awaitable[None]]


class Step(Protocol):
    """Runs a step of the converge in flight."""

    async def __call__[T](self, name: str, function: Callable[[], Awaitable[T]], /) -> T:
        """What it returned; it is kept."""


async def step[T](name: str, function: Callable[[], Awaitable[T]], /) -> T:
    """Run a step of the converge in flight: done before a crash, it is passed over afterwards; in flight, run again.

    What it returned the first time is returned ever after.
    """

    async def run() -> T:
        # DBOS awaits only what is declared async; a lambda that returns a coroutine would be "done" without running.
        return await function()

    return await DBOS.run_step_async({"name": name}, run)


class Durable:
    """DBOS on SQLite, or on Postgres in a schema `dbos` of its own. One per process: DBOS is global."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._run: Any = None
        self._engine: Engine | None = None
        self._tidying: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()

    async def start(self, converge: Converge) -> None:
        """Open the database and go on with what was in flight when the last process died.

        `BadSettings` if the database does not let us make our tables.
        """

        async def run(agent_id: int, generation: int, number: int) -> None:
            await converge(Attempt(agent_id, generation, number))

        config = self._config()
        try:
            if self._engine:
                _make_schema(self._engine)
            DBOS(config=config)
            self._run = DBOS.workflow(name="converge")(run)
            # On this thread: its loop becomes the one that workflows run on.
            DBOS.launch()
            await self._cancel_other_versions()
        except DBAPIError as error:
            raise BadSettings(complaint(error)) from error
        self._ending.clear()
        self._tidying = asyncio.create_task(self._tidy_until_the_end(), name="durable history")

    async def submit(self, attempt: Attempt) -> None:
        """Start it; one that was submitted before is left as it is."""
        with SetWorkflowID(attempt.id):
            await DBOS.start_workflow_async(self._run, attempt.agent_id, attempt.generation, attempt.number)

    async def has_ended(self, attempt: Attempt) -> bool:
        """It was submitted and is over, well or badly."""
        status = await DBOS.get_workflow_status_async(attempt.id)
        return status is not None and status.status in ENDED

    async def trouble(self) -> str:
        """What keeps it from working; empty if nothing does. It raises what is wrong with its database."""
        if self._run is None:
            return "not started"
        await DBOS.get_workflow_status_async(NO_WORKFLOW)
        return ""

    async def gc(self, *, now: float | None = None) -> int:
        """Forget work that ended two weeks ago; how many attempts that were."""
        before = datetime.fromtimestamp((time.time() if now is None else now) - KEPT_SECONDS, UTC)
        count = 0
        while True:
            old = await DBOS.list_workflows_async(
                status=sorted(ENDED),
                completed_before=before.isoformat(),
                limit=BATCH,
                load_input=False,
                load_output=False,
            )
            if not old or self._ending.is_set():
                return count
            await DBOS.delete_workflows_async([each.workflow_id for each in old])
            count += len(old)

    async def stop(self) -> None:
        """Wait a moment for running work; the next start goes on with what is left."""
        self._ending.set()
        if self._tidying:
            # Cancelled at once, its thread would go on with a connection that nobody closes.
            await asyncio.wait({self._tidying}, timeout=TIDY_END_SECONDS)
            self._tidying.cancel()
        await asyncio.to_thread(DBOS.destroy, destroy_registry=True, workflow_completion_timeout_sec=STOP_SECONDS)
        self._run = None
        # DBOS made its own, now closed, executor this loop's default.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        if self._engine:
            # A thread of DBOS that lost its connection would look for another one for ever, and keep the process alive.
            event.listen(self._engine, "do_connect", _refuse)
            self._engine.dispose()

    async def _cancel_other_versions(self) -> None:
        """DBOS never goes on with them, and does not say so: cancelled, the sweep begins them anew."""
        pending = await DBOS.list_workflows_async(status="PENDING", load_input=False, load_output=False)
        others = [each.workflow_id for each in pending if each.app_version != APPLICATION_VERSION]
        if others:
            log.info(line("work of another version begins anew", attempts=",".join(others)))
            await DBOS.cancel_workflows_async(others)

    async def _tidy_until_the_end(self) -> None:
        while not self._ending.is_set():
            try:
                if count := await self.gc():
                    log.info(line("durable history tidied", attempts=count))
            except Exception as error:  # noqa: BLE001  a loop's top: done again tomorrow
                log.warning(line("durable history not tidied", why=error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), TIDY_SECONDS)

    def _config(self) -> DBOSConfig:
        config: DBOSConfig = {
            "name": "baal",
            "application_version": APPLICATION_VERSION,
            # The same after a restart, which recovers what this name has begun; there is one bot on a database.
            "executor_id": "local",
            "log_level": "WARNING",
            "enable_otlp": False,
        }
        if self._url.startswith("postgresql"):
            config["system_database_engine"] = self._engine = self._server_engine()
            config["dbos_system_schema"] = SCHEMA
            return config
        config["system_database_url"] = self._url
        if sqlite3.sqlite_version_info < (3, 42):
            config["db_engine_kwargs"] = {"connect_args": {"factory": SubsecondConnection}}
        return config

    def _server_engine(self) -> Engine:
        # DBOS's own engine would look into the database `postgres` first, and create ours if it is not there.
        options = server_options(make_url(self._url))
        return create_engine(self._url, pool_size=CONNECTIONS, max_overflow=0, pool_pre_ping=True, **options)


def _make_schema(engine: Engine) -> None:
    # DBOS would make it too, but writes pages into the log when it may not.
    with engine.begin() as connection:
        if not inspect(connection).has_schema(SCHEMA):
            connection.execute(CreateSchema(SCHEMA))


def _refuse(*_args: Any) -> NoReturn:
    raise RuntimeError("the durable engine has stopped")


class SubsecondConnection(sqlite3.Connection):
    """A connection of SQLite < 3.42 (Debian 12) whose `unixepoch` knows 'subsec'.

    DBOS's column defaults call `unixepoch('subsec')`, which older versions answer with NULL: its first insert fails.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.create_function("unixepoch", -1, lambda *_: time.time())
