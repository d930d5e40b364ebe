"""Which inline keyboards Telegram takes."""

from urllib.parse import urlsplit

from tests.fakes.telegram_entities import utf16_length
from tests.fakes.telegram_refusals import bad_request
from tests.fakes.telegram_state import require
from tests.fakes.telegram_wire import InlineButton, InlineKeyboard

MAX_BUTTONS = 100
MAX_IN_ROW = 8
MAX_DATA_BYTES = 64
MAX_COPY = 256
ACTIONS = (
    "url", "callback_data", "web_app", "login_url", "switch_inline_query", "switch_inline_query_current_chat",
    "switch_inline_query_chosen_chat", "copy_text", "pay",
)  # fmt: skip


def check_keyboard(keyboard: InlineKeyboard | None, *, private: bool) -> InlineKeyboard | None:
    """The keyboard as it will be shown; one without buttons is none."""
    if keyboard is None:
        return None
    rows = tuple(row for row in keyboard.inline_keyboard if row)
    require(sum(map(len, rows)) <= MAX_BUTTONS, bad_request("reply markup is too long"))
    require(all(len(row) <= MAX_IN_ROW for row in rows), bad_request("reply markup row is too long"))
    for row in rows:
        for button in row:
            _check_button(button, private=private)
    return InlineKeyboard.model_construct(inline_keyboard=rows) if rows else None


def _check_button(button: InlineButton, *, private: bool) -> None:
    require(button.text.strip(), bad_request("inline keyboard button text must be non-empty"))
    actions = [name for name in ACTIONS if getattr(button, name) is not None]
    require(actions, bad_request("Text buttons are not allowed in the inline keyboard"))
    require(len(actions) == 1, bad_request(f"inline keyboard button has several actions: {', '.join(actions)}"))
    if button.callback_data is not None:
        size = len(button.callback_data.encode())
        require(1 <= size <= MAX_DATA_BYTES, bad_request("BUTTON_DATA_INVALID"))
    if button.copy_text is not None:
        fits = 1 <= utf16_length(button.copy_text.text) <= MAX_COPY
        require(fits, bad_request("BUTTON_COPY_TEXT_INVALID"))
    if button.url is not None:
        _check_url(button.url)
    if button.web_app is not None:
        require(private, bad_request("BUTTON_TYPE_INVALID"))
        secure = urlsplit(button.web_app.url).scheme == "https"
        require(secure, bad_request(f"inline keyboard button Web App URL '{button.web_app.url}' is invalid"))


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    leads_somewhere = bool(parts.netloc) if parts.scheme in {"http", "https"} else parts.scheme == "tg"
    bare = not parts.scheme and "." in url.split("/", maxsplit=1)[0]
    require(leads_somewhere or bare, bad_request(f"inline keyboard button URL '{url}' is invalid: Wrong HTTP URL"))
