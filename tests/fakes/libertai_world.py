"""What LibertAI's double knows, and whom it lets in."""

import asyncio
import base64
import json
from collections import deque
from typing import Any

from tests.fakes.libertai_sim import Asked, Call, Found, KeyState, Pace, Script

KEY_TEXTS = {
    KeyState.DISABLED: "This API key is disabled.",
    KeyState.EXPIRED: "This API key has expired.",
    KeyState.MONTHLY_LIMIT: "This API key has reached its monthly limit.",
    KeyState.NO_CREDITS: "You have no credits left.",
    KeyState.EXTRA_CREDIT_CAP: "You have reached your extra credit cap.",
}
ERROR_BODIES: dict[int, dict[str, Any]] = {
    401: {"detail": "Unauthorized"},
    403: {"error": {"message": "You have no credits left.", "type": "invalid_request_error", "code": "no_credits"}},
    404: {"detail": "Model 'gone' not found"},
    429: {"detail": "Too Many Requests"},
    500: {"detail": "Internal Server Error"},
    503: {"detail": "All servers unavailable for model"},
}


class Refused(Exception):
    """An answer that is none, in the real one's words."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = headers or {}


class World:
    """What the double knows."""

    def __init__(self) -> None:
        self.keys: dict[str, KeyState] = {}
        self.scripts: deque[Script] = deque()
        self.always = Script()
        self.pace = Pace()
        self.calls: list[Call] = []
        self.found: deque[Found] = deque()
        self.asked: list[Asked] = []
        self.called = asyncio.Condition()
        self.released = asyncio.Event()

    async def record(self, call: Call) -> None:
        """Keep a request for a completion."""
        async with self.called:
            self.calls.append(call)
            self.called.notify_all()

    async def record_search(self, asked: Asked) -> None:
        """Keep a request to the search service."""
        async with self.called:
            self.asked.append(asked)
            self.called.notify_all()


def state(world: World, authorization: str) -> KeyState:
    """Say what is thought of the key."""
    return world.keys.get(authorization.removeprefix("Bearer "), KeyState.UNKNOWN)


def require_key(world: World, authorization: str) -> None:
    """Turn away a key that may not be used."""
    found = state(world, authorization)
    if found is KeyState.UNKNOWN:
        raise Refused(401, ERROR_BODIES[401])
    if found is not KeyState.OK:
        error = {"message": KEY_TEXTS[found], "type": "invalid_request_error", "code": found.value}
        raise Refused(403, {"error": error})


def require_payment(world: World, authorization: str) -> None:
    """Turn away who brings no key, or one that may not be used."""
    if authorization:
        require_key(world, authorization)
        return
    accepts = [{"scheme": "upto", "network": "eip155:8453"}]
    body = {"x402Version": 2, "accepts": accepts, "error": "X-PAYMENT header is required"}
    required = base64.b64encode(json.dumps(body).encode()).decode()
    raise Refused(402, body, {"WWW-Authenticate": "X-PAYMENT", "PAYMENT-REQUIRED": required})
