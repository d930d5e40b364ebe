"""What goes wrong, at random: in the network, on nodes and machines, on the bot's own host."""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from tests.chaos.machines import LightMachines
from tests.chaos.switches import Switches
from tests.fakes.aleph_world import Node, World

NETWORK = {
    "messages_fail": True,
    "answer_lost": True,
    "sync_timeout": True,
    "process_after": 1.5,
    "place_after": 0.5,
    "never_placed": True,
    "balance_fails": True,
    "list_fails": True,
}
NODE = {"down": True, "boot_after": 0.5, "never_boots": True, "no_port": True, "alien": True, "erase": "500"}
MACHINES = {
    "refuses": 0.3,
    "hangs_up": True,
    "is_full": True,
    "think_seconds": 0.4,
    "ssh_drops": True,
    "pull_fails": True,
}
HOUR = 3600.0
LOCKED_SECONDS = 1.0


class Misfortunes:
    """Switches faults of the doubles on and off, by a seed."""

    def __init__(
        self,
        world: World,
        payer: str,
        machines: LightMachines,
        *,
        database: Path,
        switches: Switches,
        dice: random.Random,
    ) -> None:
        self._world = world
        self._payer = payer
        self._machines = machines
        self._database = database
        self._switches = switches
        self._dice = dice
        self.happened: Counter[str] = Counter()

    async def go_on(self) -> None:
        """Until cancelled; whatever is wrong then is put right."""
        while True:
            happening = self._dice.choice(self._choices())
            async with happening():
                await asyncio.sleep(self._dice.uniform(0.1, 0.8))
            await asyncio.sleep(self._dice.uniform(0, 0.4))

    @asynccontextmanager
    async def help_to(self, boundary: str) -> AsyncIterator[None]:
        """Some calls are made only when machines do not come up, or break off while they are used."""
        async with AsyncExitStack() as wrong:
            if boundary.endswith(("give_up", "fail", "give back")):
                await wrong.enter_async_context(self._wrong(self._world.faults, "never_placed", value=True))
            if boundary.endswith("go on"):
                await wrong.enter_async_context(self._full_store())
            yield

    def take_away(self) -> None:
        """The network ends one of our machines, or starts one anew elsewhere, or its node dies with all it has."""
        running = [entry.hash for entry in self._world.running(self._payer)]
        if not running:
            return
        item_hash = self._dice.choice(running)
        fate = self._dice.choice(["removed", "moved", "node died"])
        self.happened[fate] += 1
        if fate == "removed":
            self._world.remove(item_hash)
        elif fate == "moved":
            self._world.move(item_hash, self._node())
        else:
            dead = next((node for node in self._world.nodes.values() if item_hash in node.vms), None)
            for lost in list(dead.vms) if dead else ():
                self._world.move(lost, self._node())

    def _choices(self) -> list[Callable[[], AbstractAsyncContextManager[None]]]:
        of_network = [lambda name=name: self._wrong(self._world.faults, name, NETWORK[name]) for name in NETWORK]
        of_node = [lambda name=name: self._wrong(self._node().faults, name, NODE[name]) for name in NODE]
        of_machines = [lambda name=name: self._wrong(self._machines.faults, name, MACHINES[name]) for name in MACHINES]
        return [*of_network, *of_node, *of_machines, self._poor, self._full_store, self._jump, self._lock]

    def _node(self) -> Node:
        return self._dice.choice(list(self._world.nodes.values()))

    @asynccontextmanager
    async def _wrong(self, faults: object, name: str, value: object) -> AsyncIterator[None]:
        self.happened[name] += 1
        # Not what was there before: the same may be wrong already, for somebody else and for less long.
        calm = getattr(type(faults)(), name)
        setattr(faults, name, value)
        try:
            yield
        finally:
            setattr(faults, name, calm)

    @asynccontextmanager
    async def _poor(self) -> AsyncIterator[None]:
        """The wallet is empty."""
        self.happened["no credit"] += 1
        before = self._world.deposits[self._payer]
        self._world.deposits[self._payer] = int(self._world.spent(self._payer)) + 1
        try:
            yield
        finally:
            self._world.deposits[self._payer] = before

    @asynccontextmanager
    async def _full_store(self) -> AsyncIterator[None]:
        """Nothing more can be kept where snapshots are."""
        self.happened["store full"] += 1
        self._switches.fill_store(is_full=True)
        try:
            yield
        finally:
            self._switches.fill_store(is_full=False)

    @asynccontextmanager
    async def _jump(self) -> AsyncIterator[None]:
        """The bot's clock is an hour ahead or behind, until somebody sets it."""
        self.happened["clock jump"] += 1
        self._switches.put_clock(self._dice.choice([-HOUR, HOUR]))
        try:
            yield
        finally:
            self._switches.put_clock(0)

    @asynccontextmanager
    async def _lock(self) -> AsyncIterator[None]:
        """Somebody else writes to the bot's database for a second."""
        self.happened["database locked"] += 1
        with _writer(self._database):
            await asyncio.sleep(LOCKED_SECONDS)
        yield


@contextmanager
def _writer(path: Path) -> Iterator[None]:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        with_lock = _try_begin(connection)
        yield
        if with_lock:
            connection.execute("ROLLBACK")
    finally:
        connection.close()


def _try_begin(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:  # the bot is writing: it is the one that locks
        return False
    return True
