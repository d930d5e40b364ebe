"""What goes wrong in the network, at random: one thing after the other, each for a moment."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

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


class Misfortunes:
    """Switches faults of the double on and off, by a seed."""

    def __init__(self, world: World, payer: str, dice: random.Random) -> None:
        self._world = world
        self._payer = payer
        self._dice = dice
        self.happened: Counter[str] = Counter()

    async def go_on(self) -> None:
        """Until cancelled; whatever is wrong then is put right."""
        while True:
            happening = self._dice.choice(self._choices())
            with happening():
                await asyncio.sleep(self._dice.uniform(0.1, 0.8))
            await asyncio.sleep(self._dice.uniform(0, 0.4))

    @contextmanager
    def help_to(self, boundary: str) -> Iterator[None]:
        """Some calls are made only when machines do not come up."""
        with ExitStack() as wrong:
            if boundary.endswith(("give_up", "fail")):
                wrong.enter_context(self._wrong(self._world.faults, "never_placed", value=True))
            yield

    def take_away(self) -> None:
        """The network ends one of our machines, or starts one anew elsewhere."""
        running = [entry.hash for entry in self._world.running(self._payer)]
        if not running:
            return
        item_hash = self._dice.choice(running)
        if self._dice.random() < 0.5:
            self.happened["removed"] += 1
            self._world.remove(item_hash)
        else:
            self.happened["moved"] += 1
            self._world.move(item_hash, self._dice.choice(list(self._world.nodes.values())))

    def _choices(self) -> list[Callable[[], AbstractContextManager[None]]]:
        of_network = [lambda name=name: self._wrong(self._world.faults, name, NETWORK[name]) for name in NETWORK]
        of_node = [lambda name=name: self._wrong(self._node().faults, name, NODE[name]) for name in NODE]
        return [*of_network, *of_node, self._poor]

    def _node(self) -> Node:
        return self._dice.choice(list(self._world.nodes.values()))

    @contextmanager
    def _wrong(self, faults: object, name: str, value: object) -> Iterator[None]:
        self.happened[name] += 1
        before = getattr(faults, name)
        setattr(faults, name, value)
        try:
            yield
        finally:
            setattr(faults, name, before)

    @contextmanager
    def _poor(self) -> Iterator[None]:
        """The wallet is empty."""
        self.happened["no credit"] += 1
        before = self._world.deposits[self._payer]
        self._world.deposits[self._payer] = int(self._world.spent(self._payer)) + 1
        try:
            yield
        finally:
            self._world.deposits[self._payer] = before
