"""The web by LibertAI's search service: pages are loaded on its side, so that no request of a model's leaves ours."""

import asyncio
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from agent.toolbox import ToolFailed

SECONDS = 40


@dataclass(frozen=True, slots=True)
class Web:
    """The service at `base_url` (`/search` and `/search/fetch`, libertai-docs), paid by the agent's key."""

    base_url: str
    api_key: SecretStr

    async def search(self, query: str, count: int) -> list[dict[str, Any]]:
        """Results with `title`, `url` and `snippet`; `ToolFailed` if there are none to be had."""
        found = await self._post("/search", {"query": query, "max_results": count, "search_type": "web"})
        results = found.get("results")
        return [each for each in results if isinstance(each, dict)] if isinstance(results, list) else []

    async def fetch(self, url: str) -> dict[str, Any]:
        """A page as readable text: `title`, `content`."""
        return await self._post("/search/fetch", {"url": url})

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        import aiohttp  # noqa: PLC0415 - the model's client has loaded it by then

        headers = {"Authorization": f"Bearer {self.api_key.get_secret_value()}"}
        limit = aiohttp.ClientTimeout(total=SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit, headers=headers) as session,
                session.post(self.base_url + path, json=body) as response,
            ):
                answer = await response.json(content_type=None)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
            raise ToolFailed("The web cannot be reached now. Answer without it, and say so.") from error
        if status >= 400 or not isinstance(answer, dict):  # noqa: PLR2004  the HTTP statuses of refusals
            raise ToolFailed(f"The search service refused this (HTTP {status}): {_reason(answer)}")
        return answer


def _reason(answer: object) -> str:
    if not isinstance(answer, dict):
        return "no reason given"
    error = answer.get("error") or answer.get("detail")
    return str(error.get("message") if isinstance(error, dict) else error)[:300]
