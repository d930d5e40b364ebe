"""Post updates to a webhook as Telegram does: lanes in parallel, each strictly in order, retried until taken."""

import asyncio
import re
from collections import deque
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.fakes.telegram_queue import Update
from tests.fakes.telegram_refusals import bad_request
from tests.fakes.telegram_state import World, require
from tests.fakes.telegram_wire import DeleteWebhook, NoParameters, SetWebhook

SECRET = re.compile(r"[A-Za-z0-9_-]{0,256}")
LONGEST_PAUSE = 60.0
LONGEST_RETRY_AFTER = 3600.0


@dataclass(slots=True, frozen=True)
class Hook:
    url: str
    secret: str
    max_connections: int
    ip_address: str | None


class Webhooks:
    """The one webhook of the bot, and the deliveries to it."""

    def __init__(self, world: World, *, first_pause: float = 2.0) -> None:
        self._world = world
        self._first_pause = first_pause
        self._hook: Hook | None = None
        self._client: httpx.AsyncClient | None = None
        self._lanes: dict[str, deque[Update]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(40)
        self._last_error: dict[str, Any] = {}

    async def set(self, call: SetWebhook) -> bool:
        """SetWebhook; an empty URL takes it away."""
        require(SECRET.fullmatch(call.secret_token), bad_request("secret token contains unallowed characters"))
        require(1 <= call.max_connections <= 100, bad_request("max_connections must be 1-100"))
        if not call.url:
            return await self.delete(DeleteWebhook(drop_pending_updates=call.drop_pending_updates))
        # Plain HTTP on any port, as a local Bot API server allows: tests listen on loopback.
        parts = urlsplit(call.url)
        valid = parts.scheme in {"http", "https"} and parts.hostname
        require(valid, bad_request("bad webhook: invalid webhook URL specified"))
        await self.stop()
        self._begin(Hook(call.url, call.secret_token, call.max_connections, call.ip_address), call)
        return True

    def _begin(self, hook: Hook, call: SetWebhook) -> None:
        queue = self._world.updates
        queue.allow(call.allowed_updates)
        if call.drop_pending_updates:
            queue.clear()
        self._hook, self._last_error = hook, {}
        self._slots = asyncio.Semaphore(hook.max_connections)
        self._client = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=hook.max_connections))
        queue.deliver = self._deliver
        queue.end_poll()
        for update in queue.waiting():
            self._deliver(update)

    async def delete(self, call: DeleteWebhook) -> bool:
        await self.stop()
        if call.drop_pending_updates:
            self._world.updates.clear()
        return True

    def info(self, _call: NoParameters) -> dict[str, Any]:
        queue = self._world.updates
        known: dict[str, Any] = {"url": "", "has_custom_certificate": False, "pending_update_count": len(queue)}
        if self._hook:
            known |= {"url": self._hook.url, "max_connections": self._hook.max_connections, **self._last_error}
        if self._hook and self._hook.ip_address:
            known["ip_address"] = self._hook.ip_address
        return known | ({"allowed_updates": queue.allowed} if queue.allowed else {})

    async def stop(self) -> None:
        """End every delivery; what was not taken stays in the queue."""
        self._world.updates.deliver = None
        self._hook = None
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lanes.clear()
        self._tasks.clear()
        if self._client:
            await self._client.aclose()
            self._client = None

    def _deliver(self, update: Update) -> None:
        self._lanes.setdefault(update.lane, deque()).append(update)
        if update.lane not in self._tasks:
            self._tasks[update.lane] = asyncio.create_task(self._drain(update.lane))

    async def _drain(self, lane: str) -> None:
        waiting = self._lanes[lane]
        while waiting:
            await self._deliver_one(waiting[0])
            waiting.popleft()
        del self._lanes[lane], self._tasks[lane]

    async def _deliver_one(self, update: Update) -> None:
        pause = 0.0  # the first retry comes at once
        while self._world.updates.holds(update):
            retry_after = await self._post(update)
            if retry_after is None:
                self._world.updates.done(update)
                return
            await asyncio.sleep(max(pause, retry_after))
            pause = min(LONGEST_PAUSE, pause * 2 or self._first_pause)

    async def _post(self, update: Update) -> float | None:
        """None when taken, else the pause that the receiver asked for."""
        assert self._hook
        assert self._client
        headers = {"X-Telegram-Bot-Api-Secret-Token": self._hook.secret} if self._hook.secret else {}
        try:
            async with self._slots:
                answer = await self._client.post(self._hook.url, json=update.wire, headers=headers)
        except httpx.HTTPError as error:
            self._failed(f"{type(error).__name__}: {error}")
            return 0.0
        if answer.is_success:
            return None
        self._failed(f"Wrong response from the webhook: {answer.status_code} {answer.reason_phrase}")
        wanted = answer.headers.get("Retry-After", "0")
        return min(LONGEST_RETRY_AFTER, float(wanted)) if wanted.isdigit() else 0.0

    def _failed(self, reason: str) -> None:
        self._last_error = {"last_error_date": self._world.time(), "last_error_message": reason}
