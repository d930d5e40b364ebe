"""A stand-in machine as tests talk to it."""

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import asyncssh
import docker

from bot.machines.bootstrap import Endpoint, bootstrap
from bot.machines.provider import Target
from bot.machines.ssh import Shell, Ssh
from tests.vm.standins import StandIns

SSH_SECONDS = 30
MINUTE = 60.0


def new_ssh() -> Ssh:
    """Of an operator with a key of their own."""
    return Ssh(asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode())


class Machine(ABC):
    """One machine, its ports and the operator's key."""

    ssh_seconds: float = SSH_SECONDS
    """How long it may take from power to SSH."""

    def __init__(self) -> None:
        self.ssh = new_ssh()
        self.ports: dict[int, int] = {}
        self.host_key: str | None = None
        self.steps: dict[str, float] = {}
        """What was timed → seconds."""

    async def start(self) -> None:
        """Boot it, until it lets us in."""
        with self.timed("boot"):
            self.ports = await self._power_on()
        with self.timed("ssh"):
            await self.ssh.wait(self.find, self.pin, seconds=self.ssh_seconds)

    @abstractmethod
    async def _power_on(self) -> dict[int, int]:
        """Its ports → where they are on loopback."""

    @abstractmethod
    async def reboot(self) -> None:
        """Off and on, until it lets us in."""

    async def bootstrap(self, step: str = "bootstrap", *, allow: Sequence[Endpoint] = ()) -> None:
        """As an engine prepares a machine."""
        async with self.shell() as shell:
            with self.timed(step):
                await bootstrap(shell, allow)

    async def run(self, script: str, *, seconds: float = MINUTE) -> str:
        """What a script wrote there."""
        async with self.shell() as shell:
            return await shell.run(script[:40], script, seconds=seconds)

    @asynccontextmanager
    async def shell(self) -> AsyncIterator[Shell]:
        """A connection to it."""
        async with self.ssh.shell(self.find, self.pin) as shell:
            yield shell

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long it takes."""
        started = time.monotonic()
        yield
        self.steps[step] = round(time.monotonic() - started, 2)

    async def find(self) -> Target:
        """Where its sshd is."""
        return Target("127.0.0.1", self.ports[22], self.host_key)

    async def pin(self, key: str) -> None:
        """Remember its host key."""
        self.host_key = key


class StandIn(Machine):
    """A container that stands for one."""

    def __init__(self, standins: StandIns) -> None:
        super().__init__()
        self._standins = standins
        self.hash = os.urandom(32).hex()

    async def reboot(self) -> None:
        """It may have other ports afterwards."""
        self.ports = await self._standins.reboot(self.hash)
        await self.ssh.wait(self.find, self.pin, seconds=self.ssh_seconds)

    async def _power_on(self) -> dict[int, int]:
        return await self._standins.start(self.hash, [self.ssh.public_key])


@contextmanager
def machine_of(client: docker.DockerClient, image: str) -> Iterator[Machine]:
    """For fixtures: a machine that is gone afterwards."""
    standins = StandIns(client, image)
    machine = StandIn(standins)
    try:
        asyncio.run(machine.start())
        yield machine
    finally:
        print(image, machine.steps)  # noqa: T201  for `pytest -rP`
        asyncio.run(standins.close())
