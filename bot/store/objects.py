"""Keep large things outside of the database: in a folder, or with whatever speaks S3."""

import asyncio
import logging
import os
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from bot.errors import BadSettings, StoreAway
from bot.log import line
from bot.settings import Settings

log = logging.getLogger(__name__)

PART_BYTES = 8 << 20
"""Of an upload or a download, in memory at a time; S3 takes 10,000 of them, none but the last below 5 MiB."""
UPLOADS = 2
"""Parts of an upload on their way at the same time."""
RETRY_SECONDS = 60
LOOK_SECONDS = 6
STALE_SECONDS = 3_600.0
UNFINISHED = re.compile(r".+#\d+")
"""What the library calls a file that it is still writing."""
ENVIRONMENT = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL"


class Objects:
    """Objects by path. `StoreAway` where the store does not do what it is asked."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        """`folder`: of a store that is one."""
        self._store = store
        self._folder = folder

    @property
    def where(self) -> str:
        """For people; no secret."""
        return str(self._folder) if self._folder else "the S3 bucket of SNAPSHOTS_URL"

    async def put(self, path: str, pieces: AsyncIterator[bytes]) -> int:
        """Store them under a path, all or nothing; how many bytes they were. What `pieces` raises passes on."""
        feed, size = _Feed(), 0
        upload = obstore.put_async(self._store, path, feed, chunk_size=PART_BYTES, max_concurrency=UPLOADS)
        uploading = asyncio.ensure_future(upload)
        try:
            async for piece in pieces:
                size += len(piece)
                await feed.give(piece, uploading)
            await feed.finish(uploading)
        finally:
            await feed.end(uploading)
        if self._folder is not None:
            # Also if the power fails: a machine may be given back because this is safe.
            await asyncio.to_thread(_sync, self._folder, path)
        return size

    async def get(self, path: str) -> AsyncGenerator[bytes]:
        """What is stored there, in pieces; `FileNotFoundError` if nothing is.

        By ranges: nothing is held open while somebody slow takes the pieces, and a connection that breaks is made anew.
        """
        try:
            size = (await obstore.head_async(self._store, path))["size"]
            for start in range(0, size, PART_BYTES):
                length = min(PART_BYTES, size - start)
                yield bytes(await obstore.get_range_async(self._store, path, start=start, length=length))
        except FileNotFoundError:
            raise
        except (BaseError, OSError, ValueError) as error:
            raise _away("was not read", error) from error

    async def delete(self, path: str) -> None:
        """Have nothing there; harmless if there is nothing."""
        try:
            await obstore.delete_async(self._store, path)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise _away("was not removed", error) from error

    async def old(self, prefix: str, seconds: float = STALE_SECONDS) -> AsyncIterator[str]:
        """Paths below a prefix that were written longer ago than so many seconds, as the store's clock goes."""
        try:
            async for page in obstore.list(self._store, prefix=prefix):
                for found in page:
                    if time.time() - found["last_modified"].timestamp() > seconds:
                        yield found["path"]
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise _away("was not listed", error) from error

    async def tidy(self, seconds: float = STALE_SECONDS) -> None:
        """Remove what writers that died left in a folder; in a bucket that is for a rule of its own."""
        if self._folder is not None:
            await asyncio.to_thread(_remove_unfinished, self._folder, seconds)


