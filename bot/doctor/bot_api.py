"""Whether the token is good, and the bot may poll with it."""

import re
from http import HTTPStatus
from typing import Any

import httpx

from bot.doctor.checks import Check, Once
from bot.doctor.findings import Wrong
from bot.doctor.web import ask, host, parsed
from bot.settings import Settings

TOKEN = re.compile(r"[0-9]+:[A-Za-z0-9_-]+")
REFUSED = "Telegram refuses it: ask @BotFather for a new one and set TELEGRAM_BOT_TOKEN"


def checks(settings: Settings, http: httpx.AsyncClient) -> list[Check]:
    """Token and webhook."""
    bot_api = _BotApi(settings, http)
    needs = ("telegram_bot_token", "telegram_api_base")
    return [Check("token", bot_api.token, needs), Check("webhook", bot_api.webhook, needs)]


class _BotApi:
    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._base = settings.telegram_api_base.rstrip("/")
        self._token = settings.telegram_bot_token.get_secret_value()
        self._http = http
        self._me = Once(lambda: self._call("getMe"))

    async def token(self) -> str:
        """The bot's name, as Telegram tells it."""
        return f"@{(await self._me.get()).get('username', '?')}"

    async def webhook(self) -> str:
        """None is set: with one, polling is refused (409)."""
        await self._me.given("the token is not accepted")
        url = str((await self._call("getWebhookInfo")).get("url", ""))
        if url:
            scheme, remedy = self._base.partition(":")[0], "bot<TELEGRAM_BOT_TOKEN>/deleteWebhook"
            raise Wrong(
                f"set to {host(url)}, so the bot hears nothing: end what uses it, then open {scheme}://{host(self._base)}/{remedy}"
            )
        return "none, as polling needs it"

    async def _call(self, method: str) -> dict[str, Any]:
        if not TOKEN.fullmatch(self._token):
            raise Wrong(REFUSED)
        answer = await ask(self._http, f"{self._base}/bot{self._token}/{method}", setting="TELEGRAM_API_BASE")
        found = parsed(answer)
        if "ok" not in found:
            if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise Wrong(f"{host(self._base)} is in trouble (HTTP {answer.status_code}): try again later")
            raise Wrong(f"what answers at {host(self._base)} is not a Bot API: correct TELEGRAM_API_BASE")
        if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND}:
            raise Wrong(REFUSED)
        if not found["ok"] or not isinstance(found.get("result"), dict):
            raise Wrong(f"{host(self._base)} is in trouble (HTTP {answer.status_code}): try again later")
        result: dict[str, Any] = found["result"]
        return result
