"""Whether agents can think: is the key good, what is left of it, are the models there."""

from http import HTTPStatus
from typing import Any

import httpx

from bot.accounts.kept import KeptAnswers
from bot.accounts.libertai import AccountUsage, KeyState, LibertAI
from bot.doctor.checks import Check, Once
from bot.doctor.findings import Skipped, Wrong
from bot.doctor.web import ask, host, parsed
from bot.errors import LibertAIUnreachable
from bot.settings import Settings
from bot.store.database import Database

CONSOLE = "https://console.libertai.io"
REMEDIES = {
    "no_credits": f"add credits at {CONSOLE}",
    "key_monthly_limit": f"raise its monthly limit at {CONSOLE}",
    "extra_credit_cap": f"raise the cap of extra credits at {CONSOLE}",
    "expired": f"make another at {CONSOLE}",
}
FULL = 100


def checks(settings: Settings, http: httpx.AsyncClient) -> list[Check]:
    """Key, allowance and models, of LibertAI or of another server."""
    urls = ("libertai_gateway", "llm_base_url")
    if not settings.thinks_at_libertai:
        other = _Other(settings, http)
        return [Check("key", other.key, urls), Check("models", other.models, (*urls, "default_models"))]
    libertai = _LibertAI(settings, http)
    return [
        Check("key", libertai.key, (*urls, "libertai_api_key")),
        Check("allowance", libertai.allowance, ("libertai_account", "libertai_api_key")),
        Check("models", libertai.models, (*urls, "default_models")),
    ]


class _LibertAI:
    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._http = http
        self._accepted = Once(self._check)

    async def key(self) -> str:
        """LibertAI knows it."""
        await self._accepted.get()
        return f"{host(self._settings.libertai_gateway)} accepts LIBERTAI_API_KEY"

    async def allowance(self) -> str:
        """What is left of the plan, and beside it."""
        await self._accepted.given("there is no key that is accepted")
        try:
            usage = await self._client().usage(self._settings.libertai_api_key)
        except (LibertAIUnreachable, httpx.InvalidURL):
            where = host(self._settings.libertai_account)
            raise Wrong(f"{where} does not tell it: try again later, or correct LIBERTAI_ACCOUNT") from None
        if usage is None:
            raise Wrong(f"LibertAI's account service does not accept the key: make another at {CONSOLE}")
        return _told(usage)

    async def models(self) -> str:
        """The gateway lists them."""
        return _compared(await _listed(self._settings, self._http, "LIBERTAI_GATEWAY"), self._settings)

    async def _check(self) -> None:
        if not self._settings.libertai_api_key.get_secret_value():
            raise Skipped("LIBERTAI_API_KEY is empty: people have to connect their own, by /login")
        try:
            found = await self._client().check(self._settings.libertai_api_key)
        except (LibertAIUnreachable, httpx.InvalidURL):
            where = host(self._settings.libertai_gateway)
            raise Wrong(f"{where} does not say: try again later, or correct LIBERTAI_GATEWAY") from None
        if found.state is KeyState.UNKNOWN:
            raise Wrong(f"LibertAI does not know LIBERTAI_API_KEY: make one at {CONSOLE}")
        if found.state is KeyState.BLOCKED:
            remedy = REMEDIES.get(found.reason or "", f"look at {CONSOLE}")
            raise Wrong(f"LibertAI blocks LIBERTAI_API_KEY ({found.reason}): {remedy}")

    def _client(self) -> LibertAI:
        settings = self._settings
        return LibertAI(
            self._http,
            gateway=settings.libertai_gateway,
            account=settings.libertai_account,
            inference_url=settings.inference_url,
            prices_url=settings.model_prices_url,
            default_models=settings.default_models,
            kept=KeptAnswers(Database(settings.database)),  # never opened: only the catalogue is kept
        )


class _Other:
    """Any OpenAI-compatible server."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._models = Once(lambda: _listed(settings, http, "LLM_BASE_URL"))

    async def key(self) -> str:
        """The server lets it in; many let anybody in."""
        await self._models.get()
        has_key = bool(self._settings.libertai_api_key.get_secret_value())
        return f"{host(self._settings.inference_url)} {'accepts it' if has_key else 'asks for none'}"

    async def models(self) -> str:
        """The server lists them."""
        return _compared(await self._models.given("the server does not list its models"), self._settings)


async def _listed(settings: Settings, http: httpx.AsyncClient, setting: str) -> list[str]:
    key = settings.libertai_api_key.get_secret_value()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise Wrong("LIBERTAI_API_KEY has characters that no key has: copy it again")
    answer = await ask(http, f"{settings.inference_url}/models", setting=setting, bearer=key)
    where = host(settings.inference_url)
    if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise Wrong(f"{where} refuses the key: set LIBERTAI_API_KEY to one of its own")
    listed: Any = parsed(answer).get("data")
    if answer.status_code != HTTPStatus.OK or not isinstance(listed, list):
        ending = " (it mostly ends in /v1)" if setting == "LLM_BASE_URL" else ""
        raise Wrong(f"{where} lists no models (HTTP {answer.status_code}): correct {setting}{ending}")
    return [str(each["id"]) for each in listed if isinstance(each, dict) and "id" in each]


def _compared(listed: list[str], settings: Settings) -> str:
    """The preferred models against what there is. LibertAI's names are the default, and no fault at another server."""
    there = [name for name in settings.default_models if name in listed]
    missing = [name for name in settings.default_models if name not in listed]
    if not there and (settings.thinks_at_libertai or "default_models" in settings.model_fields_set or not listed):
        some = ", ".join(listed[:5]) or "none at all"
        raise Wrong(f"none of DEFAULT_MODELS is there: name some of {some}")
    if not there:
        return f"{len(listed)} there, {', '.join(listed[:3])} among them"
    return f"{', '.join(there)}" + (f"; not there: {', '.join(missing)}" if missing else "")


def _told(usage: AccountUsage) -> str:
    used = max(usage.window_5h_percent, usage.weekly_percent)
    if used >= FULL and usage.extra_credits <= 0:
        raise Wrong(f"plan {usage.plan} is used up: add credits at {CONSOLE}, or wait until its window ends")
    plan = f"plan {usage.plan}: {usage.window_5h_percent:.0f} % of 5 hours and {usage.weekly_percent:.0f} % of the week"
    return f"{plan} used, ${usage.extra_credits:.2f} beside it"
