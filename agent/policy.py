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
        "send_file",
        "web_search",
        "web_fetch",
        "remember",
        "forget",
    }
)
"""In a visitor's own folder and notes: `agent.desk` sees to that. No `generate_image`: it is paid by the owner."""

UNCONFINED = frozenset({"shell", "write_file", "edit_file"})
"""What lets a model run or write what it likes: without a wall only for an owner who has turned it on."""


def may(role: Role, tool: str, *, walled: bool = True) -> bool:
    """Whether this person may use this tool; `walled`: the agent's tools run in a container, apart from all else."""
    return role is Role.OWNER or (tool in _VISITOR and (walled or tool not in UNCONFINED))
