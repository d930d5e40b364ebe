"""The composition root: settings to services to loops, and an ordered stop."""

import asyncio
import logging
import os
import signal
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass

import httpx

from bot.accounts.agents import Agents
from bot.accounts.chats import Chats
from bot.accounts.deleted import DeletedAgents
from bot.accounts.drafts import Drafts
from bot.accounts.edits import Edits
from bot.accounts.imports import Imports
from bot.accounts.kept import KeptAnswers
from bot.accounts.libertai import LibertAI
from bot.accounts.limits import Limits
from bot.accounts.tools import ToolPolicy
from bot.accounts.users import Users
from bot.chat.alarms import Alarms
from bot.chat.files import Files
from bot.chat.letters import Letters
from bot.chat.offers import Offers
from bot.chat.outbox import Outboxes
from bot.chat.route import Route
from bot.chat.turns import Turns
from bot.errors import DatabaseLost
from bot.fleet.assembly import Accounts, World, assemble
from bot.fleet.books import Books
from bot.fleet.notices import Notices
from bot.health import Health, Standby
from bot.machines.client import AgentClient
from bot.machines.opening import open_authority, open_engine, open_provider
from bot.settings import Settings, encryption_keys
from bot.store.database import Database
from bot.store.folder import sole_owner
from bot.store.keepsakes import Keepsakes
from bot.store.owner import sole_bot
from bot.store.vault import Vault
from bot.telegram.application import Front, Updates, make_bot
from bot.telegram.context import Services
from bot.telegram.conversation import Conversations
from bot.telegram.files import FileSender, emptied
from bot.telegram.herald import Herald
from bot.telegram.inbox import Inbox
from bot.telegram.limiter import Limiter
from bot.telegram.notifier import TelegramNotifier
from bot.telegram.parcels import Parcels
from bot.telegram.postman import Postman
from bot.telegram.relay import Relay
from bot.telegram.source import TelegramFiles
from bot.telegram.texts import load_texts

log = logging.getLogger(__name__)

Door = Callable[[Health], AbstractAsyncContextManager[None]]

ACCOUNT_SECONDS = 10.0
"""Patience with LibertAI's account and catalogue calls."""


