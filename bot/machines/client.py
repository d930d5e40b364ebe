"""Speak `agent.protocol` to agents over one long-lived pool of connections."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp
from pydantic import SecretStr, ValidationError

from agent import protocol
from bot.errors import AgentBusy, AgentOffline, AgentRefused

CONNECT_SECONDS = 5
SILENCE_SECONDS = 3 * protocol.KEEPALIVE_SECONDS
"""An agent sends an event at least every 15 s; a stream silent for three times that is dead."""
CONNECTIONS = 512


@dataclass(frozen=True, slots=True)
class Door:
    """Where an agent answers, and the secret it wants to hear."""

    url: str
    secret: SecretStr


class AgentClient:
    """One per process: building a client costs 30 ms of CPU, and a new connection costs a handshake."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=tls or ssl.create_default_context())
        headers = {protocol.VERSION_HEADER: str(protocol.VERSION)}
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)

    async def close(self) -> None:
        await self._session.close()

    async def chat(self, door: Door, request: protocol.ChatRequest) -> AsyncIterator[protocol.Event]:
        """Run a turn or attach to it: its events after `request.after`, keep-alives included, until a final one.

        `AgentOffline` when the connection fails or breaks, `AgentBusy` when it takes no turn now, `AgentRefused` when
        it refuses this one. Asking again for the same `turn_id` is always safe.
        """
        # An agent of the version before refuses fields that it does not know, also where they say nothing.
        body = request.model_dump_json(exclude_defaults=True).encode()
        headers = {"Accept": protocol.EVENT_STREAM, "Content-Type": "application/json"}
        async with self._call(door, "POST", "/chat", data=body, headers=headers) as response:
            try:
                async for event in protocol.from_sse(response.content.iter_any()):
                    yield event
                    if isinstance(event, protocol.Final):
                        return
            except (aiohttp.ClientError, TimeoutError) as error:
                raise AgentOffline(f"the stream broke: {type(error).__name__}") from error
        raise AgentOffline("the stream ended before the turn did")

    async def health(self, door: Door) -> protocol.Health:
        """Who answers there; with the secret, so that an agent that does not share it is refused."""
        async with self._call(door, "GET", "/health") as response:
            try:
                return protocol.Health.model_validate_json(await response.read())
            except ValidationError as error:
                raise AgentRefused("bad_health", "its health report is not of this protocol") from error

    async def configure(self, door: Door, config: protocol.Config) -> None:
        """Change name, job, model or limits from its next turn on; `AgentRefused` (`stale_config`) if it has newer."""
        body = config.model_dump_json(exclude_none=True).encode()
        async with self._call(door, "PUT", "/config", data=body, headers={"Content-Type": "application/json"}):
            return

    async def stop(self, door: Door, chat_id: str) -> None:
        """Stop the running turn of a chat; harmless if none runs."""
        async with self._call(door, "POST", f"/chat/{quote(chat_id, safe='')}/stop"):
            return

    async def forget(self, door: Door, chat_id: str) -> None:
        """Forget the conversation of a chat."""
        async with self._call(door, "DELETE", f"/chat/{quote(chat_id, safe='')}"):
            return

    @asynccontextmanager
    async def _call(self, door: Door, method: str, path: str, **kwargs: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = kwargs.pop("headers", {}) | {"Authorization": f"Bearer {door.secret.get_secret_value()}"}
        try:
            async with self._session.request(method, door.url + path, headers=headers, **kwargs) as response:
                await _check(response)
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AgentOffline(f"{method} {path.split('/')[1]}: {type(error).__name__}") from error


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < HTTPStatus.BAD_REQUEST:
        return
    refusal = _refusal(await response.read(), response.status)
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise AgentBusy(f"{refusal.kind}: {refusal.text}")
    raise AgentRefused(refusal.kind, refusal.text)


def _refusal(body: bytes, status: int) -> protocol.Refusal:
    try:
        return protocol.Refusal.model_validate_json(body)
    except ValidationError:
        # Not the agent's own words: a proxy in between.
        return protocol.Refusal(kind=f"http_{status}", text="no refusal of the protocol")
