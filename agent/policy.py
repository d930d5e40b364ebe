"""Who may use which tool: data, decided here and never by a prompt.

Somebody who found an agent's link is a stranger: no shell, nothing of the owner's files or memory.
"""

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
        "recall",
        "ask",
        "load_skill",
    }
)
"""In a visitor's own folder and notes: `agent.desk` sees to that."""


def may(role: Role, tool: str) -> bool:
    """Whether this person may use this tool."""
    return role is Role.OWNER or tool in _VISITOR
