"""Make room in a chat's context: first the bulk of old tool results goes, then the older part becomes a summary.

It happens seldom and then thoroughly (above 75 % of the budget, down to 40 %), because each time changes the beginning
of what is sent, which the model server then has to read anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agent import log
from agent.errors import ModelFailed
from agent.history import History, Past, tokens, valid
from agent.llm import Llm
from agent.store import Message, Speaker

_FULL, _ROOMY = 0.75, 0.4
_BULKY_CHARS = 1_000
_HEAD_CHARS = 300
_STUB = "{head}\n[… the rest of this old result was removed; call the tool again if you need it …]"
_ASK = (
    "Write a summary of our conversation so far, for yourself: you will go on from it without the messages. Keep "
    "names, facts, decisions, promises, open tasks, file names, and what the person likes and dislikes. At most 600 words, "
    "in the language of the conversation. Nothing but the summary."
)
_LOST = "[Older messages were left out here.]"

Row = tuple[int, Message]


@dataclass(frozen=True, slots=True)
class Compactor:
    """Keeps chats within `budget` tokens."""

    llm: Llm
    history: History
    budget: int

    async def fit(self, chat_id: str, system: str, *, squeeze: bool = False) -> Past:
        """The chat as it fits; with `squeeze` smaller than it was thought to need (the server said it is too long)."""
        past = self.history.load(chat_id)
        full = 0 if squeeze else _FULL * self.budget
        if tokens(past.messages()) <= full:
            return past
        room = _ROOMY * self.budget / (2 if squeeze else 1)
        self._strip(past.rows)
        past = self.history.load(chat_id)
        if tokens(past.messages()) > room:
            past = await self._summarise(chat_id, system, past, room)
        return past

    def _strip(self, rows: Sequence[Row]) -> None:
        """Old results only: those of the newest question are still being used."""
        for number, message in rows[: _newest_question(rows)]:
            if message.speaker is Speaker.TOOL and len(message.text) > _BULKY_CHARS:
                self.history.store.replace_text(number, _STUB.format(head=message.text[:_HEAD_CHARS]))

    async def _summarise(self, chat_id: str, system: str, past: Past, room: float) -> Past:
        cut = _cut(past.rows, room)
        if cut == 0:
            return past
        older = Past(past.summary, past.rows[:cut])
        summary = await self._summary(chat_id, system, older)
        self.history.store.keep_summary(chat_id, past.rows[cut - 1][0], summary)
        return Past(summary, past.rows[cut:])

    async def _summary(self, chat_id: str, system: str, older: Past) -> str:
        said: list[str] = []
        asked = valid([*_within(older.messages(), self.budget), Message(Speaker.USER, _ASK)])
        try:
            await self.llm.complete(system, asked, said.append)
        except ModelFailed as failure:
            log.warning("no summary", chat=chat_id, reason=str(failure))
            return f"{older.summary}\n\n{_LOST}".strip()
        return "".join(said).strip() or f"{older.summary}\n\n{_LOST}".strip()


def _newest_question(rows: Sequence[Row]) -> int:
    """Where the newest message of the person is; 0 if there is none."""
    return max((index for index, (_, message) in enumerate(rows) if message.speaker is Speaker.USER), default=0)


def _cut(rows: Sequence[Row], room: float) -> int:
    """Where the part begins that stays: at a message of the person, so that no call loses its results."""
    newest = _newest_question(rows)
    for index in range(newest + 1):
        if rows[index][1].speaker is Speaker.USER and tokens(message for _, message in rows[index:]) <= room:
            return index
    return newest


def _within(messages: list[Message], budget: int) -> list[Message]:
    """The newest that fit: also what is summarised must fit into the context."""
    while messages and tokens(messages) > budget:
        messages = messages[max(1, len(messages) // 4) :]
    return messages
