"""How an engine gets at a Docker daemon: this host's by its address, a machine's through an SSH connection.

The SDK blocks, so every call is in a thread; also its constructor asks the daemon something.
"""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Protocol

import docker
import requests
from docker.errors import APIError, DockerException

from bot.errors import MachineError, NotPrepared, NotReached
from bot.machines.provider import Place, remote_of
from bot.machines.ssh import CommandFailed, Shell, Ssh

LOCAL = "unix:///var/run/docker.sock"
CALL_SECONDS = 60
LOOK_SECONDS = 15.0
LOOK = "test -S /var/run/docker.sock || test -d /var/lib/docker"


class NoDocker(NotPrepared):
    """There is no Docker on the machine, and there never was: no agent is on it either."""


class Session:
    """A daemon for the calls of one operation. `shell` is its machine's, where that is not this host."""

    def __init__(
        self,
        connect: Callable[[], docker.DockerClient],
        explain: Callable[[Exception], MachineError],
        *,
        threads: Executor | None = None,
        shell: Shell | None = None,
    ) -> None:
        self._connect = connect
        self._explain = explain
        self._threads = threads
        self.shell = shell

    async def call[T](self, work: Callable[[docker.DockerClient], T]) -> T:
        """Do it in a thread. The library's errors become ours: `MachineError`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._work, work)

    def _work[T](self, work: Callable[[docker.DockerClient], T]) -> T:
        with _facts(self._explain):
            return work(self._connect())


class Daemon(Protocol):
    """Finds the daemon of a place."""

    def session(self, place: Place) -> AbstractAsyncContextManager[Session]:
        """For one operation. `NotReached` if it cannot be got at, or breaks off in the middle."""

    async def close(self) -> None:
        """Let go of what is held open between operations."""


class LocalDaemon:
    """One daemon, with one client that is made when it is first needed."""

    def __init__(self, host: str = LOCAL) -> None:
        """`host` as in DOCKER_HOST."""
        self._host = host
        self._client: docker.DockerClient | None = None
        self._connecting = threading.Lock()

    @asynccontextmanager
    async def session(self, place: Place) -> AsyncIterator[Session]:
        """Whatever the place."""
        del place
        yield Session(self._connected, self._explain)

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            await asyncio.to_thread(self._client.close)
            self._client = None

    def _connected(self) -> docker.DockerClient:
        with self._connecting:
            if self._client is None:
                _knock(self._host)
                self._client = docker.DockerClient(base_url=self._host, timeout=CALL_SECONDS, max_pool_size=64)
            return self._client

    def _explain(self, error: Exception) -> MachineError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        return MachineError(
            f"Docker at {self._host} does not answer ({reason}). "
            "Is it running, is DOCKER_HOST right, and may this user open it?"
        )


class ForwardedDaemon:
    """The daemons of machines, each through an SSH connection that lasts for one operation.

    It is closed with the operation, and whatever waits for the daemon at that moment then ends too.
    """

    def __init__(self, ssh: Ssh) -> None:
        self._ssh = ssh

    @asynccontextmanager
    async def session(self, place: Place) -> AsyncIterator[Session]:
        """The place's. `NoDocker` if none was ever put on it."""
        remote = remote_of(place)
        # Threads of its own: a pull takes minutes, and the bot's others are for what takes moments.
        threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"docker-{place.machine_id}")
        try:
            async with self._ssh.shell(remote.target, remote.pin) as shell, shell.docker() as host:
                client = await self._client(place, shell, host, threads)
                try:
                    yield Session(lambda: client, lambda error: _broke(place, error), threads=threads, shell=shell)
                finally:
                    client.close()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _client(self, place: Place, shell: Shell, host: str, threads: Executor) -> docker.DockerClient:
        def connect() -> docker.DockerClient:
            with _facts(lambda error: _broke(place, error)):
                return docker.DockerClient(base_url=host, timeout=CALL_SECONDS)

        try:
            return await asyncio.get_running_loop().run_in_executor(threads, connect)
        except MachineError:
            await _look(place, shell)
            raise


async def _look(place: Place, shell: Shell) -> None:
    try:
        await shell.run("looking for Docker", LOOK, seconds=LOOK_SECONDS)
    except CommandFailed as error:
        raise NoDocker(f"there is no Docker on {place.machine_id}: it has to be prepared first") from error


def _broke(place: Place, error: Exception) -> NotReached:
    return NotReached(
        f"Docker on {place.machine_id} does not answer, or the connection broke ({type(error).__name__}). "
        "On the machine, `systemctl status docker` says whether it runs."
    )


@contextmanager
def _facts(explain: Callable[[Exception], MachineError]) -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except APIError as error:
        raise MachineError(f"Docker refused: {error.explanation}") from error
    except (DockerException, requests.RequestException, OSError, json.JSONDecodeError) as error:
        raise explain(error) from error


def _knock(host: str) -> None:
    """Say in a few words that a socket is not there or shut; the SDK takes several lines, and leaves it open."""
    scheme, _, path = host.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(CALL_SECONDS)
            door.connect(path)
