"""Say how the agent is."""

from typing import Any

from litestar import Request, get
from litestar.di import NamedDependency

from agent.auth import Key
from agent.protocol import Health
from agent.settings import Settings
from agent.turns import Turns


@get("/health")
async def health(
    request: Request[Any, Any, Any],
    turns: NamedDependency[Turns],
    settings: NamedDependency[Settings],
    key: NamedDependency[Key],
) -> Health:
    """Tell everybody that the agent is up, and who has the secret also what it does."""
    known = key.opens(request.scope["headers"])
    return Health(
        status="draining" if turns.draining else "ok",
        agent_name=settings.agent_name,
        release=settings.agent_release,
        model=settings.agent_model if known else None,
        running_turns=turns.running if known else None,
    )
