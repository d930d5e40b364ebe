"""The shell."""

from typing import Annotated

from agent.toolbox import RESULT_CHARS, tool
from agent.tools.desk import Desk

MAX_SECONDS = 300.0


@tool("Running a command", seconds=MAX_SECONDS + 10)
async def shell(
    desk: Desk,
    command: Annotated[str, "a script for bash"],
    seconds: Annotated[float, "how long it may take, at most 300"] = 60,
) -> str:
    """Run a command in your workspace, a Linux machine of your own: Python is there, and the web.

    Each command starts anew in the same folder; nothing goes on running in the background. Both streams are returned.
    """
    output = await desk.workspace.shell(command, min(max(seconds, 1), MAX_SECONDS), 4 * RESULT_CHARS)
    text = output.data.decode(errors="replace")
    ended = output.result
    notes = [
        f"exit code {ended.code}" if ended.code and ended.ended == "exit" else "",
        "stopped: it wrote too much" if output.truncated else ended.text,
    ]
    return (
        "\n".join(part for part in (text.rstrip(), *(f"[{note}]" for note in notes if note)) if part) or "[no output]"
    )
