"""Making images."""

from typing import Annotated

from agent.painter import SECONDS
from agent.toolbox import tool
from agent.tools.desk import Desk

FOLDER = "images"
_NAME_CHARS = 40


@tool("Making an image", seconds=SECONDS + 60)
async def generate_image(
    desk: Desk,
    prompt: Annotated[str, "what shall be seen on it, in detail; English works best"],
    name: Annotated[str, "of the file, without a suffix"] = "",
) -> str:
    """Make an image and send it to the person. It is also kept in the folder images."""
    image = await desk.painter.paint(prompt)
    stem = " ".join((name or prompt).split())[:_NAME_CHARS].strip().replace("/", "-").removesuffix(f".{image.suffix}")
    file = await desk.files.save(FOLDER, f"{stem or 'image'}.{image.suffix}", image.media_type, image.data)
    desk.voice.file(file, "")
    return f"Made and sent {file.path}."
