"""Find what was said earlier in a chat, also what its summary has replaced.

Read page by page, newest first, and other turns go on in between: looking through 100,000 messages takes a fifth of a
second of CPU (measured), and no part of it holds up anybody for more than a few milliseconds. A full-text index would
cost every message of every chat, for what is seldom asked.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.store import Speaker, Store

MAX_HITS = 10
MAX_MESSAGES = 100_000
"""So many of the newest are looked through."""
_PAGE = 500
_HIT_CHARS, _NEIGHBOUR_CHARS = 600, 200
_WHO = {Speaker.USER.value: "They", Speaker.ASSISTANT.value: "You"}

_TOLD = "chat_id = ?1 AND speaker != 'tool' AND text != ''"
_OLDER = f"SELECT id, text FROM message WHERE {_TOLD} AND id < ?2 ORDER BY id DESC LIMIT ?3"  # noqa: S608 - a constant
_NEWEST_QUESTION = "SELECT coalesce(max(id), 0) FROM message WHERE chat_id = ? AND speaker = 'user'"
# A turn is known for a week: older messages have no date.
_AROUND = f"""
SELECT message.id, speaker, text, created FROM message LEFT JOIN turn ON turn.id = turn_id
WHERE message.id IN (?2, (SELECT max(id) FROM message WHERE {_TOLD} AND id < ?2),
    (SELECT min(id) FROM message WHERE {_TOLD} AND id > ?2))
ORDER BY message.id
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class Recall:
    """Searches one chat, and no other."""

    store: Store
    chat_id: str

    async def search(self, words: Sequence[str]) -> list[str]:
        """The newest messages before the current question that hold all of these words, with what is around them."""
        wanted = [word.casefold() for word in words]
        return [self._shown(number, wanted[0]) for number in await self._find(wanted)]

    async def _find(self, wanted: Sequence[str]) -> list[int]:
        hits: list[int] = []
        [before] = self.store.execute(_NEWEST_QUESTION, (self.chat_id,)).fetchone()
        for _ in range(MAX_MESSAGES // _PAGE):
            page = self.store.execute(_OLDER, (self.chat_id, before, _PAGE)).fetchall()
            hits += [number for number, text in page if _holds(text.casefold(), wanted)]
            if len(page) < _PAGE or len(hits) >= MAX_HITS:
                break
            before = page[-1][0]
            await asyncio.sleep(0)
        return hits[:MAX_HITS]

    def _shown(self, hit: int, word: str) -> str:
        rows = self.store.execute(_AROUND, (self.chat_id, hit)).fetchall()
        created = next((row[3] for row in rows if row[0] == hit), None)
        day = f"[{datetime.fromtimestamp(created, UTC):%Y-%m-%d}]\n" if created else ""
        said = (
            f"{_WHO[speaker]}: {_around(text, word, _HIT_CHARS if number == hit else _NEIGHBOUR_CHARS)}"
            for number, speaker, text, _ in rows
        )
        return day + "\n".join(said)


def _holds(text: str, wanted: Sequence[str]) -> bool:
    return all(word in text for word in wanted)


def _around(text: str, word: str, limit: int) -> str:
    """At most so many characters, those around the word if it is there."""
    if len(text) <= limit:
        return text
    found = max(0, text.casefold().find(word))
    start = max(0, min(found - limit // 2, len(text) - limit))
    return f"{'…' if start else ''}{text[start : start + limit]}{'…' if start + limit < len(text) else ''}"
