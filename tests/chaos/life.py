"""One life of a bot: the real fleet, snapshots, pool, rollouts and conversations on the real database, as a process
that ends when it is killed.

Only Telegram, LibertAI and what runs on machines are left out. Waiting is shortened to fit many lives into a test.
"""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

import httpx

from bot.chat import route, run
from bot.fleet import (
    books,
    converge,
    deploy,
    fleet,
    lease,
    machine_rows,
    pool,
    pool_plan,
    pool_work,
    probes,
    safety,
    transfer,
)
from bot.machines.aleph import ledger, network
from bot.store.database import Database
from tests.chaos.bot import Bot
from tests.chaos.conversation import LOOK_SECONDS as CHATS_SECONDS
from tests.chaos.journal import Journal
from tests.chaos.killer import Killer
from tests.chaos.switches import Switches


@dataclass(frozen=True, slots=True)
class Life:
    """What it is born with, and at which boundary it dies, passed for the `times`-th time; empty: when it is killed."""

    folder: Path
    aleph: str
    machines: str
    vault_key: str
    pool_size: int = 0
    boundary: str = ""
    times: int = 1

    @property
    def database(self) -> str:
        return f"sqlite+aiosqlite:///{self.folder}/baal.sqlite"


def live(life: Life) -> None:
    """Until it is killed."""
    logging.basicConfig(
        filename=life.folder / "bot.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for name in ("httpx", "httpcore", "aiohttp", "aleph"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger(__name__).info("born to die %s", life.boundary)
    _hurry()
    asyncio.run(_live(life))


def _hurry() -> None:
    lease.RENEW_SECONDS, machine_rows.LEASE_SECONDS = 0.3, 3
    vars(books)["LEASE_SECONDS"] = 3
    books.BACKOFF_SECONDS = 0.1
    converge.LEASE_POLL_SECONDS = deploy.PROOF_PAUSE_SECONDS = 0.05
    deploy.HEALINGS_SECONDS = 10
    fleet.SWEEP_SECONDS, fleet.ORPHANS_SECONDS, fleet.READY_POLL_SECONDS = 0.3, 0.5, 0.05
    ledger.AVOID_SECONDS = 0.3
    network.SYNC_SECONDS = network.READ_SECONDS = 2
    pool.LOOK_SECONDS, pool_work.CHECK_SECONDS, pool_work.RETRY_SECONDS = 0.3, 2, 0.3
    pool_plan.QUARANTINE_SECONDS = 2
    probes.ROUND_SECONDS, probes.STORM_SECONDS = 1, 5
    safety.LOOK_SECONDS, safety.AGAIN_SECONDS = 0.3, 0.3
    transfer.CALM_POLL_SECONDS, transfer.RESCUE_SECONDS = 0.05, 5
    run.HELD_LOOK_SECONDS = 0.2
    route.MOVED_POLL_SECONDS = 0.05


async def _live(life: Life) -> None:
    journal = Journal(life.folder / "journal")
    killer = Killer(life.boundary, life.times, journal)
    database = Database(life.database)
    await database.open()
    async with httpx.AsyncClient(trust_env=False) as http:
        bot = Bot(life, killer, journal, switches=Switches(life.folder), database=database, http=http)
        await bot.fleet.start()
        while True:
            await bot.conversation.look()
            await asyncio.sleep(CHATS_SECONDS)
