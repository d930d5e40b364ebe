"""The agent's door: who may come in, and in which version of the protocol they speak.

It stands before the router, so that also unknown paths are closed to whoever lacks the secret.
"""

import json
import secrets
from collections.abc import Iterable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from pydantic import SecretStr

from agent import refusals
from agent.protocol import VERSION, VERSION_HEADER, Refusal

_VERSION_NAME = VERSION_HEADER.lower().encode()
_VERSION_FIELD = (_VERSION_NAME, str(VERSION).encode())
# A bot of version N also talks to agents of version N-1.
_SPOKEN = frozenset(str(version).encode() for version in (VERSION, VERSION + 1))
_UNAUTHORIZED = Refusal(kind="unauthorized", text="Send this agent's secret as `Authorization: Bearer …`.")
_UPGRADE = Refusal(
    kind="protocol", text=f"This agent speaks version {VERSION} of the protocol; send it in {VERSION_HEADER}."
)

Headers = Iterable[tuple[bytes, bytes]]


class Key:
    """The bearer secret, compared in constant time."""

    __slots__ = ("_expected",)

    def __init__(self, secret: SecretStr) -> None:
        self._expected = b"Bearer " + secret.get_secret_value().encode()

    def opens(self, headers: Headers) -> bool:
        """Whether these request headers carry the secret."""
        given = _header(headers, b"authorization")
        return given is not None and secrets.compare_digest(given, self._expected)


class Door:
    """ASGI application that lets requests through to another one, and signs every answer with our version."""

    __slots__ = ("_key", "_rooms")

    def __init__(self, rooms: ASGIApp, key: Key) -> None:
        self._rooms = rooms
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP:  # the application's start and end; there are no WebSockets
            await self._rooms(scope, receive, send)
            return

        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], _VERSION_FIELD]
            await send(message)

        await self._serve(scope, receive, signed)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        if scope["path"] == "/health":
            await self._rooms(scope, receive, send)
        elif not self._key.opens(headers):
            await _refuse(scope["path"], send, 401, _UNAUTHORIZED)
        elif _header(headers, _VERSION_NAME) not in (None, *_SPOKEN):
            await _refuse(scope["path"], send, 426, _UPGRADE)
        else:
            await self._rooms(scope, receive, send)


def _header(headers: Headers, name: bytes) -> bytes | None:
    return next((value for field, value in headers if field == name), None)


async def _refuse(path: str, send: Send, status: int, refusal: Refusal) -> None:
    fields = [(b"content-type", b"application/json")]
    if status == 401:  # noqa: PLR2004 - the HTTP status
        fields.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    body = json.dumps(refusals.body(path, status, refusal)).encode()
    await send({"type": "http.response.body", "body": body, "more_body": False})
