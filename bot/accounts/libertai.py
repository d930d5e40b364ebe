"""LibertAI as the bot uses it: is a key good, how much of it is used, which models are there at what price.

Hosts and answers: the gateway checks keys (`/libertai/auth/check`), the account backend tells usage to a key (`/usage`;
its `/credits/balance` wants a login token, not a key), the public aggregate holds capabilities and prices.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import httpx
from pydantic import BaseModel, Field, SecretStr, ValidationError

from bot.accounts.kept import KeptAnswers
from bot.errors import LibertAIUnreachable
from bot.log import line

log = logging.getLogger(__name__)

CATALOGUE_SECONDS = 300.0
RETRY_SECONDS = 15.0
"""After a look-up that failed: not with every step of every wizard, each would wait for the timeout."""
MAX_HOPS = 4
KEPT_NAME = "catalogue"


class KeyState(StrEnum):
    """What LibertAI says of a key."""

    GOOD = "good"
    UNKNOWN = "unknown"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """`reason` is LibertAI's code of a blocked key: disabled, expired, key_monthly_limit, no_credits and so on."""

    state: KeyState
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """Percent of the plan's windows that are used, and extra credits in USD."""

    plan: str
    window_5h_percent: float
    weekly_percent: float
    extra_credits: float
    window_5h_resets_at: datetime | None = None
    weekly_resets_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model that agents can think with. Prices in USD per million tokens."""

    id: str
    context_window: int | None = None
    tools: bool = False
    vision: bool = False
    reasoning: bool = False
    tee: bool = False
    price_in: float | None = None
    price_out: float | None = None


class _Window(BaseModel):
    used_percent: float = 0
    resets_at: datetime | None = None


class _Usage(BaseModel):
    plan: str = "?"
    window_5h: _Window = _Window()
    weekly: _Window = _Window()
    extra_usage_credits: float = 0


class _Listed(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Listed]


class _Text(BaseModel):
    context_window: int | None = None
    function_calling: bool = False
    vision: bool = False
    reasoning: bool = False
    tee: bool = False


class _Capabilities(BaseModel):
    text: _Text | None = None


class _TextPrice(BaseModel):
    price_per_million_input_tokens: float | None = None
    price_per_million_output_tokens: float | None = None


class _Pricing(BaseModel):
    text: _TextPrice | None = None


class _Priced(BaseModel):
    id: str
    capabilities: _Capabilities = _Capabilities()
    pricing: _Pricing = _Pricing()


class _Redirection(BaseModel):
    old: str = Field(alias="from")
    new: str = Field(alias="to")


class _Prices(BaseModel):
    models: list[_Priced] = []
    redirections: list[_Redirection] = []


class _Data(BaseModel):
    LTAI_PRICING: _Prices


class _Aggregate(BaseModel):
    data: _Data


class _Known(BaseModel):
    """What was learnt of the models last; kept for when it cannot be learnt again."""

    models: list[Model]
    redirections: dict[str, str] = {}
    tools: dict[str, bool] = {}
    """Whether a model can call tools, of every text model in the catalogue, also those that are not offered."""
    vision: dict[str, bool] = {}
    """Likewise, whether it can look at images."""


class LibertAI:
    """One per process, on the process's one HTTP client."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        gateway: str,
        account: str,
        inference_url: str,
        prices_url: str,
        default_models: Sequence[str],
        kept: KeptAnswers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._gateway = gateway.rstrip("/")
        self._account = account.rstrip("/")
        self._inference = inference_url.rstrip("/")
        self._prices_url = prices_url
        self._preferred = tuple(default_models)
        self._kept = kept
        self._clock = clock
        self._known: _Known | None = None
        self._refreshing = asyncio.Lock()
        self._fresh_until = float("-inf")

    async def check(self, key: SecretStr) -> KeyCheck:
        """Ask whether a key is good; `LibertAIUnreachable` when there is no clear answer."""
        if not _fits_a_header(key):
            return KeyCheck(KeyState.UNKNOWN)
        response = await self._get(f"{self._gateway}/libertai/auth/check", key)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            return KeyCheck(KeyState.UNKNOWN)
        if response.status_code == HTTPStatus.FORBIDDEN and (reason := _reason(response)):
            return KeyCheck(KeyState.BLOCKED, reason)
        # A proxy's or firewall's page is no answer of LibertAI's, whatever its status.
        if response.status_code != HTTPStatus.OK or _is_page(response):
            raise LibertAIUnreachable(f"auth check answered {response.status_code}")
        return KeyCheck(KeyState.GOOD)

    async def usage(self, key: SecretStr) -> AccountUsage | None:
        """How much of the account behind a key is used; None if it is no longer accepted."""
        if not _fits_a_header(key):
            return None
        response = await self._get(f"{self._account}/usage", key)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            return None
        usage = _read(_Usage, response)
        return AccountUsage(
            plan=usage.plan,
            window_5h_percent=usage.window_5h.used_percent,
            weekly_percent=usage.weekly.used_percent,
            extra_credits=usage.extra_usage_credits,
            window_5h_resets_at=usage.window_5h.resets_at,
            weekly_resets_at=usage.weekly.resets_at,
        )

    async def models(self) -> list[Model]:
        """Models for agents, preferred ones first. Five minutes old at most, or the last that were seen."""
        return (await self._fresh()).models

    async def resolve(self, model_id: str) -> str:
        """What a model is called now: LibertAI redirects the names of those that it retired."""
        redirections = (await self._fresh()).redirections
        for _ in range(MAX_HOPS):
            model_id = redirections.get(model_id, model_id)
        return model_id

    async def can_call_tools(self, model_id: str) -> bool | None:
        """As the catalogue says of a model, also one that is not offered; None if it does not know it."""
        return (await self._fresh()).tools.get(await self.resolve(model_id))

    async def can_see(self, model_id: str) -> bool | None:
        """Whether a model can look at images, in the same way."""
        return (await self._fresh()).vision.get(await self.resolve(model_id))

    async def _fresh(self) -> _Known:
        async with self._refreshing:
            if self._known is None or self._clock() >= self._fresh_until:
                self._known = await self._refresh()
            return self._known

    async def _refresh(self) -> _Known:
        listed: list[str] = []
        try:
            listed = await self._listed()
            known = self._offer(listed, await self._prices())
        except LibertAIUnreachable as error:
            log.warning(line("model catalogue away", why=error))
            self._fresh_until = self._clock() + RETRY_SECONDS
            return _as_listed(self._known or await self._last_known(), listed)
        await self._kept.put(KEPT_NAME, known.model_dump_json())
        self._fresh_until = self._clock() + CATALOGUE_SECONDS
        return known

    async def _listed(self) -> list[str]:
        models = _read(_Models, await self._get(f"{self._inference}/models"))
        ids = [model.id for model in models.data if not model.id.endswith("-thinking")]
        if not ids:
            raise LibertAIUnreachable("it lists no models")
        return ids

    async def _prices(self) -> _Prices:
        if not self._prices_url:
            return _Prices()
        return _read(_Aggregate, await self._get(self._prices_url)).data.LTAI_PRICING

    def _offer(self, listed: list[str], prices: _Prices) -> _Known:
        rank = {name: index for index, name in enumerate(self._preferred)}
        models = sorted(_able(listed, prices), key=lambda model: (rank.get(model.id, len(rank)), model.id))
        return _Known(
            models=models,
            redirections={one.old: one.new for one in prices.redirections},
            tools={one.id: one.capabilities.text.function_calling for one in prices.models if one.capabilities.text},
            vision={one.id: one.capabilities.text.vision for one in prices.models if one.capabilities.text},
        )

    async def _last_known(self) -> _Known:
        kept = await self._kept.get(KEPT_NAME)
        return _Known.model_validate_json(kept) if kept else _Known(models=[Model(name) for name in self._preferred])

    async def _get(self, url: str, key: SecretStr | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        try:
            return await self._client.get(url, headers=headers)
        except httpx.HTTPError as error:
            raise LibertAIUnreachable(f"{type(error).__name__} at {httpx.URL(url).host}") from error


def _able(listed: list[str], prices: _Prices) -> list[Model]:
    """What the server lists and the catalogue says can use tools; all it lists where the catalogue knows none of it."""
    priced = {model.id: model for model in prices.models}
    able = [_model(priced[name]) for name in listed if name in priced and _text(priced[name]).function_calling]
    return able or [Model(name) for name in listed]


def _as_listed(known: _Known, listed: list[str]) -> _Known:
    """Without what the server no longer lists; if that is all, what it lists. As it is when nothing is listed."""
    still = [model for model in known.models if model.id in listed or not listed]
    return known.model_copy(update={"models": still or [Model(name) for name in listed]})


def _model(priced: _Priced) -> Model:
    text, price = _text(priced), priced.pricing.text or _TextPrice()
    return Model(
        id=priced.id,
        context_window=text.context_window,
        tools=text.function_calling,
        vision=text.vision,
        reasoning=text.reasoning,
        tee=text.tee,
        price_in=price.price_per_million_input_tokens,
        price_out=price.price_per_million_output_tokens,
    )


def _text(priced: _Priced) -> _Text:
    return priced.capabilities.text or _Text()


def _read[T: BaseModel](shape: type[T], response: httpx.Response) -> T:
    if response.status_code != HTTPStatus.OK:
        raise LibertAIUnreachable(f"{response.url.path} answered {response.status_code}")
    try:
        return shape.model_validate_json(response.content)
    except ValidationError as error:
        raise LibertAIUnreachable(f"{response.url.path} answered something unreadable") from error


def _reason(response: httpx.Response) -> str | None:
    try:
        body: Any = response.json()
        code = body["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return None
    return code if isinstance(code, str) else None


def _is_page(response: httpx.Response) -> bool:
    return "html" in response.headers.get("content-type", "")


def _fits_a_header(key: SecretStr) -> bool:
    value = key.get_secret_value()
    return value.isascii() and value.isprintable() and " " not in value
