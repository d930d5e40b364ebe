"""What file a person's message brings, whatever kind of message it is."""

import re
from hashlib import sha256

from telegram import Message, PhotoSize

from agent.protocol import MAX_ID_CHARS
from bot.chat.files import Incoming

MAX_BYTES = 20 * 1024 * 1024
"""What Telegram lets a bot fetch."""
MAX_NAME_CHARS, MAX_TYPE_CHARS = 255, 128
ANY_TYPE = "application/octet-stream"
KEY = re.compile(r"[A-Za-z0-9_-]+")
NAMELESS = {
    "animation": ("mp4", "video/mp4"),
    "audio": ("mp3", "audio/mpeg"),
    "document": ("bin", ANY_TYPE),
    "video": ("mp4", "video/mp4"),
    "video_note": ("mp4", "video/mp4"),
    "voice": ("ogg", "audio/ogg"),
}
"""Kinds of message with a file: the ending and the type where Telegram tells none. An animation is also a document."""


def incoming(message: Message) -> Incoming | None:
    """The file of a message; None if it has none that an agent could use (a sticker, a place, a poll)."""
    if message.photo:
        return _photo(message, max(message.photo, key=_area))
    for kind, (ending, media_type) in NAMELESS.items():
        found = getattr(message, kind)
        if found:
            return Incoming(
                file_id=found.file_id,
                key=_key(found.file_unique_id),
                name=_name(getattr(found, "file_name", None)) or f"{kind}_{message.message_id}.{ending}",
                media_type=_type(getattr(found, "mime_type", None)) or media_type,
                size=found.file_size or 0,
            )
    return None


def _photo(message: Message, largest: PhotoSize) -> Incoming:
    # Telegram keeps photos as JPEG, without the name they had.
    return Incoming(
        file_id=largest.file_id,
        key=_key(largest.file_unique_id),
        name=f"photo_{message.message_id}.jpg",
        media_type="image/jpeg",
        size=largest.file_size or 0,
    )


def _area(size: PhotoSize) -> int:
    return size.width * size.height


def _key(unique_id: str) -> str:
    """Its id on the agent: the same file sent again is the same one there."""
    if len(unique_id) <= MAX_ID_CHARS and KEY.fullmatch(unique_id):
        return unique_id
    return sha256(unique_id.encode("utf-8", "replace")).hexdigest()


def _name(name: str | None) -> str:
    """As the person calls it, its end (which says what it is) kept where it is too long."""
    return (name or "").strip()[-MAX_NAME_CHARS:]


def _type(media_type: str | None) -> str:
    return media_type if media_type and len(media_type) <= MAX_TYPE_CHARS else ""
