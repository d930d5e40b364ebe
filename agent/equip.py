"""What a turn starts with: the tools that this agent has and this person may use, and what the model should know."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from agent.config import Live
from agent.loop import Equipment, Output
from agent.memory import Memory
from agent.policy import may
from agent.protocol import ChatRequest
from agent.sandbox.client import Sandbox
from agent.sandbox.wire import SOCKET
from agent.settings import Settings
from agent.store import Store
from agent.toolbox import Tool, Toolbox
from agent.tools import ALWAYS, IN_WORKSPACE, ON_THE_WEB
from agent.tools.desk import Desk
from agent.web import Web
from agent.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Outfitter:
    """Equips turns."""

    store: Store
    sandbox: Sandbox
    web: Web
    tools: Sequence[Tool]
    live: Live

    @classmethod
    def of(cls, settings: Settings, store: Store, live: Live) -> "Outfitter":
        """As this agent is set up: without files where there is no wall, without the web where nobody serves it."""
        web_url = settings.web_url
        here = [*ALWAYS, *(IN_WORKSPACE if SOCKET.exists() else ()), *(ON_THE_WEB if web_url else ())]
        web = Web(web_url, settings.llm_api_key)
        return cls(store, Sandbox(), web, here, live)

    def __call__(self, request: ChatRequest, out: Output) -> Equipment:
        """What is for who speaks in this chat; no tools if the model in force cannot call any."""
        tools = self.tools if self.live.settings().agent_tools else ()
        memory = Memory.of(self.store, request.role, request.chat_id)
        workspace = Workspace.of(self.sandbox, request.role, request.chat_id)
        desk = Desk(workspace, memory, self.web, out)
        toolbox = Toolbox(tools, desk, may=partial(may, request.role))
        # A model that cannot call tools is often a small one, which takes such a note for the question.
        return Equipment(toolbox, _context(request, memory) if tools else "")


def _context(request: ChatRequest, memory: Memory) -> str:
    now = datetime.now(UTC)
    lines = [f"It is {now:%A, %Y-%m-%d %H:%M} UTC."]
    if request.user and request.user.name:
        lines.append(f"The person is called {request.user.name}.")
    if notes := memory.words():
        lines.append(f"Your notes about this person and their affairs:\n{notes}")
    return "[Not written by the person, but for your information:\n" + "\n".join(lines) + "]"
