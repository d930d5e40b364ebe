"""Stand-ins for rented machines: containers with a real sshd, a real apt and, once they are prepared, a real Docker.

Their images are made by `scripts/standin/vm`. A machine's address is loopback, with a port for each port of its own
that a node would map.
"""

import asyncio
import fcntl
import secrets
import subprocess
import tempfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

ROOT = Path(__file__).resolve().parent.parent.parent
DEBIAN_12, DEBIAN_13 = "baal-standin/vm:12", "baal-standin/vm:13"
PREPARED_12, PREPARED_13 = f"{DEBIAN_12}-prepared", f"{DEBIAN_13}-prepared"
"""With Docker in them, as distributed: preparing such a machine installs nothing."""
PREFIX = "baal-vm-test-"
PORTS = (22, 80, 443)
STATE = ("/var/lib/docker", "/var/lib/containerd")
"""Docker cannot keep its layers on another Docker's layers."""
RIGHTS = (
    # As --privileged, without the one right that build machines may not have themselves.
    *("--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--device-cgroup-rule=a *:* rwm"),
    *(f"--security-opt={what}=unconfined" for what in ("seccomp", "apparmor", "systempaths")),
    *("--tmpfs=/run:exec,mode=755", "--tmpfs=/tmp:exec", "--sysctl=net.ipv6.conf.all.disable_ipv6=0"),
    "--stop-signal=SIGKILL",  # nobody there would pass another one on
)


def make_image(image: str) -> None:
    """`scripts/standin/vm`, once at a time: the test processes share one Docker."""
    with (Path(tempfile.gettempdir()) / "baal-standin-vm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run((ROOT / "scripts/standin/vm", image), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


class StandIns:
    """Boots and ends machines; implements `tests.fakes.aleph_world.Machines`."""

    def __init__(self, client: docker.DockerClient, image: str = DEBIAN_12, prefix: str = "") -> None:
        """`prefix` begins the names of its containers; without one it is its own."""
        self._client = client
        self._image = image
        self._prefix = prefix or f"{PREFIX}{secrets.token_hex(3)}-"
        self._started: set[str] = set()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One after another for a machine: one that moves ends on its old node and starts on its new one."""

    async def start(self, item_hash: str, keys: list[str]) -> dict[int, int]:
        """A machine that these SSH keys open; its ports → where they are on loopback."""
        await asyncio.to_thread(make_image, self._image)
        async with self._turns[item_hash]:
            container = await asyncio.to_thread(self._start, item_hash, keys)
        return ports_of(container)

    async def stop(self, item_hash: str) -> None:
        """End it, with its disk. Harmless for one that is gone."""
        async with self._turns[item_hash]:
            await asyncio.to_thread(self._stop, item_hash)

    async def reboot(self, item_hash: str) -> dict[int, int]:
        """Off and on again: the disk stays, firewall and processes do not; it may have other ports now."""
        container = self.container(item_hash)
        await asyncio.to_thread(container.restart, timeout=1)
        await asyncio.to_thread(container.reload)
        return ports_of(container)

    async def close(self) -> None:
        """End all of them."""
        await asyncio.gather(*(self.stop(item_hash) for item_hash in list(self._started)))

    def container(self, item_hash: str) -> Container:
        """What stands for it."""
        return self._client.containers.get(self._name(item_hash))

    def _name(self, item_hash: str) -> str:
        return self._prefix + item_hash[:16]

    def _start(self, item_hash: str, keys: list[str]) -> Container:
        name = self._name(item_hash)
        self._started.add(item_hash)
        options = (
            *(f"--env=AUTHORIZED_KEYS={'\n'.join(keys)}", f"--hostname={item_hash[:16]}", f"--name={name}"),
            *(f"--publish=127.0.0.1::{port}" for port in PORTS),
            *(f"--volume={_volume(name, path)}:{path}" for path in STATE),
        )
        command = ("docker", "run", "--detach", *RIGHTS, *options, self._image)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return self._client.containers.get(name)

    def _stop(self, item_hash: str) -> None:
        self._started.discard(item_hash)
        _remove(self._client, self._name(item_hash))


def remove_all(client: docker.DockerClient, prefix: str) -> None:
    """End the machines whose names begin so, also those of a process that was killed."""
    for name in names(client, prefix):
        _remove(client, name)
    for volume in client.volumes.list(filters={"name": f"^{prefix}"}):
        volume.remove(force=True)


def names(client: docker.DockerClient, prefix: str) -> list[str]:
    """Of the machines that are there."""
    listed = client.api.containers(all=True, filters={"name": f"^/{prefix}"})
    return [container["Names"][0].removeprefix("/") for container in listed]


def _remove(client: docker.DockerClient, name: str) -> None:
    with suppress(docker.errors.NotFound):
        client.containers.get(name).remove(force=True)
    for path in STATE:
        with suppress(docker.errors.NotFound):
            client.volumes.get(_volume(name, path)).remove(force=True)


def _volume(name: str, path: str) -> str:
    return name + path.replace("/", "-")


def ports_of(container: Container) -> dict[int, int]:
    """A machine's ports → where they are published."""
    published: dict[str, Any] = container.ports
    return {port: int(published[f"{port}/tcp"][0]["HostPort"]) for port in PORTS}
