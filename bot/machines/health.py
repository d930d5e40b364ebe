"""Whether an agent answers at an address, asked without its secret."""

import aiohttp
from pydantic import ValidationError

from agent import protocol

SECONDS = 2


async def answers(url: str | None) -> bool:
    """It is up, and not on its way out."""
    if url is None:
        return False
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session,
            session.get(f"{url}/health") as response,
        ):
            return response.ok and protocol.Health.model_validate_json(await response.read()).status == "ok"
    except (aiohttp.ClientError, TimeoutError, ValidationError):
        return False
