"""The tool that hands out work."""

from typing import Annotated

from agent.toolbox import tool
from agent.tools.desk import Desk

_SECONDS = 3_600.0
"""Never the bound: a sub-agent has its own time, its turn too, and some wait for others."""


@tool("Delegating: {task}", reads_only=True, seconds=_SECONDS)
async def delegate(
    desk: Desk,
    task: Annotated[str, "what to do and what to report, complete: nothing of this conversation is known there"],
    context: Annotated[str, "facts, names, addresses and paths that are needed for it"] = "",
) -> str:
    """Hand a part of the work to a sub-agent: a fresh conversation with most of your tools, which reports once.

    For parts that are long and do not depend on each other, such as three products to compare: call it once for each,
    in one step; up to 3 work at the same time. Do short things yourself.
    """
    return await desk.delegate(task, context)
