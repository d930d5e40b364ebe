import logging
import sys

import pytest
from dbos._logger import init_logger

from bot import log
from bot.errors import DatabaseLost
from bot.log import OneLine, Redacting, line


def test_tokens_and_keys_never_reach_a_log_line():
    record = logging.LogRecord(
        "httpx",
        logging.DEBUG,
        "",
        0,
        "GET https://api.telegram.org/bot%s/getMe with LTAI_abcDEF123",
        ("123456789:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr",),
        None,
    )

    assert Redacting("%(message)s").format(record) == "GET https://api.telegram.org/bot***/getMe with ***"


def test_a_digest_is_no_token():
    digest = "127.0.0.1:5055/baal/agent@sha256:" + "0123456789abcdef" * 4
    record = logging.LogRecord("x", logging.INFO, "", 0, f"image pulled image={digest}", (), None)

    assert Redacting("%(message)s").format(record) == f"image pulled image={digest}"


def test_a_login_in_a_url_never_reaches_a_log_line():
    record = logging.LogRecord("x", logging.INFO, "", 0, "at postgresql://baal:pass:word@db:5432/baal again", (), None)

    assert Redacting("%(message)s").format(record) == "at postgresql://***@db:5432/baal again"


def test_a_lost_database_is_one_line_and_any_other_error_a_traceback():
    def fail(error):
        raise error

    def logged(error):
        try:
            fail(error)
        except Exception:  # noqa: BLE001  whatever it is
            record = logging.LogRecord("x", logging.ERROR, "", 0, "sweep failed", (), sys.exc_info())
        return Redacting("%(message)s").format(record)

    assert logged(DatabaseLost("the connection broke")) == "sweep failed\nDatabaseLost: the connection broke"
    assert "Traceback" in logged(ValueError("wrong"))


def test_what_dbos_says_of_a_database_that_is_away_is_one_line():
    def said(message):
        record = logging.LogRecord("dbos", logging.WARNING, "", 0, message, (), None)
        assert OneLine().filter(record)
        return record.getMessage()

    traceback = (
        "Exception polling schedules: Traceback (most recent call last):\n  File x, line 1\n    connect()\n"
        "psycopg.OperationalError: refused\n\nThe above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n  File y, line 2\n    begin()\n    ~~~~~^^\n"
        "sqlalchemy.exc.OperationalError: connection refused\n\tIs the server running?\n(Background: https://e3q8)\n"
    )
    assert said(traceback) == "Exception polling schedules: sqlalchemy.exc.OperationalError: connection refused"
    assert said("Exception in queue thread: connection refused\n\tIs it running?") == (
        "Exception in queue thread: connection refused"
    )
    assert said("Started") == "Started"


def test_dbos_writes_into_the_same_log_and_its_secrets_are_redacted_too(capfd, kept_logging):
    log.configure("info")
    init_logger()

    logging.getLogger("dbos").warning("cannot reach postgresql://baal:password@db/baal\nat all")

    error = capfd.readouterr().err
    assert error.endswith("WARNING dbos cannot reach postgresql://***@db/baal\n")
    assert error.count("\n") == 1


@pytest.fixture
def kept_logging():
    """As it was, after the test."""
    loggers = [logging.getLogger(name) for name in (None, *log.NOISY)]
    before = [(each, each.handlers[:], each.filters[:], each.level, each.propagate) for each in loggers]
    yield
    for each, handlers, filters, level, propagate in before:
        each.handlers, each.filters, each.level, each.propagate = handlers, filters, level, propagate


def test_a_line_is_an_event_with_its_ids():
    assert line("machine rented", agent=42, seconds=12) == "machine rented agent=42 seconds=12"
