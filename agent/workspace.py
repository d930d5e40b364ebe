"""An agent's files, touched only behind the wall: as the tools' user, who has no secrets to lose to a symbolic link."""

import hashlib
import json
import re
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

from agent.protocol import Role
from agent.sandbox.client import Output
from agent.sandbox.wire import BadRequest, Request, Result
from agent.toolbox import ToolFailed

FILE_SECONDS = 30.0
UPLOAD_SECONDS = 300.0
MAX_FILE_BYTES = 10_000_000
_READS = ("read", "list", "search", "stat", "piece")
_NO_ROOM = 3
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SCRIPT = resources.files("agent").joinpath("tools/in_workspace.py").read_text()


class NoRoom(ToolFailed):
    """The workspace is full; the text says what to do."""


class Unreachable(ToolFailed):
    """What runs programs in the workspace is not there."""


class Runner(Protocol):
    """Runs programs in the folder of the workspace: behind the wall (`Sandbox`) or without one (`LocalRunner`)."""

    python: str
    """The program that is Python there."""

    changes: int
    """How many calls may have changed files; nothing else does."""

    async def run(self, request: Request, stdin: bytes = b"", limit: int = ..., *, reads_only: bool = False) -> Output:
        """Run to its end, or stop it after `limit` bytes of output. `OSError`, `BadRequest` if it cannot be run."""

    async def stream_out(
        self, request: Request, take: Callable[[bytes], None], chunks: AsyncIterable[bytes] | None = None
    ) -> Result:
        """Run with these chunks as its input, and hand over what it writes as it comes."""

    async def stream_in(self, request: Request, chunks: AsyncIterable[bytes], limit: int = ...) -> Output:
        """Run with these chunks as its input. What they raise ends the input, and is raised when it has ended."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """What one person may reach: an owner everything, a visitor a folder of their own."""

    runner: Runner
    folder: str

    @classmethod
    def of(cls, runner: Runner, role: Role, chat_id: str) -> "Workspace":
        """The workspace as it is for who speaks in this chat."""
        return cls(runner, "." if role is Role.OWNER else f"visitors/{_folder_name(chat_id)}")

    async def do(self, operation: str, **arguments: object) -> str:
        """Read, write, edit, list, search, stat: the operations of `in_workspace.py`. `ToolFailed` says what failed."""
        return (await self.take(operation, MAX_FILE_BYTES, **arguments)).decode(errors="replace")

    async def take(self, operation: str, limit: int, **arguments: object) -> bytes:
        """Do the same where the answer is of bytes, at most so many."""
        asked = self._asked(operation, arguments)
        output = await self._run(self._request(FILE_SECONDS), asked, limit, reads_only=operation in _READS)
        return _answer(output)

    async def give(self, chunks: AsyncIterable[bytes], **arguments: object) -> bytes:
        """Put a file there whose chunks are framed for `receive`; `NoRoom`, or what the chunks raise."""
        asked = self._asked("receive", arguments)
        try:
            return _answer(await self.runner.stream_in(self._request(UPLOAD_SECONDS), _after(asked, chunks)))
        except OSError as error:
            raise _unreachable(error) from error

    async def shell(self, script: str, seconds: float, limit: int) -> Output:
        """Run a script with bash."""
        return await self._run(Request(["bash", "-c", script], self.folder, seconds), b"", limit)

    def _request(self, seconds: float) -> Request:
        return Request([self.runner.python, "-I", "-S", "-c", _SCRIPT], seconds=seconds)

    def _asked(self, operation: str, arguments: dict[str, object]) -> bytes:
        return json.dumps({"operation": operation, "folder": self.folder, **arguments}).encode() + b"\n"

    async def _run(self, request: Request, stdin: bytes, limit: int, *, reads_only: bool = False) -> Output:
        try:
            return await self.runner.run(request, stdin, limit, reads_only=reads_only)
        except BadRequest as error:
            raise ToolFailed(str(error)) from error
        except OSError as error:
            raise _unreachable(error) from error


def _answer(output: Output) -> bytes:
    ended = output.result
    text = output.data.decode(errors="replace").strip() if ended.code else ""
    if ended.code == _NO_ROOM or ended.ended == "quota":
        raise NoRoom(ended.text or text)
    if ended.code:
        raise ToolFailed(ended.text or text or "This did not work.")
    return output.data


def _unreachable(error: OSError) -> Unreachable:
    return Unreachable(f"The workspace cannot be reached now ({error.strerror}). Do without it.")


async def _after(head: bytes, chunks: AsyncIterable[bytes]) -> AsyncIterable[bytes]:
    yield head
    async for chunk in chunks:
        yield chunk


def _folder_name(chat_id: str) -> str:
    """One folder per chat, whatever characters its id has."""
    return chat_id if _PLAIN.fullmatch(chat_id) else hashlib.sha256(chat_id.encode()).hexdigest()[:32]
