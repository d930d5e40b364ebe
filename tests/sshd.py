"""An SSH server on loopback that lets in to this host: a machine elsewhere, as far as an engine can tell."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncssh

from bot.machines.provider import Place, Remote, Target
from bot.machines.ssh import DOCKER_SOCKET

KEY = asyncssh.generate_private_key("ssh-ed25519")
OFFERED = "127.0.0.2"
"""Where ports that are offered to 127.0.0.1 of the machine are: its loopback is this host's, and they are taken."""


class Sshd:
    """One server. `docker`: the socket that stands for its Docker daemon, None if it has none."""

    def __init__(self, docker: str | None = DOCKER_SOCKET) -> None:
        self.docker = docker
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.port = 0
        self.offers: list[int] = []
        self.scripts: list[str] = []
        self.answers_scripts = True
        self.connections: list[asyncssh.SSHServerConnection] = []
        """All that were ever made."""
        self._listening: asyncssh.SSHAcceptor
        self._programs: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        self._listening = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_factory=lambda: _Server(self),
            server_host_keys=[self.host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(KEY.export_public_key().decode()),
            process_factory=self._bash,
        )
        self.port = self._listening.get_port()

    async def stop(self) -> None:
        self._listening.close()
        self.cut()
        await self._listening.wait_closed()
        for program in self._programs:
            if program.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(program.pid, signal.SIGKILL)
            await program.wait()
            transport: Any = program
            transport._transport.close()

    def cut(self) -> None:
        """Break every connection."""
        for connection in self.connections:
            connection.abort()

    async def _bash(self, process: asyncssh.SSHServerProcess[str]) -> None:
        script = await process.stdin.read()
        self.scripts.append(script)
        if not self.answers_scripts:
            process.exit(1)
            return
        local = await asyncio.create_subprocess_shell(
            process.command or "",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._programs.append(local)
        written, _ = await local.communicate(script.encode())
        process.stdout.write(written.decode())
        process.exit(local.returncode or 0)


class _Server(asyncssh.SSHServer):
    def __init__(self, sshd: Sshd) -> None:
        self._sshd = sshd

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._sshd.connections.append(conn)

    def unix_connection_requested(self, dest_path: str) -> Any:
        if dest_path != DOCKER_SOCKET or self._sshd.docker is None:
            return False
        return self._connection.forward_unix_connection(self._sshd.docker)

    def server_requested(self, listen_host: str, listen_port: int) -> Any:
        assert listen_host == "127.0.0.1"
        return self._listen(listen_port)

    async def _listen(self, port: int) -> Any:
        try:
            listener = await self._connection.forward_local_port(OFFERED, port, "127.0.0.1", port)
        except OSError:
            return False
        self._sshd.offers.append(port)
        return listener


@asynccontextmanager
async def running_sshd(docker: str | None = DOCKER_SOCKET) -> AsyncIterator[Sshd]:
    sshd = Sshd(docker)
    await sshd.start()
    try:
        yield sshd
    finally:
        await sshd.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


class Elsewhere:
    """What a provider knows of one machine behind the server."""

    def __init__(self, sshd: Sshd, machine_id: str, *, host: str = "localhost", port: int | None = None) -> None:
        self.sshd = sshd
        self.machine_id = machine_id
        self.port = port or free_port()
        self.hosts = [host]
        self.host_key: str | None = None

    @property
    def remote(self) -> Remote:
        return Remote(target=self._target, pin=self._pin, urls=self._urls, port=self.port)

    @property
    def place(self) -> Place:
        return Place(self.machine_id, remote=self.remote)

    async def _target(self) -> Target:
        return Target("127.0.0.1", self.sshd.port, self.host_key)

    async def _pin(self, host_key: str) -> None:
        self.host_key = host_key

    async def _urls(self) -> list[str]:
        return [f"https://{host}:{self.port}" for host in self.hosts]
