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
        "web_search",
        "web_fetch",
        "remember",
        "forget",
        "remind",
        "reminders",
        "cancel_reminder",
    }
)
"""In a visitor's own folder and notes: `agent.desk` sees to that."""


@dataclass(frozen=True, slots=True)
class ReminderBounds:
    """Of one person in one chat: how many reminders, and the seconds between two runs of scheduled work."""

    most: int
    work_every_seconds: float


REMINDERS = {Role.OWNER: ReminderBounds(50, 5 * 60), Role.VISITOR: ReminderBounds(10, 60 * 60)}


def may(role: Role, tool: str) -> bool:
    """Whether this person may use this tool."""
    return role is Role.OWNER or tool in _VISITOR
