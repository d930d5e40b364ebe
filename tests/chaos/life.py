"""One life of a bot: the real fleet on the real database, as a process that ends when it is killed.

Only Telegram, LibertAI and what runs on machines are left out. Waiting is shortened to fit many lives into a test.
"""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import SecretStr

from bot.accounts.agents import Agents
from bot.accounts.chats import Chats
from bot.accounts.tools import ToolPolicy
from bot.accounts.users import Users
from bot.fleet import books, converge, fleet, lease
from bot.fleet.books import Books
from bot.fleet.configure import Configurer
from bot.fleet.converge import Converger, Inference
from bot.fleet.durable import Durable, step
from bot.fleet.fleet import Fleet
from bot.fleet.orphans import Orphans
from bot.machines.aleph import ledger, network
from bot.machines.aleph.ledger import Ledger
from bot.machines.aleph.network import Addresses, Network
from bot.machines.aleph.provider import AlephProvider, Ordered, Patience
from bot.machines.aleph.wallet import Wallet
from bot.machines.client import AgentClient
from bot.store.database import Database
from bot.store.vault import Vault
from tests.chaos.killer import Killer
from tests.chaos.machines import LightEngine
from tests.fakes.aleph_world import ROOTFS

KEY = SecretStr("0x" + "01" * 32)
CHANNEL = "BAAL-chaos"
RELEASE = "r1"
PATIENCE = Patience(process=1, place=1, forget=1, poll=0.05, watch=4)
ORPHAN_SECONDS, LOST_SECONDS = 2, 1


@dataclass(frozen=True, slots=True)
class Life:
    """What it is born with, and at which boundary it dies, passed for the `times`-th time; empty: when it is killed."""

    folder: Path
    aleph: str
    machines: str
    vault_key: str
    boundary: str = ""
    times: int = 1

    @property
    def database(self) -> str:
        return f"sqlite+aiosqlite:///{self.folder}/baal.sqlite"


def live(life: Life) -> None:
    """Until it is killed."""
    logging.basicConfig(filename=life.folder / "bot.log", level=logging.INFO)
    for name in ("httpx", "httpcore", "aiohttp", "aleph"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger(__name__).info("born to die %s", life.boundary)
    _hurry()
    asyncio.run(_live(life))


def _hurry() -> None:
    lease.RENEW_SECONDS, books.LEASE_SECONDS = 0.3, 3
    books.BACKOFF_SECONDS = 0.1
    converge.LEASE_POLL_SECONDS = converge.PROOF_PAUSE_SECONDS = 0.05
    fleet.SWEEP_SECONDS, fleet.ORPHANS_SECONDS = 0.3, 0.5
    ledger.AVOID_SECONDS = 0.3
    network.SYNC_SECONDS = network.READ_SECONDS = 2


async def _live(life: Life) -> None:
    killer = Killer(life.boundary, life.times, life.folder / "journal")
    database = Database(life.database)
    await database.open()
    async with httpx.AsyncClient(trust_env=False) as http:
        await _fleet(life, killer, database, http).start()
        await asyncio.Event().wait()


class Quiet:
    """Stands for LibertAI, and for the front end."""

    async def resolve(self, model: str) -> str:
        return model

    async def can_see(self, _model: str) -> bool | None:
        return False

    async def can_call_tools(self, _model: str) -> bool | None:
        return True

    async def show(self, _agent_id: int) -> None:
        return


def _provider(life: Life, killer: Killer, database: Database, http: httpx.AsyncClient) -> AlephProvider:
    addresses = Addresses(life.aleph, f"{life.aleph}/crns.json", life.aleph, life.aleph)
    return killer.watch(
        "provider",
        AlephProvider(
            killer.watch("network", Network(addresses, http)),
            killer.watch("ledger", Ledger(database)),
            killer.watch("wallet", Wallet(KEY, CHANNEL)),
            Ordered(rootfs=ROOTFS["debian12"], ssh_key="ssh-ed25519 AAAA"),
            channel=CHANNEL,
            patience=PATIENCE,
        ),
    )


def _fleet(life: Life, killer: Killer, database: Database, http: httpx.AsyncClient) -> Fleet:
    vault, quiet, client = Vault([life.vault_key]), Quiet(), AgentClient()
    agents = Agents(database, vault, release=RELEASE, limit=10**6)
    kept = killer.watch("books", Books(database))
    provider = _provider(life, killer, database, http)
    tools = ToolPolicy(quiet)  # type: ignore[arg-type]
    converger = Converger(
        books=kept,
        agents=agents,
        users=Users(database, vault),
        chats=killer.watch("chats", Chats(database)),
        provider=provider,
        engine=killer.watch("engine", LightEngine(life.machines, http)),
        client=client,
        libertai=quiet,  # type: ignore[arg-type]
        tools=tools,
        notifier=quiet,
        inference=Inference("http://127.0.0.1:9/v1", SecretStr("LTAI_operator")),
        step=step,
    )
    configurer = Configurer(kept, agents, client, quiet, tools)  # type: ignore[arg-type]
    orphans = Orphans(kept, provider, orphan_seconds=ORPHAN_SECONDS, lost_seconds=LOST_SECONDS)
    return Fleet(kept, Durable(f"sqlite:///{life.folder}/durable.sqlite"), converger, configurer, orphans)
