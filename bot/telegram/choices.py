"""Ready answers as people see them: a button each, and in full above them where a button has no room."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from telegram import InlineKeyboardButton, InlineKeyboardMarkup

from bot.telegram.keyboards import Verb, button, rows
from bot.telegram.render import one_line, utf16_length

COLUMNS, HALF_COLUMNS = 32, 14
"""What a button of the chat's width, and one of half of it, shows on a small phone. An emoji or a CJK character has
two."""
MOST = 50
"""More than anybody reads; Telegram takes 100 buttons."""
_LISTED_UNITS, _LINE_UNITS = 2_500, 300
_CHOSEN_UNITS = 80
_WIDE = frozenset("WF")


class Offering(Protocol):
    """Where ready answers are kept, so that a button works whenever it is pressed."""

    async def keep(self, turn_id: str, options: Sequence[str]) -> bool:
        """False: the person has answered, or has gone on without."""
        ...


@dataclass(frozen=True, slots=True)
class _Choice:
    index: int
    """Among all options, as its button says it."""
    number: int
    """As people count."""
    words: str


def choice_keyboard(turn_id: str, options: Sequence[str]) -> InlineKeyboardMarkup:
    """A button for each: one per row, two where both are short."""
    choices = _choices(options)
    labels = [_label(choice, is_listed=_are_listed(choices)) for choice in choices]
    lines: list[list[InlineKeyboardButton]] = []
    is_open = False
    for choice, label in zip(choices, labels, strict=True):
        made = button(label, Verb.CHOOSE, f"{turn_id}|{choice.index}")
        is_short = _columns(label) <= HALF_COLUMNS
        if is_open and is_short:
            lines[-1].append(made)
        else:
            lines.append([made])
        is_open = is_short and len(lines[-1]) == 1
    return rows(*lines)


def choice_list(options: Sequence[str]) -> str:
    """All of them, numbered, if a button cannot show one in full; else nothing."""
    choices = _choices(options)
    if not _are_listed(choices):
        return ""
    units = min(_LINE_UNITS, _LISTED_UNITS // len(choices))
    return "\n".join(f"{choice.number}. {_shortened(choice.words, units)}" for choice in choices)


def chosen_line(option: str) -> str:
    """What stands under a question that was answered by its buttons."""
    return f"→ {_shortened(one_line(option, _LISTED_UNITS), _CHOSEN_UNITS)}"


def _choices(options: Sequence[str]) -> list[_Choice]:
    written = [(index, one_line(option, _LISTED_UNITS)) for index, option in enumerate(options)]
    readable = [(index, words) for index, words in written if words][:MOST]
    return [_Choice(index, number, words) for number, (index, words) in enumerate(readable, 1)]


def _are_listed(choices: Sequence[_Choice]) -> bool:
    return any(_columns(choice.words) > COLUMNS for choice in choices)


def _label(choice: _Choice, *, is_listed: bool) -> str:
    words = f"{choice.number}. {choice.words}" if is_listed else choice.words
    if _columns(words) <= COLUMNS:
        return words
    end = next(end for end in range(len(words), 0, -1) if _columns(words[:end]) < COLUMNS)
    return f"{one_line(words, utf16_length(words[:end]))}…"


def _shortened(words: str, units: int) -> str:
    return words if utf16_length(words) <= units else f"{one_line(words, units - 1)}…"


def _columns(words: str) -> int:
    return sum(0 if unicodedata.combining(char) else _width(char) for char in words)


def _width(char: str) -> int:
    return 2 if unicodedata.east_asian_width(char) in _WIDE else 1
