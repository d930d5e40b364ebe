"""The test's side of it: the network, the people, one bot after the other, and the books at the end."""

import asyncio
import dataclasses
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

from bot.accounts.agents import Agents
from bot.accounts.users import Person, Users
from bot.fleet.books import Books
from bot.machines.aleph.nodes import Size
from bot.machines.aleph.wallet import Order, Wallet
from bot.store.database import Database
from bot.store.models import Agent, Machine, Purpose, Rental
from bot.store.vault import Vault
from tests.chaos.books_at_rest import Rest
from tests.chaos.bot import CHANNEL, KEY, RELEASE
from tests.chaos.deeds import OLGA, Deeds
from tests.chaos.journal import Journal
from tests.chaos.killer import OF_NO_POOL, OF_THE_POOL
from tests.chaos.life import Life, live
from tests.chaos.machines import LightMachines
from tests.chaos.memories import Memories
from tests.chaos.misfortunes import Misfortunes
from tests.chaos.switches import Switches
from tests.fakes.aleph import AlephDouble
from tests.fakes.aleph_world import ROOTFS

NODES = 6
CREDITS = 10**9
CONVERGED_SECONDS = 90
LIFE_SECONDS = 15
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["tests.chaos.life"])


class Chaos:
    """Everything but the bot."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed = seed
        self.dice = random.Random(seed)  # noqa: S311  repeatable, not secret
        self.folder = folder
        self.machines = LightMachines(folder / "machines", self.dice)
        self.aleph = AlephDouble(NODES, self.machines)
        self.wallet = Wallet(KEY, CHANNEL)
        self.kills: Counter[str] = Counter()
        self.strangers: set[str] = set()
        self.longest = (0.0, (0, 0))
        """Seconds from a kill until what was in flight then had come true, or had failed; which agent and wish."""
        key = Fernet.generate_key().decode()
        self.life = Life(folder, self.aleph.url, self.machines.url, key)
        self.database = Database(self.life.database)
        self.switches, self.journal = Switches(folder), Journal(folder / "journal")
        self.misfortunes = Misfortunes(
            self.aleph.world,
            self.wallet.address,
            self.machines,
            database=folder / "baal.sqlite",
            switches=self.switches,
            dice=self.dice,
        )
        vault = Vault([key])
        self._users = Users(self.database, vault)
        agents = Agents(self.database, vault, release=RELEASE, limit=10**6)
        self.deeds = Deeds(self.database, agents, Books(self.database), self.dice)
        self.rest = Rest(self.database, self.aleph.world, self.machines)
        self.memories = Memories(self.database, self.journal, self.deeds, self.rest, folder=folder, vault=vault)
        self._in_flight: dict[tuple[int, int], float] = {}
        self._stack = AsyncExitStack()
        self._born: list[ForkServerProcess] = []

    async def __aenter__(self) -> Self:
        await self.database.open()
        self._stack.push_async_callback(self.database.close)
        self._stack.callback(self.journal.close)
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
        # Of a test that failed: it would go on looking for a world that is gone.
        for process in self._born:
            process.kill()
        await self._stack.aclose()

    async def plant(self) -> None:
        """An instance in our channel that no book knows: as of a database that was lost."""
        node = self.dice.choice(list(self.aleph.world.nodes))
        name = f"m-{self.dice.getrandbits(64):016x}"
        message = await self.wallet.instance(Order(name, node, ROOTFS["debian12"], Size(), "ssh-ed25519 AAAA"))
        self.strangers.add(message["item_hash"])
        async with asyncio.timeout(30):
            while message["item_hash"] not in self.aleph.world.entries:
                body = {"sync": False, "message": message}
                try:
                    await self.http.post(f"{self.aleph.url}/api/v0/messages", json=body, timeout=1)
                except httpx.HTTPError:
                    continue

    async def leave_pool(self) -> None:
        """A machine of a pool that the next bot does not have."""
        async with self.database.session() as session:
            session.add(Machine(agent_id=0, provider="aleph", purpose=Purpose.POOL))

    # --- the bot

    async def bear(self, boundary: str = "", times: int = 1) -> ForkServerProcess:
        size = self.dice.choice([1, 2] if boundary in OF_THE_POOL else [0, 0, 0, 1, 2])
        size = 0 if boundary in OF_NO_POOL else size
        life = dataclasses.replace(self.life, boundary=boundary, times=times, pool_size=size)
        return await self._bear(life)

    async def bear_last(self) -> ForkServerProcess:
        """One without a pool, that nobody kills before the end."""
        return await self._bear(self.life)

    async def _bear(self, life: Life) -> ForkServerProcess:
        process = FORK.Process(target=live, args=(life,), daemon=True)
        await asyncio.to_thread(process.start)
        self._born.append(process)
        return process

    async def dies(self, process: ForkServerProcess) -> bool:
        """Wait until it has killed itself; False if it has nothing left to do, or takes too long."""
        by_then = time.monotonic() + LIFE_SECONDS
        while process.exitcode is None:
            if time.monotonic() > by_then or not await self.left():
                return False
            await asyncio.sleep(0.05)
        return True

    async def bury(self, process: ForkServerProcess) -> None:
        """Kill it, unless it is dead already."""
        self._born.remove(process)
        process.kill()
        await asyncio.to_thread(process.join)
        assert process.exitcode == -signal.SIGKILL, self.log()
        process.close()
        for agent in await self.rest.unsettled():
            self._in_flight.setdefault((agent.id or 0, agent.generation), time.monotonic())

    def lose_durable(self) -> None:
        """Its database is disposable."""
        for path in self.folder.glob("durable.sqlite*"):
            path.unlink()

    # --- the books

    async def left(self) -> object:
        """What the bot has still to do."""
        return await self.rest.unexplained() or await self.rest.unused() or await self.rest.unanswered()

    async def until(self, what: str, fact: Callable[[], Awaitable[object]]) -> None:
        """Wait until nothing is left of it."""
        left: object = None
        try:
            async with asyncio.timeout(CONVERGED_SECONDS):
                while left := await fact():
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"after {CONVERGED_SECONDS} s still {what}: {left}\n{self.log()}") from None

    def log(self) -> str:
        """Its last lines, without tracebacks."""
        lines = (self.folder / "bot.log").read_text().splitlines()
        return "\n".join([each for each in lines if each.startswith("20")][-80:])

    async def open_books(self) -> list[str]:
        """What our tables say is not over yet."""
        async with self.database.session() as session:
            machines = list(await session.exec(select(Machine).where(col(Machine.state) != "gone")))
            agents = list(await session.exec(select(Agent).where(col(Agent.phase) != "gone")))
        rentals = [each.reference for each in await self.rentals() if each.state.value != "gone"]
        return [*(each.id for each in machines), *(each.name for each in agents), *rentals]

    async def rentals(self) -> list[Rental]:
        async with self.database.session() as session:
            return list(await session.exec(select(Rental)))

    def sent_after_the_end(self) -> list[str]:
        """Orders that were broadcast after they had been given up, as the bots themselves noted it down."""
        ended, found = set(), []
        for entry in self.journal.entries():
            if entry.what == "ended":
                ended.add(entry.name)
            elif entry.what == "sent" and entry.name in ended:
                found.append(entry.name)
        return found

    async def _watch_recovery(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            open_wishes = {(agent.id or 0, agent.generation) for agent in await self.rest.unsettled()}
            for wish in set(self._in_flight) - open_wishes:
                self.longest = max(self.longest, (time.monotonic() - self._in_flight.pop(wish), wish))
