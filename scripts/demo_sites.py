"""Where the demo's agents run: as processes here, in containers here, or on rented machines of a simulated network."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine
from scripts.servers import Host

UNCONFINED = (
    "all. Agents run commands and write files for their owners AS YOU: nothing confines them here.",
    "they read the files you send. No container is around agents here, so they run and write nothing (TOOLS=1).",
)
WALLS = "all. Agents run commands and write files in a container of their own, {where}."

Spawn = Callable[..., Awaitable[str]]
"""Run a module with its arguments as a server that ends with the demo; its URL."""


class SiteName(StrEnum):
    """As PROVIDER names them to `make demo`."""

    LOCAL = "local"
    DOCKER = "docker"
    ALEPH_SIM = "aleph-sim"


class Site(Protocol):
    """One of them. `Refused` says what is missing for it, a line each."""

    deploy_seconds: float
    """How long an agent may take until it is live."""

    def words(self, *, unconfined: bool) -> str:
        """What tools do there."""

    async def host(self) -> Host:
        """This host, as its agents see it. Called first: `Refused` if the site cannot be here."""

    async def open(self, stack: AsyncExitStack, spawn: Spawn) -> dict[str, str]:
        """Have what it needs, until the stack is closed; the bot's settings for it."""

    async def clear(self) -> None:
        """End its agents and give back its machines, also those of a run that was killed."""

    async def left(self) -> list[str]:
        """The machines that are there now."""


class LocalSite:
    """Processes of the user, with nothing around them."""

    deploy_seconds = 60.0

    def __init__(self, folder: Path) -> None:
        self._provider = LocalProvider(folder / "data" / "machines", ProcessEngine())

    def words(self, *, unconfined: bool) -> str:
        """As the user, or hardly any."""
        return UNCONFINED[0 if unconfined else 1]

    async def host(self) -> Host:
        """Loopback."""
        return Host()

    async def open(self, stack: AsyncExitStack, spawn: Spawn) -> dict[str, str]:
        """Nothing is needed."""
        del stack, spawn
        return {"PROVIDER": "local", "ENGINE": "process"}

    async def clear(self) -> None:
        """By the folders."""
        for machine in await self._provider.listed():
            await self._provider.give_back(machine)

    async def left(self) -> list[str]:
        """The folders."""
        return await self._provider.listed()


def site_of(name: SiteName, folder: Path) -> Site:
    """The site of a demo in this folder."""
    match name:
        case SiteName.LOCAL:
            return LocalSite(folder)
        case SiteName.DOCKER:
            from scripts.demo_docker import DockerSite  # noqa: PLC0415  the others need no Docker, and no 0.3 s

            return DockerSite(folder)
        case SiteName.ALEPH_SIM:
            from scripts.demo_aleph import AlephSite  # noqa: PLC0415  as above

            return AlephSite(folder)