class _Feed:
    """What an upload is fed with, by the task that has the pieces. It must hear of a failure to take its parts back."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(1)

    def __aiter__(self) -> "_Feed":
        return self

    async def __anext__(self) -> bytes:
        piece = await self._pieces.get()
        if piece is None:
            raise StopAsyncIteration
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def give(self, piece: bytes | None, uploading: asyncio.Future[Any]) -> None:
        """The next piece; `StoreAway` if the upload has failed."""
        giving = asyncio.ensure_future(self._pieces.put(piece))
        try:
            await asyncio.wait({giving, uploading}, return_when=asyncio.FIRST_COMPLETED)
            if uploading.done():
                _result(uploading)
        finally:
            giving.cancel()

    async def finish(self, uploading: asyncio.Future[Any]) -> None:
        """That was all: wait until it is stored."""
        await self.give(None, uploading)
        await asyncio.wait({uploading})
        _result(uploading)

    async def end(self, uploading: asyncio.Future[Any]) -> None:
        """Whatever happened, the upload has ended afterwards: it is stored, or taken back."""
        if not uploading.done():
            while not self._pieces.empty():
                self._pieces.get_nowait()
            self._pieces.put_nowait(_TakenBack())
            await asyncio.wait({uploading})
        if not uploading.cancelled():
            # Looked at, or asyncio calls it an error that nobody saw.
            uploading.exception()


class _TakenBack(Exception):
    """An upload is not to be finished."""


def folder_of(settings: Settings) -> Path | None:
    """Where snapshots are kept on this host; None: they are in a bucket."""
    url = settings.snapshots_url
    if url.startswith("s3://"):
        return None
    return Path(unquote(urlsplit(url).path)) if url else settings.data_dir.absolute() / "snapshots"


def open_objects(settings: Settings, *, is_patient: bool = True) -> Objects:
    """The store of SNAPSHOTS_URL; `BadSettings` if it cannot be used. Nothing is said to it yet.

    Not `is_patient`: it is given up in some seconds, for somebody who waits to hear how it is.
    """
    folder = folder_of(settings)
    if folder is not None:
        return open_folder(folder)
    seconds = RETRY_SECONDS if is_patient else LOOK_SECONDS
    try:
        store = S3Store.from_url(
            settings.snapshots_url,
            config=_credentials(settings),
            client_options={
                "allow_http": settings.aws_endpoint_url.startswith("http://"),
                "connect_timeout": timedelta(seconds=seconds / 4),
            },
            retry_config={"max_retries": 5 if is_patient else 2, "retry_timeout": timedelta(seconds=seconds)},
        )
    except (BaseError, ValueError) as error:
        raise BadSettings(f"SNAPSHOTS_URL cannot be used; write s3://bucket/prefix, and set {ENVIRONMENT}") from error
    return Objects(store)


def _credentials(settings: Settings) -> Any:
    """Those that are set. What is not, the library takes from the environment, or from where it runs."""
    given = {
        "access_key_id": settings.aws_access_key_id.get_secret_value(),
        "secret_access_key": settings.aws_secret_access_key.get_secret_value(),
        "session_token": settings.aws_session_token.get_secret_value(),
        "region": settings.aws_region,
        "endpoint": settings.aws_endpoint_url,
    }
    return {f"aws_{name}": value for name, value in given.items() if value}


def open_folder(folder: Path) -> Objects:
    """A store that is a folder, which is made; `BadSettings` if it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise BadSettings(
            f"SNAPSHOTS_URL: {folder} cannot be made ({error.strerror}); let the bot's user own what it is in"
        ) from None
    return Objects(LocalStore(folder), folder)


def _result(uploading: asyncio.Future[Any]) -> None:
    try:
        uploading.result()
    except (BaseError, OSError) as error:
        raise _away("was not stored", error) from error


def _away(what: str, error: Exception) -> StoreAway:
    # The library's own text goes on for pages, and repeats what it was told.
    return StoreAway(f"a snapshot {what}: {type(error).__name__}: {str(error).partition('\n')[0][:200]}")


def _sync(folder: Path, path: str) -> None:
    changed = folder / path
    for each in (changed, *(above for above in changed.parents if above.is_relative_to(folder))):
        number = os.open(each, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _remove_unfinished(folder: Path, seconds: float) -> None:
    for path in folder.rglob("*#*"):
        if UNFINISHED.fullmatch(path.name) and time.time() - path.stat().st_mtime > seconds:
            path.unlink(missing_ok=True)
            log.info(line("unfinished upload removed", path=path))
