"""Ask an agent something over HTTP: where it answers, with what secret, and how what goes wrong is called."""

import ssl
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
from pydantic import SecretStr, ValidationError

from agent import protocol
from bot.errors import AgentBusy, AgentHeld, AgentOffline, AgentRefused
from bot.machines.provider import certificate_name
from bot.machines.tls import reason, server_hostname
from bot.store.models import Machine

CONNECT_SECONDS = 5
"""Until a connection is there, its handshake included."""
SILENCE_SECONDS = 3 * protocol.KEEPALIVE_SECONDS
"""An agent sends an event at least every 15 s; a stream silent for three times that is dead."""
CONNECTIONS = 512
KEPT_SECONDS = 45
"""Of a connection that nobody uses: the gateway before Aleph's machines cuts it after a minute."""
PIECE_BYTES = 64 * 1024
"""Of a file, in memory at a time."""
HELD = "not_active"
"""Kind of the refusal of an agent that stands by, is being sealed, or is sealed."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where an agent answers, and the secret it wants to hear. `name`: see `certificate_name`."""

    url: str
    secret: SecretStr
    name: str = ""

    @classmethod
    def of(cls, machine: Machine, secret: SecretStr) -> "Door":
        """Of the agent on that machine; nothing answers while it has no URL."""
        return cls(url=machine.url or "", secret=secret, name=certificate_name(machine.id))


class Caller:
    """One per process: building a client costs 30 ms of CPU, and a new connection costs a handshake.

    Behind https, nothing is said before the certificate is verified: by `tls`, and to be the machine's own.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        """`tls` says whose certificates count; None: those of public authorities."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        connector = aiohttp.TCPConnector(
            limit=CONNECTIONS, keepalive_timeout=KEPT_SECONDS, ssl=tls or ssl.create_default_context()
        )
        headers = {protocol.VERSION_HEADER: str(protocol.VERSION)}
        # Agents say nothing by cookies, and what one says is no other's business.
        jar = aiohttp.DummyCookieJar()
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers, cookie_jar=jar)

    async def close(self) -> None:
        await self._session.close()

    @asynccontextmanager
    async def call(self, door: Door, method: str, path: str, **kwargs: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, and have the answer while the block lasts; the errors of `bot.errors.AgentError`, also from within."""
        kwargs["headers"] = kwargs.pop("headers", {}) | {"Authorization": f"Bearer {door.secret.get_secret_value()}"}
        # Wherever an agent might send us, its secret does not go with us.
        kwargs |= {"server_hostname": server_hostname(door.url, door.name), "allow_redirects": False}
        try:
            async with self._session.request(method, door.url + path, **kwargs) as response:
                await _check(response)
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AgentOffline(f"{method} {path.split('/')[1]}: {reason(error)}") from error


class Body:
    """What is being sent, and why it could not be read to its end: aiohttp only says that the connection broke."""

    def __init__(self, content: AsyncIterable[bytes]) -> None:
        self._content = content
        self.error: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._content:
                yield piece
        except Exception as error:
            self.error = error
            raise


async def pieces_of(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """What it answers, piece by piece; `AgentOffline` when it breaks off."""
    try:
        async for piece in response.content.iter_chunked(PIECE_BYTES):
            yield piece
    except (aiohttp.ClientError, TimeoutError) as error:
        raise AgentOffline(f"it broke off: {type(error).__name__}") from error


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < HTTPStatus.MULTIPLE_CHOICES:
        return
    refusal = _refusal(await response.read(), response.status)
    if refusal.kind == HELD:
        raise AgentHeld(refusal.text)
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise AgentBusy(refusal.kind, refusal.text)
    raise AgentRefused(refusal.kind, refusal.text, status=response.status)


def _refusal(body: bytes, status: int) -> protocol.Refusal:
    try:
        return protocol.Refusal.model_validate_json(body)
    except ValidationError:
        # Not the agent's own words: a proxy in between.
        return protocol.Refusal(kind=f"http_{status}", text="no refusal of the protocol")
