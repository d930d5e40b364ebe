"""What a check finds, and how it is shown: one line each, and no secret in any of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bot.errors import BaalError

NAME_WIDTH = 12
MOST = 1_000
"""Letters of a line: a long public key and what to do with it. Somebody's answer may be longer."""
SHORTEST_SECRET = 6
"""Shorter ones are words: cutting them out would cut up the sentence."""


class Mark(StrEnum):
    """How it stands."""

    WELL = "✓"
    WRONG = "✗"
    SKIPPED = "·"


class Wrong(BaalError):
    """Something is wrong; the text says what, and what to do. Never what a library said."""


class Skipped(BaalError):
    """It does not apply, or cannot be looked at; the text says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the table."""

    mark: Mark
    name: str
    text: str


def table(findings: Sequence[Finding], secrets: Iterable[str]) -> str:
    """All of them, one a line."""
    hidden = sorted({secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True)
    return "\n".join(f"{each.mark} {each.name:<{NAME_WIDTH}} {_clean(each.text, hidden)}" for each in findings)


def _clean(text: str, hidden: Sequence[str]) -> str:
    """In one line; a second look, should somebody's answer repeat what it was told."""
    for secret in hidden:
        text = text.replace(secret, "…")
    line = "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
    return line if len(line) <= MOST else f"{line[:MOST]}…"
