"""Images by an OpenAI-compatible server, paid by the agent's key."""

import asyncio
import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from agent.images import image_type
from agent.toolbox import ToolFailed

SECONDS = 120
MAX_PROMPT_CHARS = 4_000
MAX_BYTES = 20_000_000
_SIZE = "1024x1024"
_TEXT_BYTES = MAX_BYTES * 4 // 3 + 10_000
_BROKEN = "The image model sent something that is no image. Try once more, or tell the person that it does not work."
_REASONS = {
    401: "does not accept this agent's key",
    402: "wants to be paid: the account behind this agent has no credit",
    403: "refused: the account behind this agent has no allowance left",
    404: "has no such model now",
    429: "is overloaded; try again in a minute",
}


@dataclass(frozen=True, slots=True)
class Image:
    """What was made."""

    data: bytes
    media_type: str

    @property
    def suffix(self) -> str:
        """Of a file that holds it."""
        return self.media_type.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Painter:
    """A model for images at `base_url` (`/images/generations`)."""

    base_url: str
    api_key: SecretStr
    model: str

    async def paint(self, prompt: str) -> Image:
        """Make an image; `ToolFailed` says why there is none."""
        if not 0 < len(prompt.strip()) <= MAX_PROMPT_CHARS:
            raise ToolFailed(f"A prompt has 1 to {MAX_PROMPT_CHARS} characters.")
        status, text = await self._post({"model": self.model, "prompt": prompt, "size": _SIZE})
        if status >= 400:  # noqa: PLR2004  the HTTP statuses of refusals
            why = _REASONS.get(status, f"failed (HTTP {status}); try again in a minute")
            raise ToolFailed(f"No image was made: the image service {why}. Tell the person.")
        return _image(text)

    async def _post(self, body: dict[str, Any]) -> tuple[int, bytes]:
        import aiohttp  # noqa: PLC0415 - the model's client has loaded it by then

        headers = {"Authorization": f"Bearer {self.api_key.get_secret_value()}"}
        limit = aiohttp.ClientTimeout(total=SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit, headers=headers) as session,
                session.post(f"{self.base_url.rstrip('/')}/images/generations", json=body) as response,
            ):
                return response.status, await _bounded(response.content)
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise ToolFailed("The image service cannot be reached now. Tell the person.") from error


async def _bounded(content: Any) -> bytes:
    text = bytearray()
    async for chunk in content.iter_any():
        text += chunk
        if len(text) > _TEXT_BYTES:
            raise ToolFailed(f"The image has more than {MAX_BYTES // 1_000_000} MB. Ask for a simpler one.")
    return bytes(text)


def _image(text: bytes) -> Image:
    try:
        data = base64.b64decode(json.loads(text)["data"][0]["b64_json"], validate=True)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError, binascii.Error) as error:
        raise ToolFailed(_BROKEN) from error
    media_type = image_type(data[:16])
    if not media_type:
        raise ToolFailed(_BROKEN)
    return Image(data, media_type)
