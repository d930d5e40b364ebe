"""Keep the bot's calls within Telegram's rates, so that one chat's penalty never delays another chat's answer."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from itertools import count
from typing import Any, Protocol, override

from telegram.error import RetryAfter, TelegramError
from telegram.ext import BaseRateLimiter

GLOBAL_RATE = 28.0  # calls a second; Telegram's FAQ says about 30
_GLOBAL_BURST = 8
_SPARE = _GLOBAL_BURST // 2  # what calls that may be dropped leave for those that may not
_PRIVATE_RATE, _PRIVATE_BURST = 1.0, 4
_GROUP_RATE, _GROUP_BURST = 16 / 60, 4  # never more than 20 in any minute
_FLOOD_CHATS, _FLOOD_SECONDS = 3, 5.0
_IDLE_CHECK = 1_000
_ROUNDING = 1e-6

Json = dict[str, Any]
Result = bool | Json | list[Json]


class Priority(IntEnum):
    """Who goes first. Hand it to any method of the bot as `rate_limit_args`; without it a call is CONTROL.

    PROGRESS and TYPING never wait: they go at once or are `Dropped`.
    """

    FINAL = 1  # PTB would lose a 0
    CALLBACK = 2
    CONTROL = 3
    FIRST = 4
    PROGRESS = 5
    TYPING = 6


class Dropped(TelegramError):
    """This progress call was not made, for lack of room. Nothing to do: what comes next shows the same and more."""


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """What asyncio's event loop offers of time; the loop itself is one."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer: ...


def edit_interval(active_streams: int) -> float:
    """Seconds between two edits of one answer, so that all the streams together stay within the global rate."""
    return min(max(active_streams / 18, 1.5), 6.0)


@dataclass(slots=True)
class _Bucket:
    """A token bucket as one moment: when it would be full again (GCRA)."""

    rate: float
    burst: int
    full_at: float = 0.0

    def ready_at(self, spare: int = 0) -> float:
        return self.full_at - (self.burst - 1 - spare) / self.rate - _ROUNDING

    def take(self, now: float) -> None:
        self.full_at = max(now, self.full_at) + 1 / self.rate


@dataclass(slots=True)
class _Chat:
    bucket: _Bucket
    closed_until: float = 0.0

    def ready_at(self) -> float:
        return max(self.closed_until, self.bucket.ready_at())

    def is_idle(self, now: float) -> bool:
        return max(self.closed_until, self.bucket.full_at) < now


@dataclass(order=True, slots=True)
class _Waiter:
    priority: Priority
    number: int
    chat: _Chat | None = field(compare=False)
    turn: asyncio.Future[None] = field(compare=False)


