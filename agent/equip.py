"""What a turn starts with: the tools that this agent has and this person may use, and what the model should know."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from agent.agenda import Agenda
from agent.config import Live
from agent.delegate import Delegates, Delegation
from agent.files import Files
from agent.guide import Guidance, Guide
from agent.local import LocalRunner
from agent.loop import Equipment, Output
from agent.memory import Memory
from agent.painter import Painter
from agent.policy import UNCONFINED, may, may_alone
from agent.protocol import ChatRequest, Role
from agent.recall import Recall
from agent.reminders import Reminders
from agent.sandbox.client import Sandbox
from agent.sandbox.wire import SOCKET
from agent.settings import Settings
from agent.store import NOTHING, Aside, Store
from agent.toolbox import Tool, Toolbox
from agent.tools import ALWAYS, IN_WORKSPACE, ON_THE_WEB, PAINTING
from agent.tools.desk import Desk
from agent.web import Web
from agent.workspace import Runner


@dataclass(frozen=True, slots=True)
class Outfitter:
    """Equips turns."""

    store: Store
    agenda: Agenda
    files: Files
    painter: Painter
    web: Web
    guide: Guide
    delegates: Delegates
    tools: Sequence[Tool]
    live: Live
    walled: bool

    @classmethod
    def of(  # noqa: PLR0917  what an agent is made of
        cls, settings: Settings, store: Store, live: Live, agenda: Agenda, delegates: Delegates, files: Files
    ) -> "Outfitter":
        """As this agent is set up: without a wall no tools that need one, without the web where nobody serves it."""
        walled = has_wall()
        web_url, image_model = settings.web_url, settings.image_model
        confined = [each for each in IN_WORKSPACE if each.name not in UNCONFINED]
        workspace = IN_WORKSPACE if walled or settings.agent_unconfined_tools else confined
        here = [*ALWAYS, *workspace, *(PAINTING if image_model else ()), *(ON_THE_WEB if web_url else ())]
        web = Web(web_url, settings.llm_api_key)
        painter = Painter(str(settings.llm_base_url), settings.llm_api_key, image_model)
        guide = Guide(files.runner) if walled else Guide(folder=_folder(settings))
        return cls(store, agenda, files, painter, web, guide, delegates, here, live, walled)

    async def __call__(self, request: ChatRequest, out: Output) -> Equipment:
        """What is for who speaks in this chat; no tools if the model in force cannot call any."""
        tools = self.tools if self.live.settings().agent_tools else ()
        memory = Memory.of(self.store, request.role, request.chat_id)
        files = self.files.of(request.role, request.chat_id)
        owner = request.role is Role.OWNER
        allowed = partial(may, request.role, walled=self.walled)
        has = {each.name for each in tools if allowed(each.name)}.__contains__
        delegation = Delegation(self.delegates, request.chat_id, out)
        desk = Desk(
            files.workspace,
            files,
            self.painter,
            memory,
            Reminders(self.store, self.agenda.schedule, request, self.agenda.clock),
            self.web,
            out,
            Recall(self.store, request.chat_id),
            partial(self.guide.skill, has=has, owner=owner),
            delegation.run,
        )
        toolbox = Toolbox(tools, desk, may=allowed)
        guidance = await self.guide.read()
        # A model that cannot call tools is often a small one, which takes such a note for the question.
        now = _aside(request, memory, guidance) if tools else NOTHING
        equipment = Equipment(toolbox, now, guidance.instructions(has, owner=owner))
        alone = Toolbox(tools, desk, may=partial(may_alone, request.role, walled=self.walled))
        delegation.equipment = replace(equipment, toolbox=alone)
        return equipment


def has_wall() -> bool:
    """Whether a launcher runs tools apart from the agent: in its container."""
    return SOCKET.exists()


def runner(settings: Settings) -> Runner:
    """What runs programs in the workspace."""
    return Sandbox(SOCKET) if has_wall() else LocalRunner(_folder(settings))


def _folder(settings: Settings) -> Path:
    """The workspace where there is no wall."""
    return settings.agent_data.absolute() / "workspace"


def _aside(request: ChatRequest, memory: Memory, guidance: Guidance) -> Aside:
    """The moment is short and goes with every question; facts may be long and go only when they have changed."""
    now = datetime.now(UTC)
    moment = [f"It is {now:%A, %Y-%m-%d %H:%M} UTC."]
    if request.user and request.user.name:
        moment.append(f"The person is called {request.user.name}.")
    facts = []
    if notes := memory.words():
        facts.append(f"Your notes about this person and their affairs:\n{notes}")
    if request.role is Role.OWNER and guidance.memory:
        facts.append(f"Your MEMORY.md:\n{guidance.memory}")
    return Aside(memory.scope, "\n".join(moment), "\n".join(facts))
