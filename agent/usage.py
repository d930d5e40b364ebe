"""What turns cost: counted while they run, also of those that fail, and summed per chat and day."""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from agent.protocol import Spending, Spendings, Usage
from agent.store import Store

KEEP_DAYS = 400
SHOWN_DAYS = 31
"""Where nobody said since when."""
THROW_AWAY = "once:"
"""How the ids of chats begin that are forgotten after one turn; they are one chat in the sums."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS spending (
    day TEXT NOT NULL, chat_id TEXT NOT NULL, turns INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, tool_calls INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL, PRIMARY KEY (day, chat_id)) WITHOUT ROWID;
"""
_SUMS = ("turns", "prompt_tokens", "cached_tokens", "completion_tokens", "tool_calls", "milliseconds")
_ADD = (
    f"INSERT INTO spending (day, chat_id, {', '.join(_SUMS)}) VALUES (?, ?, 1, ?, ?, ?, ?, ?) "  # noqa: S608 - constants
    f"ON CONFLICT (day, chat_id) DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in _SUMS)}"
)


@dataclass(slots=True)
class Meter:
    """Counts what is spent, from now on; what a part of a turn spends counts for the whole too.

    `limit` is in tokens; until a loop has set it, there is none.
    """

    limit: int | None = None
    parent: "Meter | None" = None
    begun: float = field(default_factory=time.monotonic)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    tool_calls: int = 0

    def count(self, *, prompt: int, cached: int, completion: int) -> None:
        """Add the tokens of one answer."""
        self.prompt_tokens += prompt
        self.cached_tokens += cached
        self.completion_tokens += completion
        if self.parent:
            self.parent.count(prompt=prompt, cached=cached, completion=completion)

    def count_calls(self, number: int) -> None:
        """Add calls of tools."""
        self.tool_calls += number
        if self.parent:
            self.parent.count_calls(number)

    @property
    def is_over(self) -> bool:
        """Whether this, or what it is a part of, has passed its limit."""
        tokens = self.prompt_tokens + self.completion_tokens
        return bool((self.limit is not None and tokens > self.limit) or (self.parent and self.parent.is_over))

    def usage(self) -> Usage:
        """What was spent until now."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            tool_calls=self.tool_calls,
            milliseconds=round((time.monotonic() - self.begun) * 1000),
        )


# Not handed from hand to hand: whatever asks a model in a turn, a summary or another agent's work, is its cost.
_METER: ContextVar[Meter] = ContextVar("meter")


def metered(meter: Meter) -> None:
    """From here on this meter counts what the running task spends, and the tasks that it starts."""
    _METER.set(meter)


def meter() -> Meter:
    """The meter of the running task; one that nobody reads if it has none."""
    return _METER.get(None) or Meter()


class Ledger:
    """The sums, in the store."""

    def __init__(self, store: Store) -> None:
        store.prepare(_SCHEMA)
        self._store = store
        self._swept: date | None = None

    def add(self, chat_id: str, usage: Usage) -> None:
        """Count a turn that has ended. Safe with the next commit of the store: its end and its cost go together."""
        today = datetime.now(UTC).date()
        account = THROW_AWAY if chat_id.startswith(THROW_AWAY) else chat_id
        tokens = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        self._store.execute(_ADD, (today.isoformat(), account, *tokens, usage.tool_calls, usage.milliseconds))
        if self._swept != today:
            self._swept = today
            self._store.execute("DELETE FROM spending WHERE day < ?", ((today - timedelta(KEEP_DAYS)).isoformat(),))

    def read(self, since: date | None = None, chat_id: str | None = None) -> Spendings:
        """The sums since that day (UTC; else of the last 31 days), newest day first, of one chat or of all."""
        first = since or datetime.now(UTC).date() - timedelta(SHOWN_DAYS - 1)
        rows = self._store.execute(
            f"SELECT chat_id, day, {', '.join(_SUMS)} FROM spending "  # noqa: S608 - constants
            "WHERE day >= ?1 AND (?2 IS NULL OR chat_id = ?2) ORDER BY day DESC, chat_id",
            (first.isoformat(), chat_id),
        )
        names = ("chat_id", "day", *_SUMS)
        return Spendings(days=tuple(Spending(**dict(zip(names, row, strict=True))) for row in rows))
