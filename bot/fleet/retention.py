"""Which snapshots of an agent are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bot.store.records import Snapshot

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """So many of the newest, and one a day for so many days; those of a deleted agent for so many days."""

    last: int = 3
    days: int = 7
    deleted_days: int = 7

    def expired(self, snapshots: Sequence[Snapshot], now: float) -> list[Snapshot]:
        """Of the whole snapshots of one agent that is not deleted, those to be dropped. Never the newest."""
        newest_first = sorted(snapshots, key=lambda each: (each.created_at, each.id), reverse=True)
        kept = {each.id for each in newest_first[: max(self.last, 1)]}
        kept |= {each.id for each in snapshots if is_asked_for(each, now)}
        days: set[str] = set()
        for each in newest_first:
            day = datetime.fromtimestamp(each.created_at, UTC).date().isoformat()
            if each.created_at > now - self.days * DAY and day not in days:
                days.add(day)
                kept.add(each.id)
        return [each for each in newest_first if each.id not in kept]


def is_asked_for(snapshot: Snapshot, now: float) -> bool:
    """Somebody wants it until later than now."""
    return snapshot.keep_until is not None and snapshot.keep_until > now
