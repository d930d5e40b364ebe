"""One lane per chat: what one chat sends is handled in order, chats go on side by side."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from bot.log import line

log = logging.getLogger(__name__)


class Lanes[Job]:
    """A worker task per busy chat; it ends when the chat has no more to do."""

    def __init__(self, name: str, handle: Callable[[Job], Awaitable[None]]) -> None:
        self._name = name
        self._handle = handle
        self._queues: dict[int, deque[Job]] = {}
        self._workers: dict[int, asyncio.Task[None]] = {}

    def put(self, chat_id: int, job: Job) -> None:
        """Queue a job behind those of the same chat."""
        self._queues.setdefault(chat_id, deque()).append(job)
        if chat_id not in self._workers:
            self._workers[chat_id] = asyncio.create_task(self._work(chat_id), name=f"{self._name} {chat_id}")

    async def drain(self, *, timeout: float) -> None:
        """Wait until all is done, at most that many seconds; then cancel what is left (it is in the database)."""
        workers = list(self._workers.values())
        if workers:
            _, late = await asyncio.wait(workers, timeout=timeout)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _work(self, chat_id: int) -> None:
        queue = self._queues[chat_id]
        try:
            while queue:
                await self._try(chat_id, queue.popleft())
        finally:
            # No await since the queue was seen empty: a new job finds either this worker or none.
            del self._workers[chat_id], self._queues[chat_id]

    async def _try(self, chat_id: int, job: Job) -> None:
        try:
            await self._handle(job)
        except Exception:
            log.exception(line("job failed", lane=self._name, chat=chat_id))
