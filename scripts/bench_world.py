"""The bot of the benchmark: its fleet and its turns as `bot.app` puts them together, without Telegram, on SQLite."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.fernet import Fernet

from agent import protocol
from bot.accounts.agents import Card
from bot.accounts.users import Person
from bot.app import People, make_people
from bot.chat.alarms import Alarms
from bot.chat.files import Files
from bot.chat.route import Route
from bot.chat.run import NotYet
from bot.chat.turns import Ask, Turns
from bot.errors import AgentError, FileLost
from bot.fleet.assembly import Accounts, World, assemble
from bot.fleet.books import Books
from bot.fleet.fleet import Fleet
from bot.fleet.notices import Notices
from bot.machines.client import AgentClient, Door
from bot.machines.engine import Engine
from bot.machines.provider import Provider
from bot.settings import Settings, encryption_keys, read_settings
from bot.store.database import Database
from bot.store.keepsakes import Keepsakes
from bot.store.models import Agent, Draft, Turn
from bot.store.vault import Vault

MODEL = "scripted"
KEY = f"LTAI_{os.urandom(8).hex()}"
NOBODY = "http://127.0.0.1:9"
READY_SECONDS = 120.0


class Watched(AgentClient):
    """A client that remembers when it last had an agent sealed (monotonic clock)."""

    sealed_at = 0.0

    async def seal(self, door: Door, epoch: int, seconds: float = 120) -> protocol.Manifest:
        self.sealed_at = time.monotonic()
        return await super().seal(door, epoch, seconds)


class NoCards:
    """Implements `Notifier`: nobody looks."""

    async def show(self, _agent_id: int) -> None:
        return


@dataclass(frozen=True, slots=True)
class Bot:
    """What the measures use of it."""

    settings: Settings
    database: Database
    vault: Vault
    keepsakes: Keepsakes
    books: Books
    people: People
    client: Watched
    provider: Provider
    engine: Engine
    fleet: Fleet
    turns: Turns

    async def create(self, person: int) -> Agent:
        """A new agent of theirs; work on it has begun."""
        await self.people.users.meet(Person(person, "Olga", "en"))
        draft = Draft(user_id=person, chat_id=person, name=f"Ada{person}", job="cooks", model=MODEL)
        agent = await self.people.agents.create(draft, Card(person, 1))
        await self.fleet.nudge(agent.id or 0)
        return agent

    async def ready(self, agent: Agent) -> None:
        """It runs as wanted."""
        await self.fleet.wait_ready(agent.id or 0, timeout=READY_SECONDS)

    async def accept(self, agent: Agent, number: int, words: str, *, chat_id: int = 0) -> Turn:
        """Take a message in, and give out the turn that is to be run."""
        chat_id = chat_id or agent.owner_id
        ask = Ask(agent, chat_id, agent.owner_id, message_id=number, message=words, update_id=number)
        await self.turns.accept(ask)
        turn = await self.turns.next(chat_id)
        assert turn is not None  # noqa: S101  it was just accepted
        return turn

    async def answer(self, turn: Turn) -> AsyncIterator[protocol.Event | NotYet]:
        """The turn's events to its end, which is written down."""
        is_answered = False
        try:
            async for event in self.turns.events(turn):
                is_answered = isinstance(event, protocol.Done)
                yield event
        except AgentError:
            pass  # it counts as not answered
        await self.turns.finish(turn, answered=is_answered, is_charged=True)


@asynccontextmanager
async def bot(
    folder: Path, engine: Engine, provider: Provider, *, model_url: str = NOBODY, pool_size: int = 0
) -> AsyncIterator[Bot]:
    """One whose fleet is not started; it ends with the block."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    settings = _settings(folder, model_url, pool_size)
    vault, database = Vault(encryption_keys(settings.bot_encryption_key)), Database(settings.database)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        await database.open()
        http, client = await stack.enter_async_context(httpx.AsyncClient()), Watched()
        stack.push_async_callback(client.close)
        people, books, keepsakes = (
            make_people(settings, database, vault, http),
            Books(database),
            Keepsakes(database, vault),
        )
        accounts = Accounts(people.users, people.chats, people.agents, people.libertai, people.tools)
        world = World(database, keepsakes, books, provider, engine, client, Notices(database), NoCards())
        fleet = assemble(settings, accounts, world).fleet
        route = Route(people.agents, books, fleet, client, Alarms(database))
        files = Files(database, route, _NoFiles())
        turns = Turns(database, people.limits, people.users, people.agents, route, files=files)
        yield Bot(settings, database, vault, keepsakes, books, people, client, provider, engine, fleet, turns)


@asynccontextmanager
async def working(it: Bot) -> AsyncIterator[None]:
    """Its fleet works; at the end its machines are given back."""
    await it.fleet.start()
    try:
        yield
    finally:
        await it.fleet.stop()
        for machine in await it.provider.listed():
            await it.provider.give_back(machine)


def _settings(folder: Path, model_url: str, pool_size: int) -> Settings:
    return read_settings(
        _env_file=None,
        telegram_bot_token="1:none",  # noqa: S106  Telegram is not called
        bot_encryption_key=Fernet.generate_key().decode(),
        libertai_api_key=KEY,
        libertai_gateway=model_url,
        libertai_account=model_url,
        model_prices_url="",
        default_models=MODEL,
        data_dir=folder,
        database_url="",
        snapshots_url="",
        snapshot_minutes=0,
        agent_image="r1",
        pool_size=pool_size,
        free_tier_daily_messages=1_000_000,
        max_agents_per_user=1_000,
    )


class _NoFiles:
    def open(self, file_id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        raise FileLost(file_id)
