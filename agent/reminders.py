"""The reminders of who speaks: an owner's tools reach all of the chat, a visitor's those of visitors in it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.policy import REMINDERS, ReminderBounds
from agent.protocol import ChatRequest, Role
from agent.schedule import Planned, Schedule, Wish
from agent.store import Store
from agent.times import (
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    BadTime,
    find_zone,
    next_time,
    read_moment,
    shortest_gap,
    spoken,
)
from agent.toolbox import ToolFailed

MAX_CHARS = 2_000
_ONE_OF = "Give exactly one of minutes (from now), at (a date and time) and cron (again and again)."


@dataclass(frozen=True, slots=True)
class When:
    """The time as a model gives it: one of the first three, and the zone of the other two."""

    minutes: float
    at: str
    cron: str
    zone: str


@dataclass(frozen=True, slots=True)
class Reminders:
    """Already narrowed to one chat and who speaks in it. Errors are `ToolFailed`."""

    store: Store
    schedule: Schedule
    request: ChatRequest
    clock: Callable[[], float] = time.time

    def add(self, what: str, when: When, *, does_work: bool) -> str:
        """Plan it; what was planned, in words."""
        what = what.strip()
        if not what or len(what) > MAX_CHARS:
            raise ToolFailed(f"what must have 1 to {MAX_CHARS} characters.")
        try:
            cron, zone, due = self._read(when, does_work=does_work)
        except BadTime as error:
            raise ToolFailed(str(error)) from error
        self._require_room()
        wish = Wish(self.request.chat_id, self.request.role, self.request.user, what, cron, zone, due, does_work)
        number = self.schedule.add(wish)
        self.store.commit()
        return f"Reminder {number} is set for {_spoken(wish)}."

    def words(self) -> str:
        """All of them, one a line, for the model."""
        return "\n".join(_line(planned) for planned in self._all()) or "There are no reminders in this chat."

    def cancel(self, number: int) -> None:
        """Remove one."""
        if number not in {planned.number for planned in self._all()}:
            raise ToolFailed(f"There is no reminder {number} in this chat. There are:\n{self.words()}")
        self.schedule.remove(number)
        self.store.commit()

    @property
    def _bounds(self) -> ReminderBounds:
        return REMINDERS[self.request.role]

    def _all(self) -> list[Planned]:
        roles = tuple(Role) if self.request.role is Role.OWNER else (Role.VISITOR,)
        return self.schedule.of_chat(self.request.chat_id, roles)

    def _read(self, when: When, *, does_work: bool) -> tuple[str, str, float]:
        """The cron if there is one, the zone, and the first time."""
        cron, at, now = when.cron.strip(), when.at.strip(), self.clock()
        if [bool(when.minutes), bool(at), bool(cron)].count(True) != 1:
            raise BadTime(_ONE_OF)
        zone = find_zone(when.zone.strip() or "UTC").key  # only the words of a moment that stands without one
        if when.minutes:
            return "", zone, _in_reach(now + when.minutes * 60, zone, now)
        if at:
            return "", zone, _in_reach(read_moment(at, when.zone), zone, now)
        due = _in_reach(next_time(cron, when.zone, now), zone, now)
        self._require_gap(shortest_gap(cron, zone, now), does_work=does_work)
        return cron, zone, due

    def _require_gap(self, gap: float, *, does_work: bool) -> None:
        least = self._bounds.work_every_seconds if does_work else SHORTEST_SECONDS
        if gap < least:
            raise BadTime(f"That is too often: at most every {least / 60:.0f} minutes. Choose a cron with longer gaps.")

    def _require_room(self) -> None:
        most = self._bounds.most
        if len(self._all()) >= most:
            raise ToolFailed(f"There are {most} reminders in this chat, which is the limit. Cancel some first.")


def _in_reach(due: float, zone: str, now: float) -> float:
    if not due > now:  # also what is not a number
        raise BadTime(f"That is in the past: it is {spoken(now, zone)} now. Give a later time.")
    if due - now > LONGEST_SECONDS:
        raise BadTime("That is more than five years ahead. Give an earlier time.")
    return due


def _spoken(wish: Wish) -> str:
    moment = spoken(wish.due, wish.zone)
    return f"{moment}, then again and again by cron {wish.cron}" if wish.cron else moment


def _line(planned: Planned) -> str:
    kind = "work" if planned.wish.does_work else "reminder"
    return f"{planned.number}. {kind}, {_spoken(planned.wish)}: {planned.wish.what}"
