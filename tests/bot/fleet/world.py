"""A fleet for tests: real machines (folders with real agent processes), real snapshots, a real durable engine."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr
from sqlmodel import col, select

from agent.protocol import Manifest
from bot.accounts.agents import Agents, Card
from bot.accounts.chats import Chats
from bot.accounts.kept import KeptAnswers
from bot.accounts.libertai import LibertAI
from bot.accounts.tools import ToolPolicy
from bot.accounts.users import Person, Users
from bot.fleet.books import Books
from bot.fleet.configure import Configurer
from bot.fleet.converge import Converger
from bot.fleet.deploy import Deployer
from bot.fleet.durable import Durable, step
from bot.fleet.fleet import Fleet
from bot.fleet.moves import Moves
from bot.fleet.orphans import Orphans
from bot.fleet.shelf import Shelf
from bot.fleet.snapshots import Snapshots
from bot.fleet.specs import Inference, Specs
from bot.fleet.states import States
from bot.fleet.transfer import Transfer
from bot.machines.client import AgentClient, Door
from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine
from bot.store.keepsakes import Keepsakes
from bot.store.models import Draft, Machine, Phase
from bot.store.objects import open_folder
from bot.store.records import Reason

OLGA = 7_000_000_001
CARD = Card(OLGA, 1)
MODEL = "qwen3.6-35b-a3b"
NOBODY = "http://127.0.0.1:9"


@dataclass
class Faulty:
    """A provider or engine of which chosen calls fail first: `faults["rent"] = [NoCapacity(...)]`."""

    inner: Any
    faults: dict[str, list[Exception]] = field(default_factory=dict)

    def __getattr__(self, name):
        real = getattr(self.inner, name)
        if not callable(real):
            return real

        async def call(*args):
            if self.faults.get(name):
                raise self.faults[name].pop(0)
            return await real(*args)

        return call


@dataclass
class Shown:
    """A notifier that writes down the phases it is told of."""

    books: Books
    phases: list[Phase] = field(default_factory=list)

    async def show(self, agent_id):
        self.phases.append((await self.books.agent(agent_id)).phase)


@dataclass
class Told:
    """A teller that remembers."""

    news: dict[str, tuple[int, str, dict[str, Any]]] = field(default_factory=dict)

    async def post(self, notice_id: str, user_id: int, text_key: str, /, **facts: str | float) -> None:
        self.news.setdefault(notice_id, (user_id, text_key, facts))


class World:
    def __init__(self, database, durable_url, vault, folder, clock, *, inference_url=f"{NOBODY}/v1"):
        self.database = database
        self.clock = clock
        self.inference_url = inference_url
        self.told = Told()
        shelf = Shelf(database, Keepsakes(database, vault), clock=clock)
        self.snapshots = Snapshots(shelf, open_folder(folder / "snapshots"), clock=clock)
        self.users = Users(database, vault)
        self.agents = Agents(database, vault, release="r1", limit=9)
        self.chats = Chats(database)
        self.books = Books(database, clock=clock)
        self.shown = Shown(self.books)
        engine = ProcessEngine()
        self.provider = Faulty(LocalProvider(folder / "machines", engine))
        self.engine = Faulty(engine)
        self.client = AgentClient()
        self.http = httpx.AsyncClient()
        self.libertai = LibertAI(
            self.http,
            gateway=NOBODY,
            account=NOBODY,
            inference_url=NOBODY,
            prices_url="",
            default_models=[MODEL],
            kept=KeptAnswers(database),
        )
        self.durable_url = durable_url
        self.fleet = self.new_fleet()

    def new_fleet(self):
        tools = ToolPolicy(self.libertai)
        inference = Inference(self.inference_url, SecretStr("LTAI_operator"))
        specs = Specs(self.books, self.agents, self.users, libertai=self.libertai, tools=tools, inference=inference)
        deployer = Deployer(
            self.books, self.agents, specs, provider=self.provider, engine=self.engine, client=self.client
        )
        self.transfer = Transfer(self.client, self.snapshots)
        moves = Moves(self.books, deployer, self.transfer, self.told)
        converger = Converger(self.books, deployer, moves, chats=self.chats, notifier=self.shown, step=step)
        configurer = Configurer(self.books, self.agents, self.client, self.libertai, tools)
        orphans = Orphans(self.books, self.provider, clock=self.clock)
        made = Fleet(self.books, Durable(self.durable_url), converger, configurer, orphans, clock=self.clock)
        self.states = States(self.books, self.agents, made, self.client, self.snapshots)
        return made

    async def close(self):
        await self.fleet.stop()
        await self.let_go()

    async def let_go(self):
        for machine in await self.provider.inner.listed():
            await self.provider.inner.give_back(machine)
        await self.client.close()
        await self.http.aclose()

    async def agent(self, name="Ada"):
        await self.users.meet(Person(OLGA, "Olga", "en"))
        agent = await self.agents.create(Draft(user_id=OLGA, chat_id=OLGA, name=name, job="cooks", model=MODEL), CARD)
        return agent.id

    async def until(self, agent_id, phase):
        async with asyncio.timeout(30):
            while (await self.books.agent(agent_id)).phase is not phase:
                await asyncio.sleep(0.02)
        return await self.books.agent(agent_id)

    async def settled(self, agent_id):
        """The agent, when its wish has come true or is given up."""
        async with asyncio.timeout(60):
            while (agent := await self.books.agent(agent_id)).observed_generation != agent.generation:
                await self.hurry(agent_id)
                await asyncio.sleep(0.02)
        return agent

    async def attempt(self, agent_id, number):
        async with asyncio.timeout(30):
            while (agent := await self.books.agent(agent_id)).attempt < number:
                await asyncio.sleep(0.02)
        return agent

    async def hurry(self, agent_id):
        """The next attempt is due."""
        agent = await self.books.agent(agent_id)
        if agent.next_at > self.clock.now:
            self.clock.now = agent.next_at
            await self.fleet.nudge(agent_id)

    async def only(self, *machine_ids):
        """Wait until these machines are rented, and no others."""
        async with asyncio.timeout(60):
            while await self.provider.listed() != sorted(machine_ids):
                for machine in await self.books.doomed():
                    self.fleet._return(machine)
                await asyncio.sleep(0.02)

    async def all_machines(self, agent_id):
        async with self.database.session() as session:
            return list(await session.exec(select(Machine).where(col(Machine.agent_id) == agent_id)))

    async def door(self, agent_id):
        machine, agent = await self.books.machine(agent_id), await self.books.agent(agent_id)
        assert machine
        return Door.of(machine, self.agents.secret(agent))

    async def health(self, agent_id):
        return await self.client.health(await self.door(agent_id))

    async def snapshot(self, agent_id):
        return await self.transfer.save(agent_id, await self.door(agent_id), Reason.SCHEDULE)

    async def manifest(self, agent_id):
        """What the agent holds now."""
        return Manifest.model_validate_json((await self.snapshot(agent_id)).manifest)
