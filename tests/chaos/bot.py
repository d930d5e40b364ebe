"""The bot's services, put together as `bot.app` does it, without its front end."""

from typing import TYPE_CHECKING, Any

import httpx
from pydantic import SecretStr

from bot.accounts.agents import Agents
from bot.accounts.chats import Chats
from bot.accounts.limits import Limits
from bot.accounts.tools import ToolPolicy
from bot.accounts.users import Users
from bot.chat.alarms import Alarms
from bot.chat.files import Files
from bot.chat.route import Route
from bot.chat.turns import Turns
from bot.errors import StoreAway
from bot.fleet.books import Books
from bot.fleet.configure import Configurer
from bot.fleet.converge import Converger
from bot.fleet.deploy import Deployer
from bot.fleet.durable import Durable, step
from bot.fleet.fleet import Fleet
from bot.fleet.moves import Moves
from bot.fleet.notices import OPERATOR, Notices
from bot.fleet.orphans import Orphans
from bot.fleet.pool import Pool, Ports
from bot.fleet.pool_books import PoolBooks
from bot.fleet.probes import Probes
from bot.fleet.rollout.ports import Unpaid
from bot.fleet.rollout.probes import AgentProbes
from bot.fleet.rollout.runner import Runner
from bot.fleet.rollout.watcher import Watcher as RolloutWatcher
from bot.fleet.safety import Safety
from bot.fleet.shelf import Shelf
from bot.fleet.snapshots import Snapshots
from bot.fleet.specs import Inference, Specs
from bot.fleet.transfer import Transfer
from bot.machines.aleph.ledger import Ledger
from bot.machines.aleph.network import Addresses, Network
from bot.machines.aleph.provider import AlephProvider, Ordered, Patience
from bot.machines.aleph.wallet import Wallet
from bot.machines.client import AgentClient
from bot.store.database import Database
from bot.store.keepsakes import Keepsakes
from bot.store.objects import Objects, open_folder
from bot.store.releases import Releases
from bot.store.vault import Vault
from tests.chaos.conversation import Conversation
from tests.chaos.journal import Journal
from tests.chaos.killer import Killer
from tests.chaos.machines import LightEngine
from tests.chaos.switches import Switches
from tests.fakes.aleph_world import ROOTFS

if TYPE_CHECKING:
    from tests.chaos.life import Life

KEY = SecretStr("0x" + "01" * 32)
CHANNEL = "BAAL-chaos"
RELEASE = "agent@sha256:1"
PATIENCE = Patience(process=1, place=1, forget=1, poll=0.05, watch=4)
ORPHAN_SECONDS, LOST_SECONDS = 2, 1
SNAPSHOT_MINUTES = 1 / 30


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


