"""One call, from request to result: the process that starts a tool, watches over it and cleans up after it."""

import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from agent.sandbox import kernel, wire
from agent.sandbox.confine import TOOL, WORKSPACE, become_tool
from agent.sandbox.descendants import end_all
from agent.sandbox.quota import Quota, Watch
from agent.sandbox.wire import BadRequest, Ended, Request, Result

_SIGNALLED = 128
_REFUSED = 2


def keep(connection: socket.socket, quota: Quota) -> None:
    """Serve the one request of a connection, in a process of its own. Whatever happens, nothing is left running."""
    kernel.adopt_orphans()
    try:
        request, descriptors = wire.receive(connection)
        result = _Call(request, connection, quota).run(descriptors)
    except BadRequest as error:
        result = Result("refused", _REFUSED, 0.0, str(error))
    finally:
        end_all()
    with suppress(ConnectionError):  # it hung up: nobody wants to know any more
        wire.answer(connection, result)


class _Call:
    def __init__(self, request: Request, connection: socket.socket, quota: Quota) -> None:
        self._request = request
        self._connection = connection
        self._watch = Watch(quota, WORKSPACE)
        self._full = ""

    def run(self, descriptors: list[int]) -> Result:
        start = time.monotonic()
        self._full = self._excess()
        tool = _start(self._request, descriptors, may_write=not self._full)
        for number in descriptors:
            os.close(number)
        ended, text = self._watch_over(tool, deadline=start + self._request.seconds)
        if ended != "exit":
            os.kill(tool, signal.SIGKILL)
        _, status = os.waitpid(tool, 0)
        return Result(ended, _code(status), round(time.monotonic() - start, 3), text)

    def _watch_over(self, tool: int, *, deadline: float) -> tuple[Ended, str]:
        poll = select.poll()
        exited = os.pidfd_open(tool)
        poll.register(exited, select.POLLIN)
        poll.register(self._connection, select.POLLIN | select.POLLRDHUP)
        while True:
            left = deadline - time.monotonic()
            happened = {number for number, _ in poll.poll(1000 * max(0.0, min(left, self._watch.pause())))}
            if exited in happened:
                return "exit", self._full
            if happened:
                return "stopped", ""
            if left <= 0:
                return "timeout", f"stopped after {self._request.seconds:.0f} s"
            # Who starts over the quota cannot write, and may go on: it must be able to delete.
            if not self._full and (excess := self._excess()):
                return "quota", excess

    def _excess(self) -> str:
        with _as_tool():
            return self._watch.excess()


def _start(request: Request, descriptors: list[int], *, may_write: bool) -> int:
    tool = os.fork()
    if tool == 0:
        stdin, output = descriptors
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        become_tool(request, may_write=may_write)
    return tool


@contextmanager
def _as_tool() -> Iterator[None]:
    """With the file rights of the tools' user; our real user stays, so that they cannot touch us."""
    os.seteuid(TOOL)
    try:
        yield
    finally:
        os.seteuid(0)


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else _SIGNALLED - code
