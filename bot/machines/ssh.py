"""Work on a machine over SSH: its host key is pinned at the first contact, its address is asked anew each time."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import asyncssh

from bot.errors import NotPrepared, NotReached
from bot.log import line
from bot.machines.provider import Target

log = logging.getLogger(__name__)

CONNECT_SECONDS = 15.0
POLL_SECONDS = 3.0
KEEPALIVE_SECONDS = 15
TAIL_CHARS = 2_000
DOCKER_SOCKET = "/var/run/docker.sock"


class StrangeHost(NotReached):
    """Another host key than at the first contact: another machine answers there. Nothing was said to it."""


class NotOffered(NotReached):
    """The machine does not take a port of ours: it is in use there, or forwarding is off."""


class CommandFailed(NotPrepared):
    """A command on the machine ended badly; `log` has the end of what it wrote."""


FindTarget = Callable[[], Awaitable[Target]]
Pin = Callable[[str], Awaitable[None]]


class _Pinning(asyncssh.SSHClient):
    """Accepts the pinned host key, or any at the first contact, and remembers which it was."""

    def __init__(self, pinned: str | None) -> None:
        self.pinned = pinned
        self.seen: str | None = None

    def validate_host_public_key(self, _host: str, _addr: str, _port: int, key: asyncssh.SSHKey) -> bool:
        """Asked by asyncssh, which is given no known hosts."""
        self.seen = key.export_public_key().decode().strip()
        return self.pinned is None or self.seen == self.pinned


class Shell:
    """A connection to one machine."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection

    async def run(self, what: str, script: str, *, seconds: float) -> str:
        """Run a script with bash, given by stdin so that nothing of it stands in arguments; what it wrote.

        `CommandFailed` if it ends badly or takes longer; `what` names it there.
        """
        try:
            async with asyncio.timeout(seconds):
                done = await self._connection.run("bash -s", input=script, stderr=asyncssh.STDOUT)
        except TimeoutError as error:
            raise CommandFailed(f"{what} took more than {seconds:.0f} s") from error
        except (OSError, asyncssh.Error) as error:
            raise NotReached(f"the connection broke during {what}: {type(error).__name__}") from error
        written = str(done.stdout or "")
        if done.returncode != 0:
            raise CommandFailed(f"{what}: exit code {done.returncode}", log=written[-TAIL_CHARS:])
        return written

    @asynccontextmanager
    async def docker(self) -> AsyncIterator[str]:
        """The machine's Docker daemon as a socket here, for this user only; its DOCKER_HOST."""
        with tempfile.TemporaryDirectory(prefix="baal-") as folder:
            path = f"{folder}/docker.sock"  # in a folder that only this user may enter (mkdtemp)
            listener = await self._connection.forward_local_path(path, DOCKER_SOCKET)
            try:
                yield f"unix://{path}"
            finally:
                # Not waited for: that would be until each call through it has ended; they end with the connection.
                listener.close()

    async def offer(self, port: int) -> asyncssh.SSHListener:
        """Let the machine reach a port of our loopback as its own, until that is closed: a registry beside the bot.

        `NotOffered` if the machine does not take it.
        """
        try:
            return await self._connection.forward_remote_port("127.0.0.1", port, "127.0.0.1", port)
        except asyncssh.ChannelListenError as error:
            raise NotOffered(f"port {port} is not taken: {error}") from error
        except (OSError, asyncssh.Error) as error:
            raise NotReached(f"the connection broke while port {port} was offered: {type(error).__name__}") from error


class Ssh:
    """Connects with the operator's key."""

    def __init__(self, private_key: str, *, user: str = "root") -> None:
        """`private_key` in OpenSSH's format, without a passphrase."""
        self._key = asyncssh.import_private_key(private_key)
        self._user = user

    @property
    def public_key(self) -> str:
        """What machines are told to let in."""
        return self._key.export_public_key().decode().strip()

    @asynccontextmanager
    async def shell(self, find: FindTarget, pin: Pin) -> AsyncIterator[Shell]:
        """A connection, closed at the end. `NotReached`; `StrangeHost` when somebody else answers."""
        connection = await self._connect(await find(), pin)
        try:
            yield Shell(connection)
        finally:
            connection.close()
            with suppress(OSError, asyncssh.Error):
                await connection.wait_closed()

    async def wait(self, find: FindTarget, pin: Pin, *, seconds: float) -> None:
        """Until it lets us in: a machine that boots has an address before it has an sshd."""
        try:
            async with asyncio.timeout(seconds):
                while not await self._is_open(find, pin):  # noqa: ASYNC110  a fact of the machine
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as error:
            raise NotReached(f"no SSH within {seconds:.0f} s") from error

    async def _is_open(self, find: FindTarget, pin: Pin) -> bool:
        try:
            async with self.shell(find, pin):
                return True
        except StrangeHost:
            raise
        except NotReached as error:
            log.info(line("no SSH yet", why=error))
            return False

    async def _connect(self, target: Target, pin: Pin) -> asyncssh.SSHClientConnection:
        client = _Pinning(target.host_key)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection, _ = await asyncssh.create_connection(
                    lambda: client,
                    target.host,
                    target.port,
                    username=target.user or self._user,
                    client_keys=[self._key],
                    known_hosts=([], [], []),  # the client object decides
                    agent_path=None,
                    config=None,
                    keepalive_interval=KEEPALIVE_SECONDS,
                )
        except asyncssh.HostKeyNotVerifiable as error:
            raise StrangeHost(f"{target.host}:{target.port} has another host key than at the first contact") from error
        except (OSError, TimeoutError, asyncssh.Error) as error:
            raise NotReached(f"{target.host}:{target.port}: {type(error).__name__}") from error
        if target.host_key is None and client.seen:
            await pin(client.seen)
        return connection
