"""Updates waiting for the bot: numbered, confirmed by offset, handed out by long polling."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tests.fakes.telegram_refusals import Refused, other_poller, webhook_is_active

KEPT = 24 * 3600.0
LONGEST_POLL = 50.0
NOT_BY_DEFAULT = frozenset({"chat_member", "message_reaction", "message_reaction_count"})


@dataclass(slots=True, frozen=True)
class Update:
    id: int
    lane: str
    """Kind and chat: a webhook gets the updates of one lane strictly one after another."""
    created: float
    wire: dict[str, Any]


class UpdateQueue:
    """The one queue of one bot."""

    def __init__(self, now: Callable[[], float], *, first_id: int = 1) -> None:
        self._now = now
        self._next_id = first_id
        self._pending: dict[int, Update] = {}
        self._poller: asyncio.Future[None] | None = None
        self._allowed: frozenset[str] | None = None
        self.deliver: Callable[[Update], None] | None = None
        """Set while a webhook is active."""

    def __len__(self) -> int:
        return len(self._pending)

    def allow(self, kinds: Iterable[str] | None) -> None:
        """Remember which kinds are created from now on; None keeps what was said before, nothing is the default."""
        if kinds is not None:
            self._allowed = frozenset(kinds) or None

    @property
    def allowed(self) -> list[str]:
        return sorted(self._allowed or ())

    def add(self, kind: str, chat_id: int, content: dict[str, Any]) -> None:
        if not self._wants(kind):
            return
        update = Update(self._next_id, f"{kind}:{chat_id}", self._now(), {"update_id": self._next_id, kind: content})
        self._next_id += 1
        self._pending[update.id] = update
        if self.deliver:
            self.deliver(update)
        if self._poller and not self._poller.done():
            self._poller.set_result(None)

    def _wants(self, kind: str) -> bool:
        return kind in self._allowed if self._allowed is not None else kind not in NOT_BY_DEFAULT

    async def poll(self, *, offset: int, limit: int, timeout: float) -> list[dict[str, Any]]:
        """getUpdates: confirm what lies before the offset, then wait until there is something."""
        if self.deliver:
            raise webhook_is_active()
        self.end_poll(other_poller())
        self._confirm(offset)
        if not self._pending and timeout > 0:
            await self._wait(min(timeout, LONGEST_POLL))
        size = limit if 1 <= limit <= 100 else 100
        return [update.wire for update in islice(self._pending.values(), size)]

    def end_poll(self, reason: Refused | None = None) -> None:
        """End the request that waits now: with a refusal, or with what there is."""
        poller, self._poller = self._poller, None
        if poller is None or poller.done():
            return
        if reason:
            poller.set_exception(reason)
        else:
            poller.set_result(None)

    def _confirm(self, offset: int) -> None:
        self._forget_old()
        if offset < 0:
            self._drop(max(0, len(self._pending) + offset))
            return
        while self._pending and (first := next(iter(self._pending))) < offset:
            del self._pending[first]

    def _forget_old(self) -> None:
        while self._pending:
            first = next(iter(self._pending.values()))
            if first.created + KEPT > self._now():
                return
            del self._pending[first.id]

    def _drop(self, count: int) -> None:
        for update_id in list(islice(self._pending, count)):
            del self._pending[update_id]

    async def _wait(self, timeout: float) -> None:
        poller = self._poller = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(poller, timeout)
        except TimeoutError:
            pass  # nothing came: the answer is an empty list
        finally:
            if self._poller is poller:
                self._poller = None

    def clear(self) -> None:
        self._pending.clear()

    def done(self, update: Update) -> None:
        """The webhook took it."""
        self._pending.pop(update.id, None)

    def holds(self, update: Update) -> bool:
        """Whether it still waits: neither taken, dropped nor expired."""
        return update.id in self._pending and update.created + KEPT > self._now()

    def waiting(self) -> list[Update]:
        self._forget_old()
        return list(self._pending.values())
