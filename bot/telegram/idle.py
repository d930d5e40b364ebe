"""How long an agent may be idle before it falls asleep: the choices, in words and as buttons. No network."""

from telegram import InlineKeyboardMarkup

from bot.store.models import Agent
from bot.telegram.keyboards import Verb, button, rows
from bot.telegram.screen import Screen
from bot.telegram.texts import Speech

CHOICES: dict[str, int | None] = {"default": None, "hour": 60, "day": 1_440, "week": 10_080, "never": 0}
"""What a button says → `Agent.idle_minutes`."""
UNITS = {"idle-weeks": 10_080, "idle-days": 1_440, "idle-hours": 60, "idle-minutes": 1}
"""Key of the words → minutes, the largest first."""


def words(say: Speech, minutes: int | None, *, usual: int) -> str:
    """So many minutes; None: as many as is usual here."""
    if minutes is None:
        return say.plain("idle-default", usual=words(say, usual, usual=usual))
    if not minutes:
        return say.plain("idle-never")
    key, size = next((key, size) for key, size in UNITS.items() if minutes % size == 0)
    return say.plain(key, count=minutes // size)


def question(agent: Agent, say: Speech, *, usual: int) -> Screen:
    """All choices; what holds now is marked."""
    return Screen(
        say("idle-ask", name=agent.name, now=words(say, agent.idle_minutes, usual=usual)),
        _keyboard(agent, say, usual=usual),
    )


def _keyboard(agent: Agent, say: Speech, *, usual: int) -> InlineKeyboardMarkup:
    lines = []
    for choice, minutes in CHOICES.items():
        label = words(say, minutes, usual=usual)
        shown = say.plain("idle-chosen", words=label) if minutes == agent.idle_minutes else label
        lines.append([button(shown, Verb.IDLE_SET, f"{agent.id or 0}.{choice}")])
    return rows(*lines, [button(say.plain("back"), Verb.CARD, agent.id or 0)])
