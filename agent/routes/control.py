"""Say how the agent is."""

from typing import Any

from litestar import Request, get
from litestar.di import NamedDependency

from agent.agenda import Agenda
from agent.auth import Key
from agent.llm import Llm
from agent.protocol import Health
from agent.settings import Settings
from agent.turns import Turns


@get("/health")
async def health(  # noqa: PLR0917 - dependencies, by name
    request: Request[Any, Any, Any],
    turns: NamedDependency[Turns],
    agenda: NamedDependency[Agenda],
    settings: NamedDependency[Settings],
    key: NamedDependency[Key],
    llm: NamedDependency[Llm],
) -> Health:
    """Tell everybody that the agent is up, and who has the secret also what it does."""
    known = key.opens(request.scope["headers"])
    if known:  # the control plane has found it: a first message is not far, and loading the client takes a second
        llm.connect()
    return Health(
        status="draining" if turns.draining else "ok",
        agent_name=settings.agent_name,
        release=settings.agent_release,
        version=settings.agent_version,
        revision=settings.agent_revision,
        digest=settings.agent_digest,
        model=settings.agent_model if known else None,
        running_turns=turns.running if known else None,
        next_due=agenda.next_due() if known else None,
    )