class Bot:
    """Everything that a kill may hit passes by the killer."""

    def __init__(
        self,
        life: "Life",
        killer: Killer,
        journal: Journal,
        *,
        switches: Switches,
        database: Database,
        http: httpx.AsyncClient,
    ) -> None:
        self._life = life
        self._killer = killer
        self._database = database
        self._http = http
        self._clock = switches.now
        self._switches = switches
        vault, self._quiet = Vault([life.vault_key]), Quiet()
        self._client = killer.watch("client", AgentClient())
        self._users = Users(database, vault)
        self._agents = Agents(database, vault, release=RELEASE, limit=10**6)
        self._books = killer.watch("books", Books(database, clock=self._clock))
        self._notices = killer.watch("notices", Notices(database))
        self._tools = ToolPolicy(self._quiet)  # type: ignore[arg-type]
        self._provider = self._make_provider()
        self._engine = killer.watch("engine", LightEngine(life.machines, http))
        self._snapshots = self._make_snapshots(vault)
        self.pool = self._make_pool()
        self._deployer = self._make_deployer()
        self.fleet = self._make_fleet()
        for each in (self.pool, self._make_rollouts(), self._make_safety()):
            self.fleet.attend(each.watched)
        self.conversation = self._make_conversation(journal)

    def _make_provider(self) -> AlephProvider:
        life, watch = self._life, self._killer.watch
        addresses = Addresses(life.aleph, f"{life.aleph}/crns.json", life.aleph, life.aleph)
        return watch(
            "provider",
            AlephProvider(
                watch("network", Network(addresses, self._http)),
                watch("ledger", Ledger(self._database)),
                watch("wallet", Wallet(KEY, CHANNEL)),
                Ordered(rootfs=ROOTFS["debian12"], ssh_key="ssh-ed25519 AAAA"),
                channel=CHANNEL,
                patience=PATIENCE,
            ),
        )

    def _make_snapshots(self, vault: Vault) -> Snapshots:
        shelf = Shelf(self._database, Keepsakes(self._database, vault), clock=self._clock)
        objects = open_folder(self._life.folder / "snapshots")
        objects.put = self._limited(objects)  # type: ignore[method-assign]
        watched = self._killer.watch("shelf", shelf)
        return self._killer.watch("snapshots", Snapshots(watched, objects, clock=self._clock))

    def _limited(self, objects: Objects):
        real = objects.put

        async def put(path, pieces):
            size = await real(path, pieces)
            if self._switches.is_store_full():
                await objects.delete(path)
                raise StoreAway("no room")
            return size

        return put

    def _make_pool(self) -> Pool:
        releases = Releases(self._database, RELEASE)

        async def may_rent() -> bool:
            return True

        async def tell(notice_id: str, text: str, /, *, why: str) -> None:
            await self._notices.post(notice_id, OPERATOR, text, why=why)

        pool_books = self._killer.watch("pool", PoolBooks(self._database, self._provider.name, clock=self._clock))
        ports = Ports(release=releases.newest, may_rent=may_rent, tell=tell)
        return Pool(pool_books, self._provider, self._engine, ports, size=self._life.pool_size, clock=self._clock)

    def _make_deployer(self) -> Deployer:
        inference = Inference("http://127.0.0.1:9/v1", SecretStr("LTAI_operator"))
        specs = Specs(
            self._books,
            self._agents,
            self._users,
            libertai=self._quiet,  # type: ignore[arg-type]
            tools=self._tools,
            inference=inference,
        )
        return Deployer(
            self._books,
            self._agents,
            specs,
            provider=self._provider,
            engine=self._engine,
            client=self._client,
            reserve=self.pool,
        )

    def _make_fleet(self) -> Fleet:
        moves = Moves(self._books, self._deployer, Transfer(self._client, self._snapshots), self._notices)
        chats = self._killer.watch("chats", Chats(self._database))
        converger = Converger(
            self._books, self._deployer, moves, chats=chats, notifier=self._quiet, step=self._killer.steps(step)
        )
        configurer = Configurer(self._books, self._agents, self._client, self._quiet, self._tools)  # type: ignore[arg-type]
        orphans = Orphans(self._books, self._provider, orphan_seconds=ORPHAN_SECONDS, lost_seconds=LOST_SECONDS)
        durable = Durable(f"sqlite:///{self._life.folder}/durable.sqlite")
        fleet = Fleet(self._books, durable, converger, configurer, orphans, clock=self._clock)
        watching = Probes(self._books, self._client, self._deployer.door, fleet.lost, self._storm)
        fleet.attend(watching.watched)
        return fleet

    async def _storm(self, _count: int) -> None:
        return

    def _make_rollouts(self) -> RolloutWatcher:
        runner = Runner(
            self._database,
            self._books,
            self.fleet.nudge,
            AgentProbes(self._books, self._agents, self._client),
            Unpaid(),
            clock=self._clock,
        )
        self._killer.watch("rollouts", runner._rollouts)
        return RolloutWatcher(runner, busy=0.2, idle=0.3)

    def _make_safety(self) -> Safety:
        return Safety(
            self._database,
            self._snapshots,
            self._books,
            self._agents,
            self._client,
            minutes=SNAPSHOT_MINUTES,
            clock=self._clock,
        )

    def _make_conversation(self, journal: Journal) -> Conversation:
        route = Route(self._agents, self._books, self.fleet, self._client, Alarms(self._database))
        limits = Limits(self._database, daily_messages=10**9)
        nobody_sends_any: Any = None
        files = Files(self._database, route, nobody_sends_any)
        turns = Turns(self._database, limits, self._users, self._agents, route, files=files)
        return Conversation(self._killer.watch("turns", turns), journal)
