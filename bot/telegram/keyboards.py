"""Buttons, and what they say back when they are pressed: `v1|<verb>|<id>`."""

from dataclasses import dataclass
from enum import StrEnum

from telegram import InlineKeyboardButton, InlineKeyboardMarkup

VERSION = "v1"
MAX_BYTES = 64
MAX_DIGITS = 18
"""So many fit into 64 bits."""
SUCCESS, DANGER = "success", "danger"
"""Button styles; an older client shows a plain button."""


class Verb(StrEnum):
    """What a button does."""

    HOME = "home"
    HOW = "how"
    CREATE = "create"
    LIST = "list"
    ACCOUNT = "account"
    LOGIN = "login"
    LOGOUT = "logout"

    SUGGEST = "suggest"
    TEMPLATE = "template"
    MODEL = "model"
    STEP = "step"
    DEPLOY = "deploy"
    CANCEL = "cancel"

    PAGE = "page"
    CARD = "card"
    CHAT = "chat"
    LEAVE = "leave"
    DELETE = "delete"
    DELETE_NOW = "delete!"
    TRY_AGAIN = "try"
    EDIT_NAME = "name"
    EDIT_JOB = "job"
    EDIT_MODEL = "brain"
    SWITCH = "switch"
    BIN = "bin"
    UNDELETE = "undelete"
    EXPORT = "export"
    IMPORT = "import"
    IMPORT_NOW = "import!"
    IMPORT_CANCEL = "import-"
    IDLE = "idle"
    IDLE_SET = "idle!"

    STOP = "stop"
    RETRY = "retry"
    AGAIN = "again"
    CHOOSE = "choose"


@dataclass(frozen=True, slots=True)
class Pressed:
    """A button as it comes back."""

    verb: Verb
    argument: str

    @property
    def number(self) -> int | None:
        """The argument as the id of a row; None if it is none (people can send what no button of ours says)."""
        fits = self.argument.isdecimal() and len(self.argument) <= MAX_DIGITS
        return int(self.argument) if fits else None


def data(verb: Verb, argument: str | int = "") -> str:
    """What a button carries; Telegram takes 64 bytes."""
    packed = f"{VERSION}|{verb}|{argument}"
    if len(packed.encode()) > MAX_BYTES:
        raise ValueError(f"a button carries {MAX_BYTES} bytes, not {packed!r}")
    return packed


def parse(packed: str | None) -> Pressed | None:
    """Read it back; None for a button of another version or none of ours."""
    version, _, rest = (packed or "").partition("|")
    verb, separator, argument = rest.partition("|")
    if version != VERSION or not separator or verb not in set(Verb):
        return None
    return Pressed(Verb(verb), argument)


def button(text: str, verb: Verb, argument: str | int = "", *, style: str | None = None) -> InlineKeyboardButton:
    """A button that says something back."""
    return InlineKeyboardButton(text, callback_data=data(verb, argument), style=style)


def rows(*lines: list[InlineKeyboardButton]) -> InlineKeyboardMarkup:
    """A keyboard; empty lines are left out."""
    return InlineKeyboardMarkup([line for line in lines if line])
