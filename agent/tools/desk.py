"""What the tools of one turn work with."""

from dataclasses import dataclass

from agent.memory import Memory
from agent.web import Web
from agent.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Desk:
    """Already narrowed to who speaks: a visitor's tools cannot reach beyond it."""

    workspace: Workspace
    memory: Memory
    web: Web
