import logging
import sys

from bot.errors import DatabaseLost
from bot.log import Redacting, line


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


def test_a_line_is_an_event_with_its_ids():
    assert line("machine rented", agent=42, seconds=12) == "machine rented agent=42 seconds=12"
