"""The demo's agents as containers of this host's Docker."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bot.machines.docker import DockerEngine
from bot.machines.local import LocalProvider
from scripts.bridge import for_containers
from scripts.demo_sites import WALLS, Spawn
from scripts.image.commands import Refused, daemon_problem, output, run
from scripts.image.source import ROOT
from scripts.servers import Host

IMAGE = "baal/agent:dev"
SOCKET = "unix:///var/run/docker.sock"


class DockerSite:
    """Containers on a bridge, published on loopback."""

    deploy_seconds = 120.0

    def __init__(self, folder: Path) -> None:
        self._machines = folder / "data" / "machines"

    def words(self, *, unconfined: bool) -> str:
        """What they are told to is done inside."""
        del unconfined
        return WALLS.format(where="on this machine's Docker")

    async def host(self) -> Host:
        """Docker's bridge."""
        if problem := await asyncio.to_thread(daemon_problem):
            raise Refused(f"PROVIDER=docker {problem}")
        return await for_containers()

    async def open(self, stack: AsyncExitStack, spawn: Spawn) -> dict[str, str]:
        """The image."""
        del stack, spawn
        await asyncio.to_thread(have_image)
        return {"PROVIDER": "local", "ENGINE": "docker", "AGENT_IMAGE": IMAGE, "DOCKER_NETWORK": ""}

    async def clear(self) -> None:
        """By the folders, as the bot gives machines back."""
        async with self._provider() as provider:
            for machine in await provider.listed():
                await provider.give_back(machine)

    async def left(self) -> list[str]:
        """The folders."""
        async with self._provider() as provider:
            return await provider.listed()

    @asynccontextmanager
    async def _provider(self) -> AsyncIterator[LocalProvider]:
        engine = DockerEngine(os.environ.get("DOCKER_HOST") or SOCKET)
        try:
            yield LocalProvider(self._machines, engine)
        finally:
            await engine.close()


def have_image() -> None:
    """Build it unless it is there; `make image` builds one that is out of date again."""
    if is_there(IMAGE):
        return
    print(f"There is no image {IMAGE} yet: building it, which takes some minutes.", flush=True)
    run("make", "image", "WHAT=agent", cwd=ROOT)


def is_there(image: str) -> bool:
    """Whether Docker has it."""
    try:
        output("docker", "image", "inspect", image)
    except Refused:
        return False
    return True
