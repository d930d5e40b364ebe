"""The test's side of it: the network, the owners' wishes, one bot after the other, and the books at the end."""

import asyncio
import multiprocessing
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from cryptography.fernet import Fernet
from sqlmodel import col, select

from bot.accounts.agents import Agents, Card
from bot.accounts.users import Person, Users
from bot.fleet.books import Books
from bot.machines.aleph.nodes import Size
from bot.machines.aleph.wallet import Order, Wallet
from bot.store.database import Database
from bot.store.models import Agent, Draft, Machine, MachineState, Phase, Rental, Wanted
from bot.store.vault import Vault
from tests.chaos.life import CHANNEL, KEY, RELEASE, Life, live
from tests.chaos.machines import LightMachines
from tests.chaos.misfortunes import Misfortunes
from tests.fakes.aleph import AlephDouble
from tests.fakes.aleph_world import ROOTFS

OLGA = 7_000_000_001
CARD = Card(OLGA, 1)
NODES = 6
CREDITS = 10**9
CONVERGED_SECONDS = 90
LIFE_SECONDS = 15
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["tests.chaos.life"])


class Chaos:
    """Everything but the bot."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311  repeatable, not secret
        self.folder = folder
        self.machines = LightMachines()
        self.aleph = AlephDouble(NODES, self.machines)
        self.wallet = Wallet(KEY, CHANNEL)
        self.misfortunes = Misfortunes(self.aleph.world, self.wallet.address, self.dice)
        self.kills: Counter[str] = Counter()
        self.made = self.deleted = 0
        self.strangers: set[str] = set()
        self.longest = (0.0, (0, 0))
        """Seconds from a kill until what was in flight then had come true, or had failed; which agent and wish."""
        key = Fernet.generate_key().decode()
        self.life = Life(folder, self.aleph.url, self.machines.url, key)
        self.database = Database(self.life.database)
        self.books = Books(self.database)
        self._users = Users(self.database, Vault([key]))
        self.agents = Agents(self.database, Vault([key]), release=RELEASE, limit=10**6)
        self._in_flight: dict[tuple[int, int], float] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.database.open()
        self._stack.push_async_callback(self.database.close)
        await self._users.meet(Person(OLGA, "Olga", "en"))
        await self._stack.enter_async_context(self.machines)
        await self._stack.enter_async_context(self.aleph)
        self.aleph.world.credit(self.wallet.address, CREDITS)
        self.http = await self._stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        watching = asyncio.create_task(self._watch_recovery())
        self._stack.callback(watching.cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # --- what owners and others do

    async def make(self, count: int) -> None:
        for _ in range(count):
            self.made += 1
            draft = Draft(user_id=OLGA, chat_id=OLGA, name=f"agent-{self.made}", job="cooks", model="m")
            await self.agents.create(draft, CARD)

    async def delete(self, count: int) -> None:
        living = await self.agents.owned(OLGA)
        for agent in self.dice.sample(living, min(count, len(living))):
            self.deleted += 1
            await self.agents.delete(agent.id or 0, CARD)

    async def try_again(self) -> None:
        for agent in await self.agents.owned(OLGA):
            if agent.phase is Phase.FAILED:
                await self.agents.try_again(agent.id or 0, CARD)

    async def talk(self) -> None:
        """Write to every agent that should run; one that does not answer is told to be lost, as the bot does it."""
        there = set(self.machines.agents())
        for agent in await self.agents.owned(OLGA):
            if agent.phase is Phase.RUNNING and agent.name not in there:
                await self.books.lost(agent.id or 0, agent.generation)

    async def plant(self) -> None:
        """An instance in our channel that no book knows: as of a database that was lost."""
        node = self.dice.choice(list(self.aleph.world.nodes))
        name = f"m-{self.dice.getrandbits(64):016x}"
        message = await self.wallet.instance(Order(name, node, ROOTFS["debian12"], Size(), "ssh-ed25519 AAAA"))
        self.strangers.add(message["item_hash"])
        async with asyncio.timeout(20):
            while message["item_hash"] not in self.aleph.world.entries:
                body = {"sync": False, "message": message}
                try:
                    await self.http.post(f"{self.aleph.url}/api/v0/messages", json=body, timeout=1)
                except httpx.HTTPError:
                    continue

    # --- the bot

    async def bear(self, boundary: str = "", times: int = 1) -> ForkServerProcess:
        life = Life(
            self.life.folder, self.life.aleph, self.life.machines, self.life.vault_key, boundary=boundary, times=times
        )
        process = FORK.Process(target=live, args=(life,), daemon=True)
        await asyncio.to_thread(process.start)
        return process

    async def dies(self, process: ForkServerProcess) -> bool:
        """Wait until it has killed itself; False if it has nothing left to do, or takes too long."""
        by_then = time.monotonic() + LIFE_SECONDS
        while process.exitcode is None:
            if time.monotonic() > by_then or not (await self.unexplained() or await self.unused()):
                return False
            await asyncio.sleep(0.05)
        return True

    async def bury(self, process: ForkServerProcess) -> None:
        """Kill it, unless it is dead already."""
        process.kill()
        await asyncio.to_thread(process.join)
        assert process.exitcode == -signal.SIGKILL, (self.folder / "bot.log").read_text()[-4000:]
        process.close()
        for agent in await self._unsettled():
            self._in_flight.setdefault((agent.id or 0, agent.generation), time.monotonic())

    def lose_durable(self) -> None:
        """Its database is disposable."""
        for path in self.folder.glob("durable.sqlite*"):
            path.unlink()

    # --- the books

    async def until(self, what: str, fact: Callable[[], Awaitable[object]]) -> None:
        """Wait until nothing is left of it."""
        left: object = None
        try:
            async with asyncio.timeout(CONVERGED_SECONDS):
                while left := await fact():
                    await asyncio.sleep(0.1)
        except TimeoutError:
            log = (self.folder / "bot.log").read_text()[-6000:]
            raise AssertionError(f"after {CONVERGED_SECONDS} s still {what}: {left}\n{log}") from None

    async def unexplained(self) -> list[str]:
        """Agents that are neither as wanted nor say why not."""
        there = set(self.machines.agents())
        found = [f"{agent.name} is {agent.phase}" for agent in await self._unsettled()]
        for agent in await self.agents.owned(OLGA):
            is_explained = agent.phase is Phase.FAILED and agent.error and agent.error_code
            if not is_explained and agent.name not in there:
                found.append(f"{agent.name} is {agent.phase} and does not run")
        return found

    async def unused(self) -> list[str]:
        """Instances that cost money, and that no agent runs on or keeps its conversation on."""
        in_use = await self._in_use()
        return [entry.hash for entry in self.aleph.world.running() if entry.hash not in in_use]

    async def open_books(self) -> list[str]:
        """What our tables say is not over yet."""
        async with self.database.session() as session:
            machines = list(await session.exec(select(Machine).where(col(Machine.state) != MachineState.GONE)))
            agents = list(await session.exec(select(Agent).where(col(Agent.phase) != Phase.GONE)))
        rentals = [each.reference for each in await self.rentals() if each.state.value != "gone"]
        return [*(each.id for each in machines), *(each.name for each in agents), *rentals]

    async def rentals(self) -> list[Rental]:
        async with self.database.session() as session:
            return list(await session.exec(select(Rental)))

    def sent_after_the_end(self) -> list[str]:
        """Orders that were broadcast after they had been given up, as the bots themselves noted it down."""
        ended, found = set(), []
        for entry in (self.folder / "journal").read_text().splitlines():
            what, _, item_hash = entry.partition(" ")
            if what == "ended":
                ended.add(item_hash)
            elif item_hash in ended:
                found.append(item_hash)
        return found

    async def _in_use(self) -> set[str]:
        async with self.database.session() as session:
            query = select(Rental.reference).join(Machine, col(Machine.id) == col(Rental.machine_id))
            query = query.join(Agent, col(Agent.id) == col(Machine.agent_id))
            query = query.where(
                col(Agent.wanted) == Wanted.ON,
                col(Agent.ready_at).is_not(None),
                col(Machine.state) == MachineState.ACTIVE,
                col(Rental.state) == "paid",
            )
            return set(await session.exec(query))

    async def _unsettled(self) -> list[Agent]:
        async with self.database.session() as session:
            query = select(Agent).where(col(Agent.observed_generation) != col(Agent.generation))
            return list(await session.exec(query))

    async def _watch_recovery(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            open_wishes = {(agent.id or 0, agent.generation) for agent in await self._unsettled()}
            for wish in set(self._in_flight) - open_wishes:
                self.longest = max(self.longest, (time.monotonic() - self._in_flight.pop(wish), wish))
