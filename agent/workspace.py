"""An agent's files, touched only behind the wall: as the tools' user, who has no secrets to lose to a symbolic link."""

import hashlib
import json
import re
from dataclasses import dataclass
from importlib import resources

from agent.protocol import Role
from agent.sandbox.client import Output, Sandbox
from agent.sandbox.wire import BadRequest, Request
from agent.toolbox import ToolFailed

FILE_SECONDS = 30.0
MAX_FILE_BYTES = 10_000_000
_READS = ("read", "list", "search")
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SCRIPT = resources.files("agent.tools").joinpath("in_workspace.py").read_text()


@dataclass(frozen=True, slots=True)
class Workspace:
    """What one person may reach: an owner everything, a visitor a folder of their own."""

    sandbox: Sandbox
    folder: str

    @classmethod
    def of(cls, sandbox: Sandbox, role: Role, chat_id: str) -> "Workspace":
        """The workspace as it is for who speaks in this chat."""
        return cls(sandbox, "." if role is Role.OWNER else f"visitors/{_folder_name(chat_id)}")

    async def do(self, operation: str, **arguments: object) -> str:
        """Read, write, edit, list or search: the operations of `in_workspace.py`. `ToolFailed` says what was wrong."""
        asked = {"operation": operation, "folder": self.folder, **arguments}
        words = ["python3", "-I", "-S", "-c", _SCRIPT]
        request, stdin = Request(words, seconds=FILE_SECONDS), json.dumps(asked).encode()
        output = await self._run(request, stdin, MAX_FILE_BYTES, reads_only=operation in _READS)
        text = output.data.decode(errors="replace")
        if output.result.code:
            raise ToolFailed(output.result.text or text.strip() or "This did not work.")
        return text

    async def shell(self, script: str, seconds: float, limit: int) -> Output:
        """Run a script with bash."""
        return await self._run(Request(["bash", "-c", script], self.folder, seconds), b"", limit)

    async def _run(self, request: Request, stdin: bytes, limit: int, *, reads_only: bool = False) -> Output:
        try:
            return await self.sandbox.run(request, stdin, limit, reads_only=reads_only)
        except BadRequest as error:
            raise ToolFailed(str(error)) from error
        except OSError as error:
            raise ToolFailed(f"The workspace cannot be reached now ({error.strerror}). Do without it.") from error


def _folder_name(chat_id: str) -> str:
    """One folder per chat, whatever characters its id has."""
    return chat_id if _PLAIN.fullmatch(chat_id) else hashlib.sha256(chat_id.encode()).hexdigest()[:32]
