"""Run an agent as a process on this host, without a container: it outlives the bot and is found again.

Whether it runs is a lock: the process inherits the open, locked file, so that the lock lives exactly as long as it
does. That needs no parent, survives `kill -9` of the bot, and never mistakes another process for ours.
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, BinaryIO

from bot.errors import MachineError, NotStarted
from bot.machines import health
from bot.machines.engine import Inspection, RunState, Spec
from bot.machines.provider import Place

AGENT = (sys.executable, "-m", "agent")
START_SECONDS = 30.0
STOP_SECONDS = 25.0
"""An agent lets running turns end for 20 s."""
LOCK_SECONDS = 5.0
"""Somebody may be looking at the lock in just this moment."""
POLL_SECONDS = 0.03
LOG_LIMIT_BYTES = 1_000_000
TAIL_BYTES = 64_000
PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
"""Of the bot's environment; its secrets are not the agent's."""
WRITE_PID_THEN_BECOME = 'echo $$ > "$0" && exec "$@"'
"""The process id is on disk before the agent's first instruction, whoever dies in between."""


@dataclass(frozen=True, slots=True)
class Started:
    """What was started last on a machine; no secrets."""

    fingerprint: str
    port: int


class ProcessEngine:
    """One agent per folder: `data`, `agent.log`, `lock`, `pid`, `started.json`."""

    def __init__(self, command: Sequence[str] = AGENT, *, unconfined_tools: bool = False) -> None:
        """With `unconfined_tools` agents run commands and write files for their owners, and nothing confines them."""
        self._command = tuple(command)
        self._own = {"AGENT_UNCONFINED_TOOLS": "true"} if unconfined_tools else {}

    async def prepare(self, place: Place) -> None:
        """Nothing is needed here."""

    async def warm(self, place: Place, release: str) -> None:
        """Nothing is needed here: the release is this code."""

    async def run(self, place: Place, spec: Spec) -> str:
        """Keep what runs already, replace what runs otherwise; the URL."""
        files = Files(Path(place.path))
        now = await self.inspect(place)
        if now.state is RunState.RUNNING:
            if now.fingerprint == self._fingerprint(spec) and now.url and await _serves(files, now.url):
                return now.url
            await self.remove(place)
        url = await self._start(files, spec)
        await self._wait_healthy(files, url)
        return url

    async def inspect(self, place: Place) -> Inspection:
        """Read the folder and try its lock."""
        files = Files(Path(place.path))
        started = files.started()
        if started is None:
            return Inspection(RunState.ABSENT)
        state = RunState.RUNNING if files.is_locked() else RunState.STOPPED
        return Inspection(state, fingerprint=started.fingerprint, url=_url(started.port))

    async def logs(self, place: Place, lines: int = 50) -> str:
        """The end of its log file."""
        return await asyncio.to_thread(Files(Path(place.path)).log_tail, lines)

    async def remove(self, place: Place) -> None:
        """SIGTERM, and SIGKILL for its whole process group if that does not help."""
        files = Files(Path(place.path))
        # Asked for in the moment of its birth, its number is not written yet.
        await _until(lambda: files.process_id() is not None or not files.is_locked(), LOCK_SECONDS)
        for number in (signal.SIGTERM, signal.SIGKILL):
            files.signal(number)
            if await _until(lambda: not files.is_locked(), STOP_SECONDS):
                return
        raise MachineError(f"the agent on {place.machine_id} does not end; look at its process {files.process_id()}")

    async def wipe(self, place: Place) -> None:
        """End it and remove the folder of its data."""
        await self.remove(place)
        await asyncio.to_thread(shutil.rmtree, Files(Path(place.path)).data, ignore_errors=True)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _start(self, files: "Files", spec: Spec) -> str:
        try:
            with ExitStack() as open_files:
                lock = open_files.enter_context(files.lock.open("a"))
                if not await _until(lambda: _locks(lock, fcntl.LOCK_EX), LOCK_SECONDS):
                    raise NotStarted("another agent holds this machine's lock")
                started = files.started()
                door = open_files.enter_context(_listen(started.port if started else 0))
                port = door.getsockname()[1]
                files.note(Started(fingerprint=self._fingerprint(spec), port=port))
                self._spawn(files, spec, door.fileno(), lock.fileno())
        except (OSError, ValueError) as error:  # no such folder, no memory, a NUL in a name
            raise NotStarted(f"no process: {error}") from error
        return _url(port)

    def _spawn(self, files: "Files", spec: Spec, door: int, lock: int) -> None:
        # The number of the one before may be somebody else's by now.
        files.pid.unlink(missing_ok=True)
        with files.open_log() as log:
            # Not asyncio's: its transport kills the process when the bot ends (asyncio/base_subprocess.py, close).
            process = subprocess.Popen(  # noqa: S603  our own command; what users wrote is in `env`
                ("/bin/sh", "-c", WRITE_PID_THEN_BECOME, str(files.pid), *self._command),
                cwd=files.folder,
                env=self._environment(files, spec, door),
                pass_fds=(door, lock),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # Whoever is its parent must take its exit code, or it stays a zombie. Daemon: the bot may end before.
        threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()

    def _environment(self, files: "Files", spec: Spec, fd: int) -> dict[str, str]:
        basics = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return basics | spec.environment() | self._own | {"AGENT_DATA": str(files.data), "AGENT_FD": str(fd)}

    def _fingerprint(self, spec: Spec) -> str:
        return "-".join([spec.fingerprint(), *self._own])

    async def _wait_healthy(self, files: "Files", url: str) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await _serves(files, url):
                    if not files.is_locked():
                        raise NotStarted("the agent ended at once", log=files.log_tail(50))
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as error:
            raise NotStarted(f"no answer in {START_SECONDS:.0f} s", log=files.log_tail(50)) from error


class Files:
    """The folder of one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = folder / "lock"
        self.pid = folder / "pid"
        self.data = folder / "data"
        self._started = folder / "started.json"
        self._log = folder / "agent.log"

    def started(self) -> Started | None:
        """What was started last, if anything was."""
        if not self._started.exists():
            return None
        return Started(**json.loads(self._started.read_text()))

    def note(self, started: Started) -> None:
        """Remember it, atomically."""
        new = self._started.with_suffix(".new")
        new.write_text(json.dumps(asdict(started)))
        new.replace(self._started)

    def is_locked(self) -> bool:
        """An agent runs."""
        if not self.lock.exists():
            return False
        with self.lock.open("a") as lock:
            return not _locks(lock, fcntl.LOCK_SH)  # two that look do not disturb each other

    def process_id(self) -> int | None:
        """Of the agent that was started last; to be trusted only while the lock is held."""
        words = self.pid.read_text().strip() if self.pid.exists() else ""
        return int(words) if words else None

    def signal(self, number: signal.Signals) -> None:
        """To the agent's process group, but only while the lock says that it is ours."""
        group = self.process_id()
        if group is None or not self.is_locked():
            return
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return  # it ended in this moment

    def open_log(self) -> BinaryIO:
        """Append to the log; begin anew when it has grown too long."""
        is_long = self._log.exists() and self._log.stat().st_size > LOG_LIMIT_BYTES
        return self._log.open("wb" if is_long else "ab")

    def log_tail(self, lines: int) -> str:
        """Its last lines."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - TAIL_BYTES))
            tail = log.read().decode(errors="replace")
        return "\n".join(tail.splitlines()[-lines:])


def _locks(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _listen(port: int) -> socket.socket:
    """A listening socket for the child to inherit: the port cannot be taken in between. The old port if it is free."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def _serves(files: Files, url: str) -> bool:
    # The lock after the answer: our agent lives, so the port was its own and nobody else's.
    return await health.answers(url) and files.is_locked()


async def _until(fact: Callable[[], bool], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            while not fact():  # noqa: ASYNC110  a fact of the operating system
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        return False
    return True
