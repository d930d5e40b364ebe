"""The tool for what was said earlier."""

from typing import Annotated

from agent.toolbox import ToolFailed, tool
from agent.tools.desk import Desk

MAX_WORDS = 20


@tool("Looking through our conversation", reads_only=True)
async def recall(
    desk: Desk, query: Annotated[str, "a few words, all of which are in the message that you look for"]
) -> str:
    """Search the older messages of this conversation, also those that you only have a summary of. Newest first."""
    words = query.split()
    if not 0 < len(words) <= MAX_WORDS:
        raise ToolFailed(f"Give 1 to {MAX_WORDS} words.")
    found = await desk.recall.search(words)
    return "\n\n---\n\n".join(found) or "No message has all of these words. Try fewer or other ones."
