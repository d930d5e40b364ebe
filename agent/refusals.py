"""What a refusal looks like on the wire: ours to the bot, OpenAI's envelope to clients of its API."""

from typing import Any

from agent.protocol import Refusal

_OPENAI = "/v1/"
_CODES = {
    "unauthorized": "invalid_api_key",
    "no_allowance": "insufficient_quota",
    "too_long": "context_length_exceeded",
}
"""Where OpenAI has a code for what we call otherwise; its clients know them."""
_COMES_BACK = "draining"


def body(path: str, status: int, refusal: Refusal, param: str | None = None) -> dict[str, Any]:
    """The JSON body of a refusal of a request for this path."""
    return envelope(status, refusal, param) if path.startswith(_OPENAI) else refusal.model_dump()


def headers(path: str, refusal: Refusal) -> dict[str, str]:
    """What goes with it. OpenAI's clients ask again by themselves, unless they are told that this was done here."""
    if not path.startswith(_OPENAI):
        return {}
    return {"x-should-retry": "true" if refusal.kind == _COMES_BACK else "false"}


def envelope(status: int, refusal: Refusal, param: str | None = None) -> dict[str, Any]:
    """In OpenAI's words."""
    code = _CODES.get(refusal.kind, refusal.kind)
    return {"error": {"message": refusal.text, "type": _type(status, code), "param": param, "code": code}}


def _type(status: int, code: str) -> str:
    if code == "insufficient_quota":
        return code
    return "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004 - the HTTP statuses
