"""A hundred agents in one process: the light machines of the chaos tests, rented by no network."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import httpx

from bot.errors import NotReached
from bot.machines.provider import Place, Remote, Target
from tests.chaos.machines import LightEngine, LightMachines


class LightProvider:
    """Implements `Provider`."""

    name = "light"

    def __init__(self, machines: LightMachines) -> None:
        self._machines = machines
        self._ports: dict[str, int] = {}

    async def rent(self, machine_id: str) -> None:
        """Have it at once."""
        if machine_id not in self._ports:
            self._ports[machine_id] = (await self._machines.start(machine_id, []))[22]

    async def reach(self, machine_id: str) -> Place:
        """The engine knows it by its port."""
        if machine_id not in self._ports:
            raise NotReached(machine_id)
        target = Target("127.0.0.1", self._ports[machine_id])

        async def where() -> Target:
            return target

        async def pin(_key: str) -> None:
            return

        async def urls() -> list[str]:
            return []

        return Place(machine_id=machine_id, remote=Remote(where, pin, urls))

    async def give_back(self, machine_id: str) -> None:
        """Its agent ends without a word."""
        if self._ports.pop(machine_id, None):
            await self._machines.stop(machine_id)

    async def listed(self) -> list[str]:
        """By id."""
        return sorted(self._ports)


@dataclass(frozen=True, slots=True)
class Light:
    """What a bot needs of them."""

    machines: LightMachines
    provider: LightProvider
    engine: LightEngine

    def answered(self) -> list[str]:
        """Every message that an agent has answered, as often as it has."""
        agents = [agent for some in self.machines.agents().values() for agent in some]
        turns = [(agent.disk.turns[turn_id]) for agent in agents for turn_id in agent.disk.history]
        return [turn.message for turn in turns if turn.is_answered]


@asynccontextmanager
async def light() -> AsyncIterator[Light]:
    """Machines until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        async with LightMachines(Path(folder), Random(6)) as machines, httpx.AsyncClient() as http:  # noqa: S311
            yield Light(machines, LightProvider(machines), LightEngine(machines.url, http))