class Limiter(BaseRateLimiter[Priority]):
    """PTB's rate limiter for one bot token; its own one freezes every chat when one gets a 429."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._given_clock = clock
        self._global = _Bucket(GLOBAL_RATE, _GLOBAL_BURST)
        self._paused_until = 0.0
        self._chats: dict[int | str, _Chat] = {}
        self._waiters: list[_Waiter] = []
        self._numbers = count()
        self._refusals: deque[tuple[float, int | str]] = deque()
        self._timer: Timer | None = None

    async def initialize(self) -> None:
        """Nothing to open."""

    async def shutdown(self) -> None:
        """Let nobody wait for a turn that will not come."""
        self._set_timer(None)
        for waiter in self._waiters:
            if not waiter.turn.done():
                waiter.turn.set_exception(Dropped("the bot is stopping"))
        self._waiters.clear()

    def has_room(self, chat_id: int | str, priority: Priority) -> bool:
        """Whether it makes sense to prepare such a call: it would not be dropped, or not wait for a penalty to end."""
        chat = self._chat(chat_id)
        if priority >= Priority.PROGRESS:
            return self._ready_at(chat, priority) <= self._clock.time()
        return max(self._paused_until, chat.closed_until) <= self._clock.time()

    @override
    async def process_request(
        self,
        callback: Callable[..., Coroutine[Any, Any, Result]],
        args: Any,
        kwargs: Json,
        endpoint: str,
        data: Json,
        rate_limit_args: Priority | None,
    ) -> Result:
        """Make the call when it is its turn, and again after a 429 (but `Dropped` for what may be dropped)."""
        key = _chat_key(endpoint, data)
        priority = _priority(endpoint, rate_limit_args)
        while True:
            await self._admit(key, priority)
            try:
                return await callback(*args, **kwargs)
            except RetryAfter as error:
                self._refused(endpoint if key is None else key, _seconds(error))
                if priority >= Priority.PROGRESS:
                    raise Dropped(f"{endpoint}: Telegram asked to wait") from error

    @property
    def _clock(self) -> Clock:
        return self._given_clock or asyncio.get_running_loop()

    def _chat(self, key: int | str) -> _Chat:
        if key not in self._chats:
            if len(self._chats) % _IDLE_CHECK == _IDLE_CHECK - 1:
                self._forget_idle_chats()
            self._chats[key] = _Chat(_bucket(key))
        return self._chats[key]

    def _forget_idle_chats(self) -> None:
        now = self._clock.time()
        self._chats = {key: chat for key, chat in self._chats.items() if not chat.is_idle(now)}

    async def _admit(self, key: int | str | None, priority: Priority) -> None:
        # Typing is not a message: Telegram does not count it to the chat's one a second.
        chat = None if key is None else self._chat(key)
        if priority >= Priority.PROGRESS:
            return self._admit_now(chat, priority)
        waiter = _Waiter(priority, next(self._numbers), chat, asyncio.get_running_loop().create_future())
        heapq.heappush(self._waiters, waiter)
        self._pump()
        return await waiter.turn

    def _admit_now(self, chat: _Chat | None, priority: Priority) -> None:
        if self._ready_at(chat, priority) > self._clock.time():
            raise Dropped(f"no room for a call of priority {priority.name}")
        self._take(None if priority == Priority.TYPING else chat)

    def _ready_at(self, chat: _Chat | None, priority: Priority) -> float:
        spare = _SPARE if priority >= Priority.PROGRESS else 0
        moments = [self._paused_until, self._global.ready_at(spare)]
        if chat:
            moments.append(chat.closed_until if priority == Priority.TYPING else chat.ready_at())
        return max(moments)

    def _take(self, chat: _Chat | None) -> None:
        now = self._clock.time()
        self._global.take(now)
        if chat:
            chat.bucket.take(now)

    def _pump(self) -> None:
        """Let go whose turn it is, best priority first; set the timer for the next one."""
        self._set_timer(None)
        now = self._clock.time()
        later: list[_Waiter] = []
        while self._waiters and max(self._paused_until, self._global.ready_at()) <= now:
            waiter = heapq.heappop(self._waiters)
            if waiter.turn.done():  # its task was cancelled
                continue
            if self._ready_at(waiter.chat, waiter.priority) > now:
                later.append(waiter)
                continue
            self._take(waiter.chat)
            waiter.turn.set_result(None)
        for waiter in later:
            heapq.heappush(self._waiters, waiter)
        if self._waiters:
            self._set_timer(self._next_turn(now))

    def _next_turn(self, now: float) -> float:
        room_at = max(self._paused_until, self._global.ready_at())
        if room_at > now:  # the usual case when hundreds wait: no need to look at each of them
            return room_at
        return min(self._ready_at(waiter.chat, waiter.priority) for waiter in self._waiters)

    def _set_timer(self, when: float | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None if when is None else self._clock.call_at(when, self._pump)

    def _refused(self, key: int | str, seconds: float) -> None:
        now = self._clock.time()
        chat = self._chat(key)
        chat.closed_until = max(chat.closed_until, now + seconds)
        self._refusals.append((now, key))
        while self._refusals[0][0] < now - _FLOOD_SECONDS:
            self._refusals.popleft()
        refused = {key for _, key in self._refusals}
        if len(refused) >= _FLOOD_CHATS:  # not these chats, the whole bot: the mildest of their penalties is its own
            self._paused_until = min(self._chat(key).closed_until for key in refused)


def _chat_key(endpoint: str, data: Json) -> int | str | None:
    return None if endpoint == "answerCallbackQuery" else data.get("chat_id")


def _priority(endpoint: str, given: Priority | None) -> Priority:
    if given:
        return given
    return Priority.CALLBACK if endpoint == "answerCallbackQuery" else Priority.CONTROL


def _bucket(key: int | str) -> _Bucket:
    is_private = isinstance(key, int) and key > 0
    return _Bucket(_PRIVATE_RATE, _PRIVATE_BURST) if is_private else _Bucket(_GROUP_RATE, _GROUP_BURST)


def _seconds(error: RetryAfter) -> float:
    after = error.retry_after  # an int today, a timedelta once opted in
    return after.total_seconds() if isinstance(after, timedelta) else float(after)
