"""Tools for what shall outlive a conversation."""

from typing import Annotated

from agent.toolbox import ToolFailed, tool
from agent.tools.desk import Desk


@tool("Remembering")
async def remember(desk: Desk, note: Annotated[str, "one fact, in a sentence that can be understood by itself"]) -> str:
    """Keep something for good: you will see it in every later conversation here. For lasting facts and wishes only."""
    number = desk.memory.add(note)
    return f"Kept as note {number}."


@tool("Forgetting")
async def forget(desk: Desk, number: Annotated[int, "of the note"]) -> str:
    """Remove one of the notes that you see at the beginning of a conversation."""
    if not desk.memory.remove(number):
        raise ToolFailed(f"There is no note {number}.")
    return f"Note {number} is gone."
