"""What a turn starts with: the tools that this agent has and this person may use, and what the model should know."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from agent.files import Files
from agent.local import LocalRunner
from agent.loop import Equipment, Output
from agent.memory import Memory
from agent.painter import Painter
from agent.policy import UNCONFINED, may
from agent.protocol import ChatRequest
from agent.sandbox.client import Sandbox
from agent.sandbox.wire import SOCKET
from agent.settings import Settings
from agent.store import Store
from agent.toolbox import Tool, Toolbox
from agent.tools import ALWAYS, IN_WORKSPACE, ON_THE_WEB, PAINTING
from agent.tools.desk import Desk
from agent.web import Web
from agent.workspace import Runner


@dataclass(frozen=True, slots=True)
class Outfitter:
    """Equips turns."""

    store: Store
    files: Files
    painter: Painter
    web: Web
    tools: Sequence[Tool]
    walled: bool

    @classmethod
    def of(cls, settings: Settings, store: Store, files: Files) -> "Outfitter":
        """As this agent is set up: without tools if its model cannot call any; without a wall none that need one."""
        walled = has_wall()
        web_url, image_model = settings.web_url, settings.image_model
        confined = [each for each in IN_WORKSPACE if each.name not in UNCONFINED]
        workspace = IN_WORKSPACE if walled or settings.agent_unconfined_tools else confined
        here = [*ALWAYS, *workspace, *(PAINTING if image_model else ()), *(ON_THE_WEB if web_url else ())]
        web = Web(web_url, settings.llm_api_key)
        painter = Painter(str(settings.llm_base_url), settings.llm_api_key, image_model)
        return cls(store, files, painter, web, here if settings.agent_tools else [], walled)

    def __call__(self, request: ChatRequest, out: Output) -> Equipment:
        """What is for who speaks in this chat."""
        memory = Memory.of(self.store, request.role, request.chat_id)
        files = self.files.of(request.role, request.chat_id)
        desk = Desk(files.workspace, files, self.painter, memory, self.web, out)
        toolbox = Toolbox(self.tools, desk, may=partial(may, request.role, walled=self.walled))
        # A model that cannot call tools is often a small one, which takes such a note for the question.
        return Equipment(toolbox, _context(request, memory) if self.tools else "")


def has_wall() -> bool:
    """Whether a launcher runs tools apart from the agent: in its container."""
    return SOCKET.exists()


def runner(settings: Settings) -> Runner:
    """What runs programs in the workspace."""
    return Sandbox(SOCKET) if has_wall() else LocalRunner(settings.agent_data.absolute() / "workspace")


def _context(request: ChatRequest, memory: Memory) -> str:
    now = datetime.now(UTC)
    lines = [f"It is {now:%A, %Y-%m-%d %H:%M} UTC."]
    if request.user and request.user.name:
        lines.append(f"The person is called {request.user.name}.")
    if notes := memory.words():
        lines.append(f"Your notes about this person and their affairs:\n{notes}")
    return "[Not written by the person, but for your information:\n" + "\n".join(lines) + "]"
