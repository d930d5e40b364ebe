"""Who may use which tool: data, decided here and never by a prompt.

Somebody who found an agent's link is a stranger: no shell, nothing of the owner's files or memory.
"""

from dataclasses import dataclass

from agent.protocol import Role

_VISITOR = frozenset(
    {
        "read_file",
        "write_file",
        "edit_file",
        "list_files",
        "search_files",
        "send_file",
        "web_search",
        "web_fetch",
        "remember",
        "forget",
        "remind",
        "reminders",
        "cancel_reminder",
        "recall",
        "ask",
        "load_skill",
    }
)
"""In a visitor's own folder and notes: `agent.desk` sees to that. No `generate_image`: it is paid by the owner."""

UNCONFINED = frozenset({"shell", "write_file", "edit_file"})
"""What lets a model run or write what it likes: without a wall only for an owner who has turned it on."""

_OF_THE_TURN = frozenset({"ask", "delegate", "send_file", "remind", "reminders", "cancel_reminder"})
"""They speak with the person, or decide what happens later: not for a part of the work to do."""


@dataclass(frozen=True, slots=True)
class ReminderBounds:
    """Of one person in one chat: how many reminders, and the seconds between two runs of scheduled work."""

    most: int
    work_every_seconds: float


REMINDERS = {Role.OWNER: ReminderBounds(50, 5 * 60), Role.VISITOR: ReminderBounds(10, 60 * 60)}


def may(role: Role, tool: str, *, walled: bool = True) -> bool:
    """Whether this person may use this tool; `walled`: the agent's tools run in a container, apart from all else."""
    return role is Role.OWNER or (tool in _VISITOR and (walled or tool not in UNCONFINED))


def may_alone(role: Role, tool: str, *, walled: bool = True) -> bool:
    """Whether a sub-agent that works for this person may use this tool."""
    return may(role, tool, walled=walled) and tool not in _OF_THE_TURN
