"""What the tools of one turn work with."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.files import ChatFiles
from agent.memory import Memory
from agent.painter import Painter
from agent.protocol import Attachment
from agent.recall import Recall
from agent.reminders import Reminders
from agent.web import Web
from agent.workspace import Workspace


class Voice(Protocol):
    """The ways of a tool to reach the person, apart from the answer."""

    def notice(self, text: str) -> None:
        """Say something that is not part of the answer."""

    def file(self, file: Attachment, caption: str) -> None:
        """Hand over a file."""

    def ask(self, question: str, options: Sequence[str]) -> None:
        """Ask, which ends the answer."""

    @property
    def asked(self) -> bool:
        """Whether that was done."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Already narrowed to who speaks: a visitor's tools cannot reach beyond it."""

    workspace: Workspace
    files: ChatFiles
    painter: Painter
    memory: Memory
    reminders: Reminders
    web: Web
    voice: Voice
    recall: Recall
    skills: Callable[[str], Awaitable[str]]
    """What a skill of this name says."""
    delegate: Callable[[str, str], Awaitable[str]]
    """What a sub-agent reports of a task, given a context."""
