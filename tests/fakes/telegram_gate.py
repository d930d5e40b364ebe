"""What stands before a method: faults asked for by a test, features switched off, rate limits; and the outbox."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.fakes.telegram_refusals import Refused, forbidden, method_not_found, too_many_requests
from tests.fakes.telegram_views import CallView, Fault, FaultKind, Feature
from tests.fakes.telegram_wire import Upload

BURST = 4
PER_MINUTE_IN_GROUPS = 20
KEPT_CALLS = 200_000
FEATURES = {
    Feature.DRAFTS: {"sendmessagedraft", "sendrichmessagedraft"},
    Feature.RICH: {"sendrichmessage", "sendrichmessagedraft"},
    Feature.REACTIONS: {"setmessagereaction"},
    Feature.DESCRIPTIONS: {"setmydescription", "setmyshortdescription"},
    Feature.GET_CHAT: {"getchat"},
}


class Outbox:
    """Every request the bot made, the refused ones too; the newest 200,000, never the token."""

    def __init__(self, token: str, now: Callable[[], float]) -> None:
        self._token = token
        self._now = now
        self._calls: deque[CallView] = deque(maxlen=KEPT_CALLS)
        self._last = 0

    def note(self, method: str, parameters: Mapping[str, Any], status: int, description: str) -> CallView:
        self._last += 1
        call = CallView.model_construct(
            number=self._last,
            method=method,
            chat_id=str(parameters.get("chat_id", "")),
            parameters={name: self._clean(value) for name, value in parameters.items()},
            status=status,
            description=description,
            at=self._now(),
        )
        self._calls.append(call)
        return call

    def _clean(self, value: Any) -> Any:
        if isinstance(value, Upload):
            return f"file {value.name} ({len(value.content)} bytes)"
        if isinstance(value, str) and self._token in value:
            return value.replace(self._token, "<token>")
        return value

    def calls(self, *, method: str = "", chat_id: str = "", after: int = 0, refused: bool = False) -> list[CallView]:
        fits = (call for call in self._calls if call.number > after and (not refused or call.refused))
        return [
            call
            for call in fits
            if (not method or call.method.lower() == method.lower()) and (not chat_id or call.chat_id == chat_id)
        ]


class Faults:
    """What a test asked to go wrong."""

    def __init__(self) -> None:
        self._left: list[tuple[Fault, int]] = []

    def add(self, fault: Fault) -> None:
        self._left.append((fault, fault.times))

    def clear(self) -> None:
        self._left.clear()

    def listed(self) -> list[Fault]:
        return [fault.model_copy(update={"times": times}) for fault, times in self._left]

    def next(self, method: str, chat_id: str) -> Fault | None:
        """The fault that this call meets, used up by it."""
        for place, (fault, times) in enumerate(self._left):
            if fault.method.lower() in {"", method} and fault.chat_id in {"", chat_id}:
                self._left[place : place + 1] = [(fault, times - 1)] if times > 1 else []
                return fault
        return None


def raise_fault(fault: Fault) -> None:
    """Refuse as asked; a lost answer and a held request are the caller's to play."""
    match fault.kind:
        case FaultKind.TOO_MANY_REQUESTS:
            raise too_many_requests(fault.retry_after)
        case FaultKind.SERVER_ERROR:
            raise Refused(500, "Internal Server Error")
        case FaultKind.BLOCKED:
            raise forbidden("bot was blocked by the user")


class Switches:
    """Features that this server does not have."""

    def __init__(self) -> None:
        self._off: dict[Feature, int] = {}

    def switch(self, feature: Feature, status: int | None) -> None:
        """Off with 404 or 501; None is on again."""
        if status is None:
            self._off.pop(feature, None)
        else:
            self._off[feature] = status

    def check(self, method: str) -> None:
        for feature, status in self._off.items():
            if method in FEATURES[feature]:
                raise method_not_found() if status == 404 else Refused(status, "Not Implemented")


class RateLimits:
    """Strict rate mode: 1/s per chat with a burst of 4, 20/min per group; edits count."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ready: dict[str, float] = {}
        self._in_group: dict[str, deque[float]] = {}
        self.strict = False

    def check(self, method: str, chat_id: str) -> None:
        """Refuse a send or an edit that comes too early."""
        if self.strict and _counts(method):
            waits = (self._chat_wait(chat_id), self._group_wait(chat_id))
            if (wait := max(waits)) > 0:
                raise too_many_requests(math.ceil(wait))

    def spend(self, method: str, chat_id: str) -> None:
        if not self.strict or not _counts(method):
            return
        now = self._now()
        self._ready[chat_id] = max(now, self._ready.get(chat_id, now)) + 1
        if chat_id.startswith("-"):
            self._in_group.setdefault(chat_id, deque(maxlen=PER_MINUTE_IN_GROUPS)).append(now)

    def _chat_wait(self, chat_id: str) -> float:
        return self._ready.get(chat_id, 0) - (self._now() + BURST - 1)

    def _group_wait(self, chat_id: str) -> float:
        sent = self._in_group.get(chat_id)
        return sent[0] + 60 - self._now() if sent and len(sent) == PER_MINUTE_IN_GROUPS else 0


def _counts(method: str) -> bool:
    drafts: Iterable[str] = FEATURES[Feature.DRAFTS]
    return method.startswith(("send", "edit")) and method != "sendchataction" and method not in drafts
