"""Whether snapshots can be stored, read and removed again: without them a lost machine is a lost agent."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from bot.doctor.checks import Check
from bot.doctor.findings import Wrong
from bot.errors import StoreAway
from bot.settings import Settings
from bot.store.objects import Objects, folder_of, open_objects

NEEDS = ("data_dir", "snapshots_url", "aws_endpoint_url")
WELL = "takes snapshots, gives and removes them"


def checks(settings: Settings) -> list[Check]:
    """The store of SNAPSHOTS_URL."""
    return [Check("snapshots", lambda: _look(settings), NEEDS)]


async def _look(settings: Settings) -> str:
    folder = folder_of(settings)
    if folder is None:
        await _try(open_objects(settings, is_patient=False), _why_no_bucket)
        return f"{settings.snapshots_url} {WELL}"
    if not await asyncio.to_thread(folder.exists):
        return await asyncio.to_thread(_look_at_nothing, folder)
    await _try(open_objects(settings), lambda _: _own(folder))
    return f"{folder} {WELL}"


def _look_at_nothing(folder: Path) -> str:
    there = next(path for path in folder.parents if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise Wrong(f"{folder} cannot be made: {_own(there)}")
    return f"{folder}, made at the first start"


async def _try(objects: Objects, advice: Callable[[BaseException | None], str]) -> None:
    """Store something small, read it, and remove it."""
    path, content = f"doctor/{os.urandom(8).hex()}", os.urandom(64)
    steps: dict[str, Callable[[], Awaitable[object]]] = {
        "stored": lambda: objects.put(path, _once(content)),
        "read": lambda: _compare(objects, path, content),
        "removed": lambda: objects.delete(path),
    }
    for done, step in steps.items():
        try:
            await step()
        except (StoreAway, FileNotFoundError) as error:
            raise Wrong(f"snapshots cannot be {done}: {advice(error.__cause__)}") from None


async def _compare(objects: Objects, path: str, content: bytes) -> None:
    async with aclosing(objects.get(path)) as stored:
        found = b"".join([piece async for piece in stored])
    if found != content:
        raise Wrong("snapshots come back changed: do not use this store, see SNAPSHOTS_URL")


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _own(folder: Path) -> str:
    return f"let the bot's user own {folder}, and see that the disk is not full"


def _why_no_bucket(error: BaseException | None) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such bucket: make it, or correct SNAPSHOTS_URL"
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return "the store refuses it: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what this key may do"
    return "nothing answers as S3 does: check AWS_ENDPOINT_URL, AWS_REGION, the keys, and whether this host reaches it"
