import logging

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


def test_a_line_is_an_event_with_its_ids():
    assert line("machine rented", agent=42, seconds=12) == "machine rented agent=42 seconds=12"
