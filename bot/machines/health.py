"""Whether an agent answers at an address, asked without its secret."""

import ssl
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp
from pydantic import ValidationError

from agent import protocol

SECONDS = 2


async def answers(url: str | None, *, tls: ssl.SSLContext | None = None, name: str = "") -> bool:
    """It is up, and not on its way out. `name` is its certificate's when the host of the URL is an IP address."""
    if url is None:
        return False
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session,
            session.get(
                f"{url}/health", ssl=tls or True, server_hostname=name if name and _is_address(url) else None
            ) as response,
        ):
            return response.ok and protocol.Health.model_validate_json(await response.read()).status == "ok"
    except (aiohttp.ClientError, TimeoutError, ValidationError):
        return False


def _is_address(url: str) -> bool:
    try:
        ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return url.startswith("https:")
