"""Fetch what people sent from Telegram, piece by piece. A file's address holds the bot's token: no error tells it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, cast

from telegram.error import BadRequest, TelegramError
from telegram.ext import ExtBot

from bot.errors import FileLost
from bot.telegram.transport import AiohttpRequest

TOO_BIG = "file is too big"


class TelegramFiles:
    """Implements `bot.chat.files.Source`."""

    def __init__(self, bot: ExtBot[Any]) -> None:
        self._bot = bot

    @asynccontextmanager
    async def open(self, file_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """A file, piece by piece; `FileLost` also while it is read."""
        async with AsyncExitStack() as stack:
            with _in_our_words():
                address = (await self._bot.get_file(file_id)).file_path
                transport = cast("AiohttpRequest", self._bot.request)
                pieces = await stack.enter_async_context(transport.download(address or ""))
            yield _read(pieces)


async def _read(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    with _in_our_words():
        async for piece in pieces:
            yield piece


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except BadRequest as error:
        raise FileLost("file-too-big" if TOO_BIG in str(error).lower() else "file-gone") from error
    except TelegramError as error:
        raise FileLost("file-not-fetched", may_heal=True) from error
