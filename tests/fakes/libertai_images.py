"""LibertAI's images, as its double makes them, and takes them in a conversation."""

import base64
import binascii
import struct
import zlib
from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency

from tests.fakes.libertai_sim import Asked, Found
from tests.fakes.libertai_world import ERROR_BODIES, Refused, World, require_payment

MODELS = {"z-image-turbo", "qwen-image-edit"}
MAX_IMAGES = 4
IMAGE_TOKENS = 1_000
_SIZES = {"512x512", "1024x1024", "1024x1536", "1536x1024"}
_MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8", "image/webp": b"RIFF"}


def png(shade: int = 0) -> bytes:
    """An image of one dot."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes([0, shade]))))
    return _MAGIC["image/png"] + b"".join(_chunk(*part) for part in (*parts, (b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@post("/v1/images/generations", status_code=200)
async def generate(request: Request[Any, Any, Any], world: NamedDependency[World]) -> Response[Any]:
    """Make an image: of one dot, unless a `Found` says something else."""
    require_payment(world, request.headers.get("authorization", ""))
    body = await request.json()
    _require(isinstance(body, dict) and body.keys() <= {"model", "prompt", "size", "n"}, "body", "Extra inputs")
    if body.get("model") not in MODELS:
        raise Refused(404, {"detail": f"Model '{body.get('model')}' not found"})
    prompt = body.get("prompt")
    _require(isinstance(prompt, str) and prompt.strip(), "prompt", "String should not be empty")
    _require(body.get("size", "1024x1024") in _SIZES, "size", f"Input should be one of {sorted(_SIZES)}")
    found = world.found.popleft() if world.found else Found()
    await world.record_search(Asked(path="/v1/images/generations", body=body))
    if found.body is not None or found.status != 200:
        error = ERROR_BODIES.get(found.status, {"detail": "Error"})
        content: Any = found.body.encode() if found.body is not None else error
        return Response(content, status_code=found.status, media_type="application/json")
    return Response({"created": 1, "data": [{"b64_json": base64.b64encode(png()).decode()}]})


def _require(fact: object, field: str, message: str) -> None:
    if not fact:
        raise Refused(422, {"detail": [{"type": "value_error", "loc": ["body", field], "msg": message}]})


def require_parts(messages: list[dict[str, Any]]) -> None:
    """Judge messages whose content is a list: text, and images as data: URLs, of people only."""
    images = 0
    for message in messages:
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            _refuse_unless(message["role"] == "user", "only messages of users have parts")
            if part.get("type") == "text":
                _refuse_unless(isinstance(part.get("text"), str), "text must be a string")
            else:
                _require_image(part)
                images += 1
    _refuse_unless(images <= MAX_IMAGES, f"at most {MAX_IMAGES} image(s) may be provided in one request")


def _require_image(part: dict[str, Any]) -> None:
    _refuse_unless(part.get("type") == "image_url", f"unknown type of part: {part.get('type')}")
    head, _, data = str(part["image_url"]["url"]).partition(";base64,")
    try:
        content = base64.b64decode(data, validate=True)
    except binascii.Error:
        content = b""
    magic = _MAGIC.get(head.removeprefix("data:"))
    _refuse_unless(magic and content.startswith(magic), "cannot identify image file")


def _refuse_unless(fact: object, text: str) -> None:
    if not fact:
        raise Refused(400, {"error": {"message": text, "type": "BadRequestError", "param": None, "code": 400}})


def size_in_window(content: object) -> int:
    """Characters, where an image counts as many as its tokens are worth."""
    if not isinstance(content, list):
        return len(str(content))
    return sum(len(part["text"]) if part["type"] == "text" else 4 * IMAGE_TOKENS for part in content)
