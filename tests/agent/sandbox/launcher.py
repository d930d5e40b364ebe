"""A launcher for tests: the real one's socket and words, but plain processes behind it."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.sandbox import wire
from agent.sandbox.wire import Result


class Launcher:
    """Serves one call after the other."""

    def __init__(self, path: Path, workspace: Path) -> None:
        self.workspace = workspace
        self.full_when: str = ""
        """Of a file: when it has appeared in the workspace the quota is used up."""
        self.stopped_for_room = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(path))
        self._socket.listen()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(ConnectionError):
                self._keep(connection)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _keep(self, connection: socket.socket) -> None:
        request, (stdin, output) = wire.receive(connection)
        folder = self.workspace / request.folder
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "WORKSPACE": str(self.workspace)}
        with (
            os.fdopen(stdin, "rb") as source,
            os.fdopen(output, "wb") as sink,
            subprocess.Popen(
                request.command, cwd=folder, env=environment, stdin=source, stdout=sink, stderr=sink
            ) as tool,
        ):
            source.close()
            sink.close()
            result = self._watch(connection, tool)
        wire.answer(connection, result)

    def _watch(self, connection: socket.socket, tool: "subprocess.Popen[bytes]") -> Result:
        connection.settimeout(0.01)
        was_full = self._is_full()  # who starts so may go on: it must be able to delete
        while tool.poll() is None:
            if not was_full and self._is_full():
                tool.kill()
                self.stopped_for_room += 1
                return Result("quota", 137, 0.1, "the workspace holds 1024 MB: delete something")
            with suppress(TimeoutError):
                if not connection.recv(1):
                    tool.kill()
                    return Result("stopped", 137, 0.1)
        return Result("exit", tool.returncode, 0.1)

    def _is_full(self) -> bool:
        return bool(self.full_when) and any(self.workspace.glob(self.full_when))


@contextmanager
def launching(folder: Path) -> Iterator[Launcher]:
    """One at `folder`/launcher.sock, for the workspace beside it."""
    (folder / "workspace").mkdir()
    launcher = Launcher(folder / "launcher.sock", folder / "workspace")
    thread = threading.Thread(target=launcher.serve)
    thread.start()
    try:
        yield launcher
    finally:
        launcher.close()
        thread.join()
