"""Log lines of one event each, with its ids: never the text of a message, never a secret."""

import logging
import sys

_logger = logging.getLogger("agent")


def setup() -> None:
    """Send log lines to stderr, where whoever runs the agent collects them."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Its INFO lines would repeat every request to the model server with its URL.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def info(event: str, **fields: object) -> None:
    """Log something that happened as it should."""
    _logger.info(_line(event, fields))


def warning(event: str, **fields: object) -> None:
    """Log something that went wrong outside this program."""
    _logger.warning(_line(event, fields))


def error(event: str, fault: BaseException, **fields: object) -> None:
    """Log a fault of this program, with its traceback."""
    _logger.error(_line(event, fields), exc_info=fault)


def _line(event: str, fields: dict[str, object]) -> str:
    # repr: an id comes from outside and may hold a line break
    return " ".join([event, *(f"{name}={value!r}" for name, value in fields.items())])
