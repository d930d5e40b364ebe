"""What a turn starts with: the tools that this agent has and this person may use, and what the model should know."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from agent.agenda import Agenda
from agent.config import Live
from agent.delegate import Delegates, Delegation
from agent.guide import Guidance, Guide
from agent.loop import Equipment, Output
from agent.memory import Memory
from agent.policy import may, may_alone
from agent.protocol import ChatRequest, Role
from agent.recall import Recall
from agent.reminders import Reminders
from agent.sandbox.client import Sandbox
from agent.sandbox.wire import SOCKET
from agent.settings import Settings
from agent.store import NOTHING, Aside, Store
from agent.toolbox import Tool, Toolbox
from agent.tools import ALWAYS, IN_WORKSPACE, ON_THE_WEB
from agent.tools.desk import Desk
from agent.web import Web
from agent.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Outfitter:
    """Equips turns."""

    store: Store
    agenda: Agenda
    sandbox: Sandbox
    web: Web
    guide: Guide
    delegates: Delegates
    tools: Sequence[Tool]
    live: Live

    @classmethod
    def of(cls, settings: Settings, store: Store, live: Live, agenda: Agenda, delegates: Delegates) -> "Outfitter":
        """As this agent is set up: without files where there is no wall, without the web where nobody serves it."""
        web_url = settings.web_url
        here = [*ALWAYS, *(IN_WORKSPACE if SOCKET.exists() else ()), *(ON_THE_WEB if web_url else ())]
        web = Web(web_url, settings.llm_api_key)
        sandbox = Sandbox()
        guide = Guide(sandbox) if SOCKET.exists() else Guide(folder=settings.agent_data / "workspace")
        return cls(store, agenda, sandbox, web, guide, delegates, here, live)

    async def __call__(self, request: ChatRequest, out: Output) -> Equipment:
        """What is for who speaks in this chat; no tools if the model in force cannot call any."""
        tools = self.tools if self.live.settings().agent_tools else ()
        memory = Memory.of(self.store, request.role, request.chat_id)
        workspace = Workspace.of(self.sandbox, request.role, request.chat_id)
        owner = request.role is Role.OWNER
        has = {each.name for each in tools if may(request.role, each.name)}.__contains__
        delegation = Delegation(self.delegates, request.chat_id, out)
        desk = Desk(
            workspace,
            memory,
            Reminders(self.store, self.agenda.schedule, request, self.agenda.clock),
            self.web,
            out,
            Recall(self.store, request.chat_id),
            partial(self.guide.skill, has=has, owner=owner),
            delegation.run,
        )
        toolbox = Toolbox(tools, desk, may=partial(may, request.role))
        guidance = await self.guide.read()
        # A model that cannot call tools is often a small one, which takes such a note for the question.
        now = _aside(request, memory, guidance) if tools else NOTHING
        equipment = Equipment(toolbox, now, guidance.instructions(has, owner=owner))
        alone = Toolbox(tools, desk, may=partial(may_alone, request.role))
        delegation.equipment = replace(equipment, toolbox=alone)
        return equipment


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
