"""The three processes of a container: how each is started, and how one waits for them."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from agent.sandbox import wire
from agent.sandbox.launcher import launch
from agent.sandbox.quota import Quota
from agent.supervisor.volumes import AGENT, CADDY

AGENT_SOCKET = Path("/run/agent.sock")
_CADDY = ("caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile")
_BACKLOG = 512


class Child:
    """A process that was started, and a descriptor that tells of its end."""

    def __init__(self, name: str, process: int) -> None:
        self.name = name
        self.code: int | None = None
        self._process = process
        self._ended = os.pidfd_open(process)

    def fileno(self) -> int:
        """Readable when it has ended."""
        return self._ended

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        if self.code is None:
            os.kill(self._process, number)

    def wait(self, seconds: float) -> bool:
        """Wait so long for its end; whether it ended. Then `code` is as Python has it: negative for a signal."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        if self.code is None and poll.poll(1000 * seconds):
            _, status = os.waitpid(self._process, 0)
            self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None


def start_launcher(quota: Quota) -> Child:
    """The tool launcher: a fork of ourselves, without our environment."""
    with _listen(wire.SOCKET, socket.SOCK_SEQPACKET, AGENT) as door:
        process = os.fork()
        if process == 0:
            _become_launcher(door, quota)
    return Child("tool launcher", process)


def start_agent(environment: Mapping[str, str]) -> Child:
    """The agent, on a socket that only Caddy may open. It queues requests from the first moment on."""
    with _listen(AGENT_SOCKET, socket.SOCK_STREAM, CADDY) as door:
        own = {**environment, "AGENT_FD": str(door.fileno())}
        return _spawn("agent", (sys.executable, "-m", "agent"), AGENT, own, (door.fileno(),))


def start_caddy(environment: Mapping[str, str]) -> Child:
    """Caddy; the kernel lets any user of a container have ports 80 and 443."""
    return _spawn("caddy", _CADDY, CADDY, environment)


def _spawn(
    name: str, command: tuple[str, ...], user: int, environment: Mapping[str, str], descriptors: tuple[int, ...] = ()
) -> Child:
    process = subprocess.Popen(  # noqa: S603  our own words
        command,
        env=dict(environment),
        user=user,
        group=user,
        extra_groups=(),
        umask=0o077,
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
    )
    return Child(name, process.pid)


def _listen(path: Path, kind: socket.SocketKind, group: int) -> socket.socket:
    """A socket of root's that one group may open: without CAP_CHOWN it has to be born so."""
    path.unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX, kind)
    before = os.umask(0o117)
    os.setegid(group)
    try:
        door.bind(str(path))
    finally:
        os.setegid(0)
        os.umask(before)
    door.listen(_BACKLOG)
    return door


def _become_launcher(door: socket.socket, quota: Quota) -> None:
    try:
        os.environ.clear()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        launch(door, AGENT, quota)
    except BaseException as error:  # noqa: BLE001  the supervisor's own code must not run on in this process
        print(f"tool launcher: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
    finally:
        os._exit(1)
