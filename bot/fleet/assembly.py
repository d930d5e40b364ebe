"""The fleet put together: what makes wishes come true, and what watches over agents, machines and money."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from bot.accounts.agents import Agents
from bot.accounts.chats import Chats
from bot.accounts.kept import KeptAnswers
from bot.accounts.libertai import LibertAI
from bot.accounts.tools import ToolPolicy
from bot.accounts.users import Users
from bot.fleet.books import Books
from bot.fleet.caps import LOOK_SECONDS as CAPS_LOOK_SECONDS
from bot.fleet.caps import Caps, CapWatch, SpendCaps
from bot.fleet.configure import Configurer
from bot.fleet.converge import Converger
from bot.fleet.deploy import Deployer
from bot.fleet.durable import Durable, step
from bot.fleet.fleet import Fleet
from bot.fleet.idle import LOOK_SECONDS as IDLE_LOOK_SECONDS
from bot.fleet.idle import Idle
from bot.fleet.money import Money
from bot.fleet.moves import Moves
from bot.fleet.notices import Notices
from bot.fleet.notifier import OPERATOR, Notifier
from bot.fleet.orphans import Orphans
from bot.fleet.pool import Pool, Ports
from bot.fleet.pool_books import PoolBooks
from bot.fleet.probes import Probes
from bot.fleet.retention import Retention
from bot.fleet.rollout.probes import AgentProbes
from bot.fleet.rollout.runner import Runner
from bot.fleet.rollout.watcher import Watcher as RolloutWatcher
from bot.fleet.runway import Paid, Runway, Warnings
from bot.fleet.safety import Safety
from bot.fleet.shelf import Shelf
from bot.fleet.snapshots import Snapshots
from bot.fleet.specs import Inference, Specs
from bot.fleet.states import States
from bot.fleet.transfer import Transfer
from bot.fleet.watch import Watcher
from bot.machines.client import AgentClient
from bot.machines.engine import Engine
from bot.machines.provider import Provider
from bot.settings import Settings
from bot.store.database import Database
from bot.store.keepsakes import Keepsakes
from bot.store.models import Wanted
from bot.store.objects import open_objects
from bot.store.releases import Releases

STORM_ID_SECONDS = 3_600.0
"""The operator hears of a storm once in so long."""


class Watched(Protocol):
    """Goes on for as long as the fleet works."""

    def watched(self) -> AbstractAsyncContextManager[None]:
        """It goes on until the end of the block."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """What the fleet asks about people and what is theirs."""

    users: Users
    chats: Chats
    agents: Agents
    libertai: LibertAI
    tools: ToolPolicy


@dataclass(frozen=True, slots=True)
class World:
    """What the fleet works with."""

    database: Database
    keepsakes: Keepsakes
    books: Books
    provider: Provider
    engine: Engine
    client: AgentClient
    notices: Notices
    notifier: Notifier


@dataclass(frozen=True, slots=True)
class Staff:
    """What others use of the fleet."""

    fleet: Fleet
    states: States
    money: Money


def assemble(settings: Settings, accounts: Accounts, world: World) -> Staff:
    """Build all of it; nothing runs before `Fleet.start`."""
    snapshots = _snapshots(settings, world)
    money, caps = Money(world.database, world.provider), SpendCaps(world.database, _caps(settings))
    pool = _pool(settings, world, money, caps)
    deployer = Deployer(
        world.books,
        accounts.agents,
        _specs(settings, accounts, world),
        provider=world.provider,
        engine=world.engine,
        client=world.client,
        reserve=pool,
        check_cap=caps.check,
        credits_per_hour=money.credits_per_hour,
    )
    transfer = Transfer(world.client, snapshots)
    moves = Moves(world.books, deployer, transfer, world.notices)
    converger = Converger(world.books, deployer, moves, chats=accounts.chats, notifier=world.notifier, step=step)
    configurer = Configurer(world.books, accounts.agents, world.client, accounts.libertai, accounts.tools)
    orphans = Orphans(world.books, world.provider)
    fleet = Fleet(world.books, Durable(settings.durable_database), converger, configurer, orphans)
    safety = Safety(
        world.database, snapshots, world.books, accounts.agents, world.client, minutes=settings.snapshot_minutes
    )
    watchers: list[Watched] = [safety, pool, *_sleepers(settings, world, caps, fleet), _probes(world, deployer, fleet)]
    if isinstance(world.provider, Paid):
        watchers.append(_runway(world, world.provider))
    for each in (*watchers, _rollouts(settings, accounts, world, money, fleet)):
        fleet.attend(each.watched)
    return Staff(fleet, States(world.books, accounts.agents, fleet, world.client, snapshots), money)


def _snapshots(settings: Settings, world: World) -> Snapshots:
    retention = Retention(settings.snapshot_keep_last, settings.snapshot_keep_days, settings.snapshot_keep_deleted_days)
    return Snapshots(Shelf(world.database, world.keepsakes), open_objects(settings), retention)


def _specs(settings: Settings, accounts: Accounts, world: World) -> Specs:
    inference = Inference(
        base_url=settings.inference_url,
        api_key=settings.libertai_api_key,
        context_tokens=settings.agent_context_tokens,
        max_tokens=settings.agent_max_tokens,
        heartbeat_minutes=settings.agent_heartbeat_minutes,
    )
    return Specs(
        world.books,
        accounts.agents,
        accounts.users,
        libertai=accounts.libertai,
        tools=accounts.tools,
        inference=inference,
    )


def _caps(settings: Settings) -> Caps:
    return Caps(settings.spend_cap_agent, settings.spend_cap_owner, settings.spend_cap_total)


def _pool(settings: Settings, world: World, money: Money, caps: SpendCaps) -> Pool:
    async def tell(notice_id: str, text: str, /, *, why: str) -> None:
        await world.notices.post(notice_id, OPERATOR, text, why=why)

    return Pool(
        PoolBooks(world.database, world.provider.name),
        world.provider,
        world.engine,
        Ports(Releases(world.database, settings.agent_image).newest, caps.may_rent, tell, money.credits_per_hour),
        size=settings.pool_size,
        recycle_seconds=settings.pool_hours * 3_600,
    )


def _sleepers(settings: Settings, world: World, caps: SpendCaps, fleet: Fleet) -> list[Watcher]:
    async def sleep(agent_id: int) -> None:
        await fleet.wish(agent_id, wanted=Wanted.ASLEEP)

    idle = Idle(world.database, sleep, minutes=settings.agent_idle_minutes)
    beyond = CapWatch(caps, sleep, world.notices.post)
    return [Watcher("idle", IDLE_LOOK_SECONDS, idle.look), Watcher("caps", CAPS_LOOK_SECONDS, beyond.look)]


def _runway(world: World, provider: Paid) -> Runway:
    async def tell(notice_id: str, text: str, /, **facts: Any) -> None:
        await world.notices.post(notice_id, OPERATOR, text, **facts)

    return Runway(provider.burn, warnings=Warnings(KeptAnswers(world.database), tell))


def _probes(world: World, deployer: Deployer, fleet: Fleet) -> Probes:
    async def tell_storm(count: int) -> None:
        hour = int(world.books.now() // STORM_ID_SECONDS)
        await world.notices.post(f"healing-stopped-{hour}", OPERATOR, "notice-operator-healing-stopped", count=count)

    return Probes(world.books, world.client, deployer.door, fleet.lost, tell_storm)


def _rollouts(settings: Settings, accounts: Accounts, world: World, money: Money, fleet: Fleet) -> RolloutWatcher:
    probes = AgentProbes(world.books, accounts.agents, world.client)
    return RolloutWatcher(Runner(world.database, world.books, fleet.nudge, probes, money, operators=settings.admin_ids))
