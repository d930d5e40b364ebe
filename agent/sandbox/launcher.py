"""Accept calls from the agent, and fork a keeper for each."""

import os
import select
import socket
import struct
import sys

from agent.sandbox.confine import TOOL
from agent.sandbox.descendants import sweep
from agent.sandbox.keeper import keep
from agent.sandbox.quota import Quota

MAX_CALLS = 8
"""At once; further ones wait at the door."""
_CREDENTIALS = struct.Struct("3i")


def launch(door: socket.socket, user: int, quota: Quota) -> None:
    """Serve this listening socket for ever, for this user alone."""
    Launcher(door, user, quota).run()


class Launcher:
    """The keepers that are at work, by the descriptor that tells of their end."""

    def __init__(self, door: socket.socket, user: int, quota: Quota) -> None:
        self._door = door
        self._user = user
        self._quota = quota
        self._keepers: dict[int, int] = {}

    def run(self) -> None:
        """Serve for ever."""
        while True:
            poll = select.poll()
            for keeper in self._keepers:
                poll.register(keeper, select.POLLIN)
            if len(self._keepers) < MAX_CALLS:
                poll.register(self._door, select.POLLIN)
            for number, _ in poll.poll():
                if number in self._keepers:
                    self._end(number)
                else:
                    self._begin()

    def _begin(self) -> None:
        connection, _ = self._door.accept()
        with connection:
            # The socket's mode keeps everybody else out; this is for a mistake in that mode.
            if _user_of(connection) != self._user:
                return
            keeper = os.fork()
            if keeper == 0:
                self._keep(connection)
            self._keepers[os.pidfd_open(keeper)] = keeper

    def _keep(self, connection: socket.socket) -> None:
        code = 1
        try:
            self._door.close()
            keep(connection, self._quota)
            code = 0
        except Exception as error:  # noqa: BLE001  the launcher's own code must not run on in this process
            print(f"tool launcher: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
        finally:
            os._exit(code)

    def _end(self, descriptor: int) -> None:
        keeper = self._keepers.pop(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(keeper, 0)
        if status:
            sweep(TOOL)


def _user_of(connection: socket.socket) -> int:
    _, user, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(user)
