"""Speak `agent.protocol` to agents over one long-lived pool of connections."""

import ssl
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp
from pydantic import SecretStr, ValidationError

from agent import protocol
from agent.protocol import Attachment
from bot.errors import AgentBusy, AgentOffline, AgentRefused
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
GLANCE_SECONDS = 1.5
"""For what a screen is complete without."""


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


@dataclass(frozen=True, slots=True)
class Upload:
    """How a file is announced to the agent. `name` is a stranger's: the agent makes it safe."""

    id: str
    name: str
    media_type: str
    role: protocol.Role


class AgentClient:
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

    async def put_file(self, door: Door, chat_id: str, file: Upload, content: AsyncIterable[bytes]) -> Attachment:
        """Store a file of a person's with the agent; the same id again replaces it. What `content` raises passes on.

        `AgentRefused` also where it takes no such file (413) or has no room (507); its text is for the person.
        """
        query = {"name": file.name, "role": file.role.value, "media_type": file.media_type}
        body = _Body(content)
        try:
            async with self._call(
                door, "PUT", _file_path(chat_id, file.id), params=query, data=aiter(body)
            ) as response:
                return Attachment.model_validate_json(await response.read())
        except ValidationError as error:
            raise AgentRefused("bad_attachment", "its answer to a file is not of this protocol") from error
        except AgentOffline:
            if body.error is not None:
                raise body.error from None
            raise

    @asynccontextmanager
    async def get_file(self, door: Door, chat_id: str, file_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """A file that the agent made, piece by piece. `AgentOffline` also when it breaks off in the middle."""
        async with self._call(door, "GET", _file_path(chat_id, file_id)) as response:
            yield _pieces(response)

    async def tick(self, door: Door) -> protocol.Outbox:
        """Have it do what is due; the letters that wait, and when to call again."""
        async with self._call(door, "POST", "/tick") as response:
            try:
                return protocol.Outbox.model_validate_json(await response.read())
            except ValidationError as error:
                raise AgentRefused("bad_outbox", "its outbox is not of this protocol") from error

    async def acknowledge(self, door: Door, up_to: int) -> None:
        """The letters up to this number are safe here; again is harmless."""
        body = protocol.Acknowledged(up_to=up_to).model_dump_json().encode()
        headers = {"Content-Type": "application/json"}
        async with self._call(door, "POST", "/outbox/ack", data=body, headers=headers):
            return

    async def usage(self, door: Door, since: str) -> protocol.Spendings:
        """What its chats cost since that day (UTC, ISO). Asked with little patience: `AgentOffline` also when slow."""
        timeout = aiohttp.ClientTimeout(total=GLANCE_SECONDS)
        async with self._call(door, "GET", "/usage", params={"since": since}, timeout=timeout) as response:
            try:
                return protocol.Spendings.model_validate_json(await response.read())
            except ValidationError as error:
                raise AgentRefused("bad_usage", "its usage is not of this protocol") from error

    @asynccontextmanager
    async def _call(self, door: Door, method: str, path: str, **kwargs: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        kwargs["headers"] = kwargs.pop("headers", {}) | {"Authorization": f"Bearer {door.secret.get_secret_value()}"}
        # Wherever an agent might send us, its secret does not go with us.
        kwargs |= {"server_hostname": server_hostname(door.url, door.name), "allow_redirects": False}
        try:
            async with self._session.request(method, door.url + path, **kwargs) as response:
                await _check(response)
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AgentOffline(f"{method} {path.split('/')[1]}: {reason(error)}") from error


class _Body:
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


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_chunked(PIECE_BYTES):
            yield piece
    except (aiohttp.ClientError, TimeoutError) as error:
        raise AgentOffline(f"the file broke off: {type(error).__name__}") from error


def _file_path(chat_id: str, file_id: str) -> str:
    return f"/files/{quote(chat_id, safe='')}/{quote(file_id, safe='')}"


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status < HTTPStatus.MULTIPLE_CHOICES:
        return
    refusal = _refusal(await response.read(), response.status)
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise AgentBusy(f"{refusal.kind}: {refusal.text}")
    raise AgentRefused(refusal.kind, refusal.text, status=response.status)


def _refusal(body: bytes, status: int) -> protocol.Refusal:
    try:
        return protocol.Refusal.model_validate_json(body)
    except ValidationError:
        # Not the agent's own words: a proxy in between.
        return protocol.Refusal(kind=f"http_{status}", text="no refusal of the protocol")
