"""Reminders and scheduled work: what falls due, when, and in which chat."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent import log
from agent.protocol import Person, Role
from agent.store import Store
from agent.times import BadTime, next_time

# AUTOINCREMENT: people and models name reminders by their number. A row is looked at when both `due` and `not_before`
# are over; `due` names the run, so that work which is tried again later is still the same run.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS schedule (
    id INTEGER PRIMARY KEY AUTOINCREMENT, chat_id TEXT NOT NULL, role TEXT NOT NULL, person TEXT NOT NULL,
    what TEXT NOT NULL, cron TEXT NOT NULL, zone TEXT NOT NULL, due REAL NOT NULL, does_work INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS schedule_by_due ON schedule (due);
CREATE INDEX IF NOT EXISTS schedule_by_chat ON schedule (chat_id);
"""
_ROW = "id, chat_id, role, person, what, cron, zone, due, does_work, tries"


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to be reminded of, or done. Without a `cron` once; `due` is Unix time."""

    chat_id: str
    role: Role
    person: Person | None
    what: str
    cron: str
    zone: str
    due: float
    does_work: bool


@dataclass(frozen=True, slots=True)
class Planned:
    """A wish in the schedule; `tries` counts how often the work of this time was begun."""

    number: int
    wish: Wish
    tries: int


class Schedule:
    """The rows. What changes them is safe with the store's next commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.prepare(_SCHEMA)

    def add(self, wish: Wish) -> int:
        """Plan it; its number, which is never given out again."""
        person = wish.person.model_dump_json() if wish.person else ""
        cursor = self._store.execute(
            "INSERT INTO schedule (chat_id, role, person, what, cron, zone, due, does_work) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (wish.chat_id, wish.role.value, person, wish.what, wish.cron, wish.zone, wish.due, wish.does_work),
        )
        return int(cursor.lastrowid or 0)

    def of_chat(self, chat_id: str, roles: Sequence[Role]) -> list[Planned]:
        """What people of these roles have planned in a chat, by time."""
        rows = self._store.execute(f"SELECT {_ROW} FROM schedule WHERE chat_id = ? ORDER BY due, id", (chat_id,))  # noqa: S608 - a constant
        return [planned for planned in map(_read, rows) if planned.wish.role in roles]

    def due(self, now: float) -> list[Planned]:
        """What is to be done now, oldest first."""
        rows = self._store.execute(
            f"SELECT {_ROW} FROM schedule WHERE due <= ?1 AND not_before <= ?1 ORDER BY due, id",  # noqa: S608 - a constant
            (now,),
        )
        return [_read(row) for row in rows]

    def next_due(self) -> float | None:
        """When the next falls due, if any does."""
        row = self._store.execute("SELECT min(max(due, not_before)) FROM schedule").fetchone()
        return None if row[0] is None else float(row[0])

    def remove(self, number: int) -> None:
        """It will not come (again)."""
        self._store.execute("DELETE FROM schedule WHERE id = ?", (number,))

    def advance(self, planned: Planned, now: float) -> None:
        """This time of it is over: its next one lies in the future, however many were missed."""
        due = _next(planned.wish, now)
        if due is None:
            self.remove(planned.number)
            return
        self._store.execute(
            "UPDATE schedule SET due = ?, tries = 0, not_before = 0 WHERE id = ?", (due, planned.number)
        )

    def begin(self, planned: Planned) -> None:
        """Its work is begun (again)."""
        self._store.execute("UPDATE schedule SET tries = tries + 1 WHERE id = ?", (planned.number,))

    def put_off(self, planned: Planned, until: float) -> None:
        """Not before that time."""
        self._store.execute("UPDATE schedule SET not_before = ? WHERE id = ?", (until, planned.number))


def _next(wish: Wish, now: float) -> float | None:
    if not wish.cron:
        return None
    try:
        return next_time(wish.cron, wish.zone, max(now, wish.due))
    except BadTime as error:  # its zone is not known any more; it must not hold up the others
        log.warning("reminder has no next time", chat=wish.chat_id, reason=str(error))
        return None


def _read(row: Any) -> Planned:
    person = Person.model_validate_json(row[3]) if row[3] else None
    wish = Wish(row[1], Role(row[2]), person, row[4], row[5], row[6], row[7], bool(row[8]))
    return Planned(row[0], wish, row[9])
