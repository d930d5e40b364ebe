"""One line per event with its ids, and no secret in any of them."""

import logging
import re
import sys

TOKEN = re.compile(r"(?<!\d)\d{3,}:[A-Za-z0-9_-]{20,}")
KEY = re.compile(r"\bLTAI_[A-Za-z0-9_-]+")
NOISY = ("httpx", "httpcore", "telegram", "aiohttp", "uvicorn", "sqlalchemy.engine", "asyncio", "dbos")


class Redacting(logging.Formatter):
    """Whatever a library logs: bot tokens (PTB and httpx write URLs with them) and API keys become `***`."""

    def format(self, record: logging.LogRecord) -> str:
        return KEY.sub("***", TOKEN.sub("***", super().format(record)))


def configure(level: str) -> None:
    """Send the root logger to stderr. Libraries speak from WARNING up, whatever `level` is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redacting("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def line(event: str, **ids: object) -> str:
    """`machine rented agent=42 seconds=12`: the house's form of a log line."""
    return " ".join([event, *(f"{name}={value}" for name, value in ids.items())])
