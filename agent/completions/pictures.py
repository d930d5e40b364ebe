"""Images that clients of OpenAI's API send inside of their requests, as `data:` URLs."""

import binascii
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from agent.errors import Refused
from agent.files import PIECE_BYTES
from agent.images import MAX_BYTES, image_type

MAX_BODY_BYTES = 60_000_000
"""Room for as many of the largest images as a question may have, in base64."""
_HEAD = re.compile(r"data:image/(?:png|jpe?g|webp|gif);base64,", re.IGNORECASE)
_HEAD_BYTES = 16
_NO_DATA = (
    "This agent fetches no images: send a data: URL with the image itself, data:image/png;base64,…; PNG, JPEG, WebP "
    "and GIF are read."
)
_BROKEN = "This is no image in base64 of the kinds PNG, JPEG, WebP and GIF: send such a data: URL."
_TOO_LARGE = f"An image may have {MAX_BYTES // 1_000_000} MB: send a smaller one."


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of a question."""

    media_type: str
    data: bytes

    @property
    def id(self) -> str:
        """The same for the same image: sent again, it is not kept twice."""
        return f"v1-{hashlib.sha256(self.data).hexdigest()[:32]}"

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"image.{self.media_type.removeprefix('image/')}"

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes, piece by piece."""
        for start in range(0, len(self.data), PIECE_BYTES):
            yield self.data[start : start + PIECE_BYTES]


def picture(url: str, where: str) -> Picture:
    """The image of a `data:` URL; `Refused` (400) if this is none, or one that models are not shown."""
    head = _HEAD.match(url)
    if head is None:
        raise _refused(_NO_DATA, where)
    if (len(url) - head.end()) * 3 // 4 - 2 > MAX_BYTES:
        raise _refused(_TOO_LARGE, where)
    try:
        data = binascii.a2b_base64(url[head.end() :], strict_mode=True)
    except ValueError:
        raise _refused(_BROKEN, where) from None  # the cause is about base64, not about what was sent
    if not (kind := image_type(data[:_HEAD_BYTES])):
        raise _refused(_BROKEN, where)
    if len(data) > MAX_BYTES:
        raise _refused(_TOO_LARGE, where)
    return Picture(kind, data)


def _refused(text: str, where: str) -> Refused:
    return Refused(400, "unsupported_content", text, where)
