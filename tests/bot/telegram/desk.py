"""A desk in front of the handlers: PTB's application, real rows, the Bot API double; no loops."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr
from telegram import Update
from telegram.ext import Application, ContextTypes, ExtBot

from agent.protocol import Spending, Spendings
from bot.accounts.agents import Agents, Card
from bot.accounts.chats import Chats
from bot.accounts.deleted import DeletedAgents
from bot.accounts.drafts import Drafts
from bot.accounts.edits import Edits
from bot.accounts.imports import Imports
from bot.accounts.libertai import AccountUsage, KeyCheck, KeyState, LibertAI, Model
from bot.accounts.limits import Limits
from bot.accounts.tools import ToolPolicy
from bot.accounts.users import Users
from bot.chat.files import Files
from bot.chat.offers import Offers
from bot.chat.route import Route
from bot.chat.turns import Turns
from bot.errors import AgentOffline, LibertAIUnreachable
from bot.fleet.fleet import Fleet
from bot.fleet.money import Money
from bot.store.database import Database
from bot.store.models import Agent, Draft, Phase
from bot.store.vault import Vault
from bot.telegram.commands import register
from bot.telegram.context import Context, Services
from bot.telegram.files import FileSender, emptied
from bot.telegram.inbox import Inbox
from bot.telegram.limiter import Limiter
from bot.telegram.parcels import Parcels
from bot.telegram.source import TelegramFiles
from bot.telegram.texts import load_texts
from bot.telegram.transport import AiohttpRequest
from tests.fakes.telegram_client import SimUser, TelegramDouble
from tests.fakes.telegram_views import MessageView

TEXTS = load_texts()
KEY = "LTAI_olgas_own_key_f3a9"
BEFORE, AFTER = "\u2039", "\u203a"
FAST, SMART = Model("fast", price_in=200, price_out=1000), Model("smart", tee=True)


@dataclass
class QuietFleet:
    """Takes note of what it was asked to work on."""

    nudged: list[int] = field(default_factory=list)
    configured: list[int] = field(default_factory=list)
    is_away: bool = False

    async def configure(self, agent_id: int) -> bool:
        self.configured.append(agent_id)
        return not self.is_away

    async def nudge(self, agent_id: int) -> None:
        self.nudged.append(agent_id)


@dataclass
class LocalLibertAI:
    """Models and keys in memory; `away` answers nothing."""

    is_away: bool = False
    looked_up: int = 0
    keys: dict[str, KeyCheck] = field(default_factory=dict)
    tools: dict[str, bool] = field(default_factory=dict)

    async def models(self) -> list[Model]:
        self.looked_up += 1
        return [FAST, SMART]

    async def can_call_tools(self, model_id: str) -> bool | None:
        return self.tools.get(model_id)

    async def check(self, key: SecretStr) -> KeyCheck:
        if self.is_away:
            raise LibertAIUnreachable("away")
        return self.keys.get(key.get_secret_value(), KeyCheck(KeyState.UNKNOWN))

    async def usage(self, _key: SecretStr) -> AccountUsage | None:
        if self.is_away:
            raise LibertAIUnreachable("away")
        return AccountUsage(plan="Go", window_5h_percent=12.4, weekly_percent=3, extra_credits=4.2)


@dataclass
class LocalRoute:
    """The way to agents that only forget, or are away."""

    is_away: bool = False
    forgotten: list[tuple[int, str]] = field(default_factory=list)
    spent: list[Spending] | None = None

    async def forget(self, agent_id: int, chat_id: str) -> None:
        if self.is_away:
            raise AgentOffline("away")
        self.forgotten.append((agent_id, chat_id))

    async def stop(self, agent_id: int, chat_id: str) -> None:
        raise NotImplementedError

    async def usage(self, _agent_id: int, _since: str) -> Spendings:
        if self.spent is None:
            raise AgentOffline("away")
        return Spendings(days=tuple(self.spent))


@dataclass
class LocalStates:
    """Whole agents in memory; `error` is what happens instead."""

    kept: dict[int, bytes] = field(default_factory=dict)
    put: list[tuple[int, bytes]] = field(default_factory=list)
    error: Exception | None = None

    async def archive(self, agent_id: int) -> AsyncGenerator[bytes]:
        if self.error:
            raise self.error
        whole = self.kept[agent_id]
        for start in range(0, len(whole), 1 << 20):
            yield whole[start : start + (1 << 20)]

    async def restore(self, agent_id: int, pieces: AsyncIterator[bytes]) -> None:
        whole = b"".join([piece async for piece in pieces])
        if self.error:
            raise self.error
        self.put.append((agent_id, whole))


@dataclass
class Desk:
    """The front end without its loops: a test says when updates are fetched and handled, and how often."""

    telegram: TelegramDouble
    bot: ExtBot[Any]
    application: Application[Any, Any, Any, Any, Any, Any]
    services: Services
    fleet: QuietFleet
    libertai: LocalLibertAI
    route: LocalRoute
    states: LocalStates
    folder: Path
    """Where files on their way are."""
    woken: list[int]
    errors: list[Exception | None]
    offset: int | None = None

    async def fetch(self) -> list[Update]:
        updates = await self.bot.get_updates(offset=self.offset, timeout=0)
        if updates:
            self.offset = updates[-1].update_id + 1
        return await self.services.inbox.store(updates)

    async def handle(self, *, times: int = 2) -> None:
        """Handle all that came; twice, as after a crash before it was ticked off, unless a test says otherwise."""
        for update in await self.fetch():
            for _ in range(times):
                await self.application.process_update(update)
        assert self.errors == []

    async def agent(self, owner: SimUser, *, phase: Phase = Phase.RUNNING, name: str = "Ada") -> Agent:
        """A deployed agent."""
        draft = Draft(user_id=owner.id, chat_id=owner.id, name=name, job="cooks", model="fast")
        made = await self.services.agents.create(draft, Card(owner.id, 0))
        await self.observe(made.id, phase=phase, ready_at=1.0 if phase is Phase.RUNNING else None, card_open=False)
        return await self.row(made.id)

    async def observe(self, agent_id: int | None, **facts: Any) -> None:
        async with self.services.agents._database.session() as session:
            row = await session.get_one(Agent, agent_id)
            for name, value in facts.items():
                setattr(row, name, value)

    async def row(self, agent_id: int | None) -> Agent:
        row = await self.services.agents.get(agent_id or 0)
        assert row
        return row

    async def draft(self, person: SimUser) -> Draft:
        draft = await self.services.drafts.get(person.id)
        assert draft
        return draft


@pytest.fixture
async def desk(database: Database, vault: Vault, tmp_path: Path) -> AsyncIterator[Desk]:
    users, chats, woken = Users(database, vault), Chats(database), list[int]()
    agents = Agents(database, vault, release="v1", limit=2)
    limits = Limits(database, daily_messages=5)
    fleet, libertai, route, errors = QuietFleet(), LocalLibertAI(), LocalRoute(), list[Exception | None]()
    states, folder = LocalStates(), emptied(tmp_path / "sending")
    async with TelegramDouble() as telegram:
        bot: ExtBot[Any] = ExtBot(
            telegram.token,
            base_url=f"{telegram.url}/bot",
            base_file_url=f"{telegram.url}/file/bot",
            request=AiohttpRequest(),
            get_updates_request=AiohttpRequest(),
        )
        # Files go out by a bot with a limiter; the other one makes tests wait for nothing.
        files: ExtBot[Any] = ExtBot(
            telegram.token, base_url=f"{telegram.url}/bot", request=AiohttpRequest(), rate_limiter=Limiter()
        )
        types: ContextTypes[Any, Any, Any, Any] = ContextTypes(context=Context)
        application = Application.builder().bot(bot).updater(None).context_types(types).build()
        services = Services(
            bot=bot,
            texts=TEXTS,
            users=users,
            agents=agents,
            drafts=Drafts(database),
            edits=Edits(database),
            chats=chats,
            limits=limits,
            libertai=cast("LibertAI", libertai),
            tools=ToolPolicy(cast("LibertAI", libertai)),
            turns=Turns(
                database,
                limits,
                users,
                agents,
                cast("Route", route),
                files=Files(database, cast("Route", route), TelegramFiles(bot)),
            ),
            offers=Offers(database),
            fleet=cast("Fleet", fleet),
            inbox=Inbox(database, vault, chats, bot),
            wake=woken.append,
            dispatch=lambda update: None,
            deleted=DeletedAgents(database, agents),
            imports=Imports(database),
            money=Money(database),
            parcels=Parcels(states, FileSender(files, folder=folder, pauses=()), TelegramFiles(bot), folder=folder),
            idle_minutes=3 * 1_440,
        )
        application.bot_data = services

        async def remember(_update: object, context: Any) -> None:
            errors.append(context.error)

        application.add_error_handler(remember)
        register(application)
        async with application, files:
            yield Desk(telegram, bot, application, services, fleet, libertai, route, states, folder, woken, errors)


@pytest.fixture
async def olga(desk: Desk) -> SimUser:
    return await desk.telegram.user(name="Olga")


@pytest.fixture
async def victor(desk: Desk) -> SimUser:
    return await desk.telegram.user(name="Victor")


async def said(person: SimUser, chat: int | None = None) -> list[MessageView]:
    """The bot's messages that are in the chat."""
    return [message for message in await person.messages(chat=chat) if message.from_bot]


async def newest(person: SimUser, chat: int | None = None) -> str:
    return (await said(person, chat))[-1].text


async def send(desk: Desk, person: SimUser, *texts: str, times: int = 2) -> None:
    for text in texts:
        await person.send(text)
    await desk.handle(times=times)


async def press(desk: Desk, person: SimUser, button: str, *, times: int = 2) -> None:
    await person.press(button)
    await desk.handle(times=times)


async def at_check(desk: Desk, person: SimUser) -> None:
    await send(desk, person, "/create")
    await send(desk, person, "Ada")
    await press(desk, person, "Cook")
    await press(desk, person, "fast")


@pytest.fixture
async def talking(desk: Desk, olga: SimUser) -> SimUser:
    agent = await desk.agent(olga)
    await send(desk, olga, f"/start agent_{agent.link}", times=1)
    return olga
