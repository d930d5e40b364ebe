"""Tools for the files of the workspace."""

from typing import Annotated

from agent.toolbox import tool
from agent.tools.desk import Desk

PATH = "path of the file, relative to your folder"
CAPTION_CHARS = 1_000
"""Telegram takes 1,024."""


@tool("Reading {path}", reads_only=True)
async def read_file(
    desk: Desk,
    path: Annotated[str, PATH],
    first_line: Annotated[int, "number of the first line to read, from 1"] = 1,
    lines: Annotated[int, "how many lines to read"] = 500,
) -> str:
    """Read a text file, each line with its number."""
    return await desk.workspace.do("read", path=path, first=max(1, first_line), count=max(1, lines))


@tool("Writing {path}")
async def write_file(desk: Desk, path: Annotated[str, PATH], text: Annotated[str, "all that shall be in it"]) -> str:
    """Create a text file, or replace what is in it. Folders are made as needed."""
    return await desk.workspace.do("write", path=path, text=text)


@tool("Changing {path}")
async def edit_file(
    desk: Desk,
    path: Annotated[str, PATH],
    old: Annotated[str, "the passage to replace, exactly as it is in the file"],
    new: Annotated[str, "what shall be there instead"],
    everywhere: Annotated[bool, "replace all such passages, not only a single one"] = False,  # noqa: FBT002  a model's
) -> str:
    """Replace a passage of a text file."""
    return await desk.workspace.do("edit", path=path, old=old, new=new, everywhere=everywhere)


@tool("Looking into {folder}", reads_only=True)
async def list_files(desk: Desk, folder: Annotated[str, "relative to your folder"] = ".") -> str:
    """List what is in a folder and below it, with sizes in bytes."""
    return await desk.workspace.do("list", path=folder)


@tool("Searching the files", reads_only=True)
async def search_files(
    desk: Desk,
    pattern: Annotated[str, "regular expression (Python's)"],
    folder: Annotated[str, "relative to your folder"] = ".",
    names: Annotated[str, "only files whose names are like this, for example *.py"] = "*",
) -> str:
    """Find the lines of text files that a regular expression matches."""
    return await desk.workspace.do("search", pattern=pattern, path=folder, names=names)


@tool("Sending {path}")
async def send_file(
    desk: Desk,
    path: Annotated[str, PATH],
    caption: Annotated[str, "a few words to stand under it"] = "",
) -> str:
    """Send a file of your folder to the person, as a file. At most 50 MB."""
    file = await desk.files.share(path)
    desk.voice.file(file, caption.strip()[:CAPTION_CHARS])
    return f"Sent {path} ({file.size} bytes)."
