"""When something falls due: dates and times of a time zone, and cron expressions. Errors are for the model to read.

Where clocks are put forward, 02:30 does not exist: then it is 03:30 for a date, and the first moment after the gap for
a cron. Where they are put back, 02:30 comes twice: it is the first one, once. Crons whose hour is `*` or steps go on
through both. (As Debian's cron has it.)
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

SHORTEST_SECONDS = 5 * 60
"""Between two times of a cron."""
LONGEST_SECONDS = 5 * 365.25 * 86_400
"""How far ahead something may be planned."""
_LOOKED_AT = 600
"""Times of a cron whose distances are checked: two days of one that comes every five minutes."""
_FIELDS = 5
_FIRST_YEAR, _LAST_YEAR = 1970, 9000


_WHICH_ZONE = (
    "In which time zone? Give zone, such as Europe/Berlin. If you do not know where the person is, ask them; UTC only "
    "if they said so."
)


class BadTime(ValueError):
    """It is no time that can be planned for; the text says what to write instead."""


def find_zone(name: str) -> ZoneInfo:
    """The time zone of this name."""
    if not name.strip():
        raise BadTime(_WHICH_ZONE)
    try:
        return ZoneInfo(name.strip())
    except (KeyError, OSError, ValueError):  # not found, or no name of a file
        raise BadTime(
            f"There is no time zone {name!r}. Give an IANA name such as Europe/Berlin, America/New_York or UTC."
        ) from None


def read_moment(at: str, zone: str) -> float:
    """Unix time of an ISO date and time; without an offset of its own it is a time in the zone."""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise BadTime(f"{at!r} is not a date and time. Write it as 2027-01-31T08:00.") from None
    if "T" not in at.upper() and ":" not in at:
        raise BadTime(f"{at!r} has no time of day. Write it as {at}T08:00.")
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:  # a zone's clock may not know it
        raise BadTime(f"{at!r} is not a time that can be planned for. Write it as 2027-01-31T08:00.")
    return (moment if moment.tzinfo else moment.replace(tzinfo=find_zone(zone))).timestamp()


def next_time(cron: str, zone: str, after: float) -> float:
    """Unix time at which a cron comes next."""
    moment = next(_times(cron, zone, after), None)
    if moment is None:
        raise BadTime(f"The cron {cron!r} never comes.")
    return moment


def shortest_gap(cron: str, zone: str, after: float) -> float:
    """Seconds between the two of its next times that are closest to each other."""
    times = list(islice(_times(cron, zone, after), _LOOKED_AT))
    return min((later - sooner for sooner, later in pairwise(times)), default=LONGEST_SECONDS)


def spoken(moment: float, zone: str) -> str:
    """A moment as people of that zone write it."""
    return f"{datetime.fromtimestamp(moment, find_zone(zone)):%A, %Y-%m-%d %H:%M} ({zone})"


def _times(cron: str, zone: str, after: float) -> Iterator[float]:
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only who plans needs it: 10 ms of the start

    if len(cron.split()) != _FIELDS:
        raise BadTime(f"The cron {cron!r} must have five fields: minute hour day month weekday, such as 0 8 * * 1-5.")
    start = datetime.fromtimestamp(after, UTC).astimezone(find_zone(zone))
    try:
        times = CronSim(cron, start)
    except CronSimError as error:
        raise BadTime(f"The cron {cron!r} is not valid ({error}). An example: 0 8 * * 1-5.") from None
    return (moment.timestamp() for moment in times)
