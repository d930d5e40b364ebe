"""Whether the bot may write where it keeps everything, and there is room."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from bot.doctor.checks import Check
from bot.doctor.findings import Wrong
from bot.settings import Settings

GIB = 1024**3
ROOM = 1 * GIB
"""Below that, the next snapshots or a log may fill the disk."""


def checks(settings: Settings) -> list[Check]:
    """The data folder."""
    return [Check("data", lambda: asyncio.to_thread(_look, settings.data_dir.absolute()), ("data_dir",))]


def _look(folder: Path) -> str:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
        free = shutil.disk_usage(there).free
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise Wrong(f"{folder} cannot be written ({why}): let the bot's user own it, or set DATA_DIR") from None
    if free < ROOM:
        raise Wrong(f"only {free / GIB:.2f} GiB are free in {folder}: make room, or set DATA_DIR to a larger disk")
    made = "" if there == folder else ", made at the first start"
    return f"{folder}{made}, {free / GIB:.0f} GiB free"
