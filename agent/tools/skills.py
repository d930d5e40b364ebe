"""The tool for skills."""

from typing import Annotated

from agent.toolbox import tool
from agent.tools.desk import Desk


@tool("Loading the skill {name}", reads_only=True)
async def load_skill(desk: Desk, name: Annotated[str, "of one of your skills"]) -> str:
    """Read how to do one kind of work well. Do it before you begin such work."""
    return await desk.skills(name.strip())