async def serve(settings: Settings) -> None:
    """Run the bot until SIGTERM or SIGINT. Ends the process with 75 (try again) when its database is lost."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    with sole_owner(settings.data_dir, settings.database):
        try:
            await _serve(settings, stop)
        except DatabaseLost as error:
            log.error("%s", error)  # noqa: TRY400  said in full where it was noticed
            # Not in order: the durable engine's threads wait for the server for ever. `kill -9` is no worse.
            os._exit(os.EX_TEMPFAIL)
    log.info("stopped")


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        # A task, because it may wait for the database, and should end at once when it is told to.
        building, stopping = asyncio.create_task(build(settings, stack)), asyncio.create_task(stop.wait())
        await asyncio.wait({building, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not stop.is_set():
            await (await building).run_until(stop)
        building.cancel()
        await asyncio.gather(building, return_exceptions=True)


async def build(settings: Settings, stack: AsyncExitStack) -> Front:
    """Make every service and leave their ends on the stack; the front starts those that run by themselves."""
    door = open_door(settings, stack)
    vault, database = Vault(encryption_keys(settings.bot_encryption_key)), Database(settings.database)
    stack.push_async_callback(database.close)
    await stack.enter_async_context(sole_bot(database, lambda: door(Standby())))
    await database.open()
    tls = ssl.create_default_context()
    http = await stack.enter_async_context(httpx.AsyncClient(timeout=ACCOUNT_SECONDS, verify=tls))
    keepsakes = Keepsakes(database, vault)
    authority = await open_authority(settings, keepsakes)
    client = AgentClient(authority.context() if authority else tls)
    stack.push_async_callback(client.close)

    people = make_people(settings, database, vault, http)
    limiter, texts = Limiter(), load_texts()
    bot, books = make_bot(settings, limiter, database.confirm), Books(database)
    notifier = TelegramNotifier(bot, texts, people.agents, people.users, books)
    engine = await open_engine(settings, keepsakes, authority)
    stack.push_async_callback(engine.close)
    provider = await open_provider(settings, database, engine, keepsakes, http)
    notices = Notices(database)
    accounts = Accounts(people.users, people.chats, people.agents, people.libertai, people.tools)
    world = World(database, keepsakes, books, provider, engine, client, notices, notifier)
    staff = assemble(settings, accounts, world)
    fleet = staff.fleet
    alarms, letters, offers = Alarms(database), Letters(database), Offers(database)
    route = Route(people.agents, books, fleet, client, alarms)
    telegram_files = TelegramFiles(bot)
    incoming = Files(database, route, telegram_files)
    turns = Turns(database, people.limits, people.users, people.agents, route, files=incoming)
    # Not in /tmp: in a container that is memory, and has room for one file.
    folder = emptied(settings.data_dir / "sending")
    sender = FileSender(bot, folder=folder)
    relay = Relay(bot, limiter, turns, offers, sender=sender)
    postman = Postman(bot, letters, people.agents, people.users, texts, sender, route.get_file)
    conversations = Conversations(turns, people.agents, people.users, relay, texts, postman=postman)
    outboxes = Outboxes(route, alarms, letters, conversations.deliver)
    updates = Updates()
    services = Services(
        bot=bot,
        texts=texts,
        users=people.users,
        agents=people.agents,
        drafts=Drafts(database),
        edits=Edits(database),
        chats=people.chats,
        limits=people.limits,
        libertai=people.libertai,
        tools=people.tools,
        turns=turns,
        offers=offers,
        fleet=fleet,
        inbox=Inbox(database, vault, people.chats, bot),
        wake=conversations.wake,
        dispatch=updates.dispatch,
        idle_minutes=settings.agent_idle_minutes,
        deleted=DeletedAgents(database, people.agents),
        imports=Imports(database),
        money=staff.money,
        parcels=Parcels(staff.states, sender, telegram_files, folder=folder),
    )
    herald = Herald(bot, texts, notices, people.users, people.agents, admins=settings.admin_ids)
    front = Front(services, updates, conversations, notifier, outboxes, herald=herald, lost=database.lost)
    health = Health({"database": database.trouble, "telegram": front.trouble, "fleet": fleet.trouble})
    await stack.enter_async_context(door(health))
    return await stack.enter_async_context(front.connected())


def open_door(settings: Settings, stack: AsyncExitStack) -> Door:
    """Take the HTTP door's port before anything else; what serves at it later."""
    if not settings.http_port:
        return lambda _: nullcontext()
    # Here, because without a door nobody needs it: 0.3 s and 8 MB.
    from bot.gateway import gateway, listen  # noqa: PLC0415

    port = stack.enter_context(listen(settings))
    return lambda health: gateway(port, settings, health)


@dataclass(frozen=True, slots=True)
class People:
    """The services about people and what is theirs."""

    users: Users
    chats: Chats
    agents: Agents
    limits: Limits
    libertai: LibertAI
    tools: ToolPolicy


def make_people(settings: Settings, database: Database, vault: Vault, http: httpx.AsyncClient) -> People:
    """Accounts, agents, limits, LibertAI."""
    agents = Agents(
        database,
        vault,
        release=settings.agent_image,
        limit=settings.max_agents_per_user,
        has_operator_key=bool(settings.libertai_api_key.get_secret_value()),
    )
    libertai = LibertAI(
        http,
        gateway=settings.libertai_gateway,
        account=settings.libertai_account,
        inference_url=settings.inference_url,
        prices_url=settings.model_prices_url,
        default_models=settings.default_models,
        kept=KeptAnswers(database),
    )
    limits = Limits(database, daily_messages=settings.free_tier_daily_messages)
    # A model of somebody else's that no catalogue knows may be a small one.
    is_default = settings.thinks_at_libertai if settings.agent_tools is None else settings.agent_tools
    tools = ToolPolicy(libertai, is_allowed=settings.agent_tools is not False, is_default=is_default)
    return People(Users(database, vault), Chats(database), agents, limits, libertai, tools)
