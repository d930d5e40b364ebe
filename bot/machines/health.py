"""Whether an agent answers at an address, asked without its secret."""

import ssl
from http import HTTPStatus

import aiohttp
from pydantic import ValidationError

from agent import protocol
from bot.machines.tls import server_hostname

SECONDS = 2


async def answers(url: str | None, *, tls: ssl.SSLContext | None = None, name: str = "") -> bool:
    """It is up, not on its way out, and proves by its certificate that it is the one.

    `tls` says whose certificates count (None: those of public authorities), `name` whom they must name where the URL's
    host is an address.
    """
    if url is None:
        return False
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session,
            session.get(
                f"{url}/health",
                ssl=tls or True,
                server_hostname=server_hostname(url, name),
                allow_redirects=False,
            ) as response,
        ):
            is_answer = response.status == HTTPStatus.OK
            return is_answer and protocol.Health.model_validate_json(await response.read()).status == "ok"
    except (aiohttp.ClientError, TimeoutError, ValidationError):
        return False
