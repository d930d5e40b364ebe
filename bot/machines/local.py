"""Machines that are folders on this host: for laptops, the demo and fast tests."""

import asyncio
import shutil
from pathlib import Path

from bot.errors import MachineError, NotReached
from bot.machines.engine import Engine
from bot.machines.provider import MACHINE_ID, Place


class LocalProvider:
    """A machine is a folder of its own below `folder`, readable by this user only."""

    name = "local"

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._folder = folder.resolve()
        self._engine = engine

    async def rent(self, machine_id: str) -> None:
        """Make the folder."""
        path = self._path(machine_id)
        await asyncio.to_thread(path.mkdir, mode=0o700, parents=True, exist_ok=True)

    async def reach(self, machine_id: str) -> Place:
        """The folder, if it is there."""
        path = self._path(machine_id)
        if not await asyncio.to_thread(path.is_dir):
            raise NotReached(f"there is no folder {path.name}")
        return Place(machine_id=machine_id, path=str(path))

    async def give_back(self, machine_id: str) -> None:
        """End what runs there and remove the folder with all its data."""
        path = self._path(machine_id)
        if not await asyncio.to_thread(path.is_dir):
            return
        await self._engine.wipe(Place(machine_id=machine_id, path=str(path)))
        await asyncio.to_thread(shutil.rmtree, path, onexc=_unless_gone)

    async def listed(self) -> list[str]:
        """The folders that are machines; whatever else lies there is left alone."""
        return await asyncio.to_thread(self._list)

    def _list(self) -> list[str]:
        if not self._folder.is_dir():
            return []
        return sorted(path.name for path in self._folder.iterdir() if MACHINE_ID.fullmatch(path.name))

    def _path(self, machine_id: str) -> Path:
        if not MACHINE_ID.fullmatch(machine_id):
            raise MachineError(f"not a machine id: {machine_id!r}")
        return self._folder / machine_id


def _unless_gone(_function: object, _path: object, error: BaseException) -> None:
    # Somebody else gives it back at the same moment: all the better.
    if not isinstance(error, FileNotFoundError):
        raise error
