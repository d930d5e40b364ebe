"""One line per event with its ids, and no secret in any of them."""

import logging
import re
import sys
from typing import Any, override

from bot.errors import DatabaseLost

TOKEN = re.compile(r"(?<!\d)(?<!sha)\d{3,}:[A-Za-z0-9_-]{20,}")
KEY = re.compile(r"\bLTAI_[A-Za-z0-9_-]+")
LOGIN = re.compile(r"(?<=://)[^\s/@]*:[^\s@]*(?=@)")
TRACEBACK = "Traceback (most recent call last):\n"
SECRETS = (TOKEN, KEY, LOGIN)
NOISY = ("httpx", "httpcore", "telegram", "aiohttp", "uvicorn", "asyncssh", "sqlalchemy.engine", "asyncio", "dbos")


class Redacting(logging.Formatter):
    """Whatever a library logs: bot tokens (PTB and httpx write URLs with them), API keys and logins become `***`."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in SECRETS:
            text = secret.sub("***", text)
        return text

    @override
    def formatException(self, ei: Any) -> str:
        # No fault of the code: everybody who is at the database fails with it, and one line says all.
        return f"DatabaseLost: {ei[1]}" if isinstance(ei[1], DatabaseLost) else super().formatException(ei)


class OneLine(logging.Filter):
    """DBOS writes every driver's essay, and whole tracebacks, into its messages whenever the database is away.

    What is left: its own words, and what the error says.
    """

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        event, _, trace = record.getMessage().partition(TRACEBACK)
        reasons = [words for words in trace.rpartition(TRACEBACK)[2].splitlines() if not words.startswith(" ")]
        record.msg, record.args = " ".join([event.strip().partition("\n")[0], *reasons[:1]]), ()
        return True


def configure(level: str) -> None:
    """Send the root logger to stderr. Libraries speak from WARNING up, whatever `level` is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redacting("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # It adds a handler that redacts nothing unless there is one.
    durable = logging.getLogger("dbos")
    durable.handlers, durable.filters, durable.propagate = [handler], [OneLine()], False


def line(event: str, **ids: object) -> str:
    """`machine rented agent=42 seconds=12`: the house's form of a log line."""
    return " ".join([event, *(f"{name}={value}" for name, value in ids.items())])
