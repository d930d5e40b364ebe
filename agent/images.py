"""Pictures that people have sent, for models that can see: the newest of each chat, ready to go with a question.

They lie in the database: what is sent stays the same from turn to turn, and costs no look into the workspace.
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence

from agent.store import NEWEST_IMAGES, Message, Store

MAX_BYTES = 4_000_000
_WAITING = 10
"""Of a chat: sent, but not asked about yet."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS image (
    chat_id TEXT NOT NULL, file_id TEXT NOT NULL, media_type TEXT NOT NULL, data BLOB NOT NULL, created REAL NOT NULL,
    asked INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (chat_id, file_id));
"""
# `asked` counts the images of a chat in the order of the questions that brought them; 0: none did yet.


def image_type(head: bytes) -> str:
    """The media type of an image that models know, by its first 12 bytes; empty if it is none."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else ""


IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})


class Images:
    """Keeps and finds them. Where the model cannot see, none are kept and none are shown."""

    def __init__(self, store: Store, *, vision: Callable[[], bool]) -> None:
        store.prepare(_SCHEMA)
        self._vision = vision
        self._store = store

    @property
    def vision(self) -> bool:
        """Whether the model can see."""
        return self._vision()

    def keep(self, chat_id: str, file_id: str, media_type: str, data: bytes, created: float) -> None:
        """Keep an image that was sent, in the place of one with the same id."""
        self._store.execute(
            "INSERT INTO image (chat_id, file_id, media_type, data, created) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO "
            "UPDATE SET media_type = excluded.media_type, data = excluded.data",
            (chat_id, file_id, media_type, data, created),
        )
        self._store.execute(
            "DELETE FROM image WHERE chat_id = ?1 AND asked = 0 AND file_id NOT IN (SELECT file_id FROM image "
            "WHERE chat_id = ?1 AND asked = 0 ORDER BY created DESC, rowid DESC LIMIT ?2)",
            (chat_id, _WAITING),
        )
        self._store.commit()

    def drop(self, chat_id: str, file_id: str) -> None:
        """Forget one: its file is another now."""
        self._store.execute("DELETE FROM image WHERE chat_id = ? AND file_id = ?", (chat_id, file_id))

    def ask(self, chat_id: str, file_ids: Sequence[str]) -> tuple[str, ...]:
        """Those of these that can be shown to the model. They count as its newest now, and make older ones go."""
        if not self.vision:
            return ()
        for file_id in file_ids:
            self._store.execute(
                "UPDATE image SET asked = 1 + (SELECT max(asked) FROM image WHERE chat_id = ?1) "
                "WHERE chat_id = ?1 AND file_id = ?2",
                (chat_id, file_id),
            )
        self._store.execute(
            "DELETE FROM image WHERE chat_id = ?1 AND asked > 0 AND asked <= "
            "(SELECT max(asked) FROM image WHERE chat_id = ?1) - ?2",
            (chat_id, NEWEST_IMAGES),
        )
        rows = self._store.execute("SELECT file_id FROM image WHERE chat_id = ? AND asked > 0", (chat_id,))
        there = {row[0] for row in rows}
        return tuple(file_id for file_id in file_ids if file_id in there)

    def shown(self, chat_id: str, messages: Iterable[Message]) -> Mapping[str, str]:
        """The newest images of these messages as data: URLs, by their ids."""
        ids = [file_id for message in messages for file_id in message.images][-NEWEST_IMAGES:] if self.vision else []
        urls = {}
        for file_id in ids:
            row = self._store.execute(
                "SELECT media_type, data FROM image WHERE chat_id = ? AND file_id = ?", (chat_id, file_id)
            ).fetchone()
            if row:
                urls[file_id] = f"data:{row[0]};base64,{base64.b64encode(row[1]).decode()}"
        return urls

    def forget(self, chat_id: str) -> None:
        """Drop those of a chat."""
        self._store.execute("DELETE FROM image WHERE chat_id = ?", (chat_id,))
        self._store.commit()
