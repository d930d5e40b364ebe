"""Whether our clock is right: Aleph refuses operations signed two minutes off, certificates and reminders go by it."""

import asyncio
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime

import httpx

from bot.doctor.checks import Check
from bot.doctor.findings import Skipped, Wrong
from bot.doctor.web import SECONDS, host
from bot.settings import ProviderName, Settings

TOLERATED_SECONDS = 60


def checks(settings: Settings, http: httpx.AsyncClient, now: Callable[[], float]) -> list[Check]:
    """Our clock against those of two servers that the bot needs anyway."""
    second = settings.aleph_api_url if settings.provider is ProviderName.ALEPH else settings.inference_url
    return [Check("clock", lambda: _compare((settings.telegram_api_base, second), http, now))]


async def _compare(urls: Sequence[str], http: httpx.AsyncClient, now: Callable[[], float]) -> str:
    """Wrong if no server agrees with it: one alone may be off itself."""
    asked = await asyncio.gather(*(_offset(url, http, now) for url in urls))
    offsets = {host(url): offset for url, offset in zip(urls, asked, strict=True) if offset is not None}
    if not offsets:
        raise Skipped("not checked: no server told its time")
    nearest, offset = min(offsets.items(), key=lambda each: abs(each[1]))
    if abs(offset) > TOLERATED_SECONDS:
        side = "ahead of" if offset > 0 else "behind"
        raise Wrong(f"{abs(offset):.0f} s {side} {nearest}'s: keep it by NTP (timedatectl set-ntp true)")
    return f"as {nearest}'s"


async def _offset(url: str, http: httpx.AsyncClient, now: Callable[[], float]) -> float | None:
    """Seconds that our clock is ahead; None if that server does not tell."""
    before = now()
    try:
        answer = await http.head(url, timeout=SECONDS)
        told = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (httpx.HTTPError, httpx.InvalidURL, OSError, KeyError, ValueError):
        return None
    # The header is cut to whole seconds.
    return (before + now()) / 2 - (told + 0.5)
