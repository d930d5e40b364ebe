"""A machine with a kernel and a systemd of its own, emulated: `scripts/standin/qemu`."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bot.errors import NotReached
from bot.machines.provider import Place, Remote
from bot.machines.ssh import CommandFailed
from tests.sshd import free_port
from tests.vm.machine import Machine
from tests.vm.standins import ROOT

SCRIPT = ROOT / "scripts/standin/qemu"
FOLDER = ROOT / "build/qemu"
CONSOLE = FOLDER / "console.log"
BOOT_SECONDS = 600.0
"""Without KVM, on a busy host."""
POLL_SECONDS = 3.0
MACHINE_ID = "m-0123456789abcdef"
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


class Emulated(Machine):
    """The machine as tests talk to it. What it writes to its disk ends with it."""

    ssh_seconds = BOOT_SECONDS

    def __init__(self) -> None:
        super().__init__()
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> Place:
        """As a provider would describe it."""
        return Place(MACHINE_ID, remote=Remote(self.find, self.pin, self.urls))

    async def urls(self) -> list[str]:
        """Where its agent is reached."""
        return [f"https://127.0.0.1:{self.ports[443]}"]

    async def reboot(self) -> None:
        """As its administrator does it. The address stays."""
        before = await self.run(BOOT_ID)
        with suppress(NotReached, CommandFailed):  # it may be gone before it has answered
            await self.run("systemctl reboot")
        async with asyncio.timeout(BOOT_SECONDS):
            while await self._boot_id() in {before, ""}:
                await asyncio.sleep(POLL_SECONDS)

    def end(self) -> None:
        """Switch it off."""
        if self._running:
            self._running.terminate()
            self._running.wait()

    def said(self, step: str) -> None:
        """Show how long a step took, while the others still run."""
        print(f"\n{time.strftime('%T')} {step}: {self.steps[step]:.0f} s", flush=True)  # noqa: T201

    async def _power_on(self) -> dict[int, int]:
        ports = {22: free_port(), 443: free_port()}
        CONSOLE.unlink(missing_ok=True)
        self._running = _boot(self.ssh.public_key, ports)
        return ports

    async def _boot_id(self) -> str:
        try:
            return await self.run(BOOT_ID)
        except (NotReached, CommandFailed):
            return ""


def make_disk() -> None:
    """Unless it is there."""
    done = subprocess.run((SCRIPT, "disk", FOLDER), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _boot(public_key: str, ports: dict[int, int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen((SCRIPT, "boot", FOLDER, public_key, str(ports[22]), str(ports[443]), CONSOLE))


@contextmanager
def emulated() -> Iterator[Emulated]:
    """For fixtures: a machine that has booted, and is gone afterwards."""
    make_disk()
    machine = Emulated()
    try:
        asyncio.run(machine.start())
        machine.said("ssh")
        yield machine
    finally:
        machine.end()
        print(f"\n{machine.steps}; its console: {CONSOLE}")  # noqa: T201
