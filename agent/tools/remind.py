"""Tools for what shall happen later."""

from typing import Annotated

from agent.reminders import When
from agent.toolbox import tool
from agent.tools.desk import Desk


@tool("Setting a reminder")
async def remind(
    desk: Desk,
    *,
    what: Annotated[str, "the words the person will read then; with work=true, the instruction you will get then"],
    minutes: Annotated[float, "from now, for example 20 or 90"] = 0,
    at: Annotated[str, "once, at this local date and time in zone: 2027-01-31T08:00"] = "",
    cron: Annotated[str, "again and again, in zone: minute hour day month weekday, for example 0 8 * * 1-5"] = "",
    zone: Annotated[str, "the person's IANA time zone, for example Europe/Berlin; needed with at and cron"] = "",
    work: Annotated[bool, "true: at that time you do something and send the result; false: only the words"] = False,
) -> str:
    """Send the person a message later, once or regularly, also when they are not here.

    Give exactly one of minutes, at and cron. The time that you are told is UTC: for "at 8" or "tomorrow" you need the
    person's time zone. If you do not know it, ask them, and remember it.
    """
    return desk.reminders.add(what, When(minutes, at, cron, zone), does_work=work)


@tool("Looking at the reminders", reads_only=True)
async def reminders(desk: Desk) -> str:
    """List what is planned in this chat, with the numbers that cancel_reminder takes."""
    return desk.reminders.words()


@tool("Cancelling a reminder")
async def cancel_reminder(desk: Desk, number: Annotated[int, "of the reminder, as `reminders` shows it"]) -> str:
    """Cancel a reminder or scheduled work of this chat."""
    desk.reminders.cancel(number)
    return f"Reminder {number} is cancelled."
