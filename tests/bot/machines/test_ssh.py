"""Connections to machines, against a server of asyncssh's own with a real shell behind it."""

import asyncio
import os
import signal
import subprocess
from typing import Any

import asyncssh
import pytest

from bot.errors import NotReached
from bot.machines.provider import Target
from bot.machines.ssh import CommandFailed, Ssh, StrangeHost

KEY = asyncssh.generate_private_key("ssh-ed25519")


class Server:
    """One sshd on loopback."""

    def __init__(self):
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.port = 0
        self._listening: asyncssh.SSHAcceptor
        self._programs: list[asyncio.subprocess.Process] = []

    async def start(self, host_key=None, port=0):
        self._listening = await asyncssh.listen(
            "127.0.0.1",
            port,
            server_host_keys=[host_key or self.host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(KEY.export_public_key().decode()),
            process_factory=self._bash,
        )
        self.port = self._listening.get_port()

    async def stop(self):
        self._listening.close()
        await self._listening.wait_closed()
        for program in self._programs:
            if program.returncode is None:
                os.killpg(program.pid, signal.SIGKILL)
            await program.wait()
            transport: Any = program
            transport._transport.close()

    async def _bash(self, process):
        local = await asyncio.create_subprocess_shell(
            process.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._programs.append(local)
        written, _ = await local.communicate((await process.stdin.read()).encode())
        process.stdout.write(written.decode())
        process.exit(local.returncode)


@pytest.fixture
async def server():
    started = Server()
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
def ssh():
    return Ssh(KEY.export_private_key().decode())


class Pinned:
    """What the books remember."""

    def __init__(self, server):
        self.server = server
        self.key = None

    async def find(self):
        return Target("127.0.0.1", self.server.port, self.key)

    async def pin(self, key):
        self.key = key


async def test_a_script_runs_and_what_it_wrote_comes_back(server, ssh):
    pinned = Pinned(server)
    async with ssh.shell(pinned.find, pinned.pin) as shell:
        assert await shell.run("a sum", "echo $((1 + 2)); echo err >&2", seconds=5) == "3\nerr\n"


async def test_a_script_that_fails_says_its_last_words(server, ssh):
    pinned = Pinned(server)
    async with ssh.shell(pinned.find, pinned.pin) as shell:
        with pytest.raises(CommandFailed, match="installing: exit code 7") as failed:
            await shell.run("installing", "echo no space left; exit 7", seconds=5)
        assert failed.value.log == "no space left\n"


async def test_a_script_that_does_not_end_is_given_up(server, ssh):
    pinned = Pinned(server)
    async with ssh.shell(pinned.find, pinned.pin) as shell:
        with pytest.raises(CommandFailed, match="waiting took more than"):
            await shell.run("waiting", "sleep 2", seconds=0.2)


async def test_the_host_key_of_the_first_contact_is_the_only_one_ever_after(server, ssh):
    pinned = Pinned(server)
    async with ssh.shell(pinned.find, pinned.pin):
        pass
    assert pinned.key == server.host_key.export_public_key().decode().strip()
    port = server.port
    await server.stop()
    await server.start(asyncssh.generate_private_key("ssh-ed25519"), port)
    with pytest.raises(StrangeHost):
        async with ssh.shell(pinned.find, pinned.pin):
            pass
    with pytest.raises(StrangeHost):
        await ssh.wait(pinned.find, pinned.pin, seconds=5)


async def test_a_machine_that_boots_is_waited_for_at_its_newest_address(server, ssh, monkeypatch):
    monkeypatch.setattr("bot.machines.ssh.POLL_SECONDS", 0.01)
    ports = iter([1, 1, server.port])

    async def find():
        return Target("127.0.0.1", next(ports))

    await ssh.wait(find, Pinned(server).pin, seconds=5)


async def test_nobody_there_is_said_so(ssh):
    async def find():
        return Target("127.0.0.1", 1)

    with pytest.raises(NotReached):
        async with ssh.shell(find, Pinned(None).pin):
            pass


async def test_a_key_that_is_not_let_in_is_said_so(server):
    stranger = Ssh(asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode())
    pinned = Pinned(server)
    with pytest.raises(NotReached, match="PermissionDenied"):
        async with stranger.shell(pinned.find, pinned.pin):
            pass
    assert pinned.key is None
