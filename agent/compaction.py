"""Make room in a chat's context: first the bulk of old tool results goes, then the older part becomes a summary.

It happens seldom and then thoroughly (above 75 % of the budget, down to 40 %), because each time changes the beginning
of what is sent, which the model server then has to read anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from agent import log
from agent.errors import ModelFailed
from agent.history import CHARS_PER_TOKEN, History, Past, Row, newest_question, tokens, valid
from agent.llm import Llm
from agent.store import NOTHING, Aside, Message, Speaker
from agent.toolbox import shortened

_FULL, _ROOMY = 0.75, 0.4
_BULKY_CHARS = 1_000
_HEAD_CHARS = 300
_STUB = "{head}\n[… the rest of this old result was removed; call the tool again if you need it …]"
_ASK = (
    "Write a summary of our conversation so far, for yourself: you will go on from it without the messages. Keep "
    "names, facts, decisions, promises, open tasks, file names, and what the person likes and dislikes. At most 600 "
    "words, in the language of the conversation. Nothing but the summary."
)
_LOST = "[Older messages were left out here.]"

_LEAST = 0.25
"""Of the budget, for the chat, however much else there is."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a turn sends around the chat: the system prompt, what should be known now, and how large its tools are."""

    system: str
    now: Aside = NOTHING
    tools_chars: int = 0

    def tokens(self) -> int:
        """Besides the chat. What should be known stands in the chat."""
        return (len(self.system) + self.tools_chars) // CHARS_PER_TOKEN


@dataclass(frozen=True, slots=True)
class Compactor:
    """Keeps what is sent within `budget` tokens."""

    llm: Llm
    history: History
    budget: int

    async def fit(self, chat_id: str, frame: Frame, *, squeeze: bool = False) -> Past:
        """The chat as it fits; with `squeeze` smaller than it was thought to need (the server said it is too long)."""
        past = self.history.load(chat_id, frame.now)
        budget = max(self.budget - frame.tokens(), _LEAST * self.budget)
        size = past.tokens()
        full = min(_ROOMY * budget, size) / 2 if squeeze else _FULL * budget
        if size <= full:
            return past
        room = full if squeeze else _ROOMY * budget
        past = self.history.tell(self._without_facts(self._with_stubs(past, newest_question(past.rows))), frame.now)
        if past.tokens() > room:
            past = await self._summarise(chat_id, past, room, _Asking(frame.system, budget))
        return self._with_less_gathered(past, full)

    async def _summarise(self, chat_id: str, past: Past, room: float, asking: "_Asking") -> Past:
        cut = _cut(past.rows, room)
        if cut == 0:
            return past
        older = Past(past.summary, past.rows[:cut])
        summary = await self._summary(chat_id, older, asking)
        if summary:
            self.history.store.keep_summary(chat_id, past.rows[cut - 1][0], summary)
        # A failed summary is not kept: the messages are left out this time only, and the next time tries again.
        return Past(summary or f"{older.summary}\n\n{_LOST}".strip(), past.rows[cut:])

    async def _summary(self, chat_id: str, older: Past, asking: "_Asking") -> str:
        """The model's words; empty if it had none."""
        said: list[str] = []
        asked = valid([*_within(older.messages(), asking.budget), Message(Speaker.USER, _ASK)])
        try:
            await self.llm.complete(asking.system, asked, said.append)
        except ModelFailed as failure:
            log.warning("no summary", chat=chat_id, reason=str(failure))
            return ""
        return "".join(said).strip()

    def _without_facts(self, past: Past) -> Past:
        """Facts only with the newest question, if it has them."""
        rows = list(past.rows)
        for index, (number, message) in enumerate(rows[: newest_question(rows)]):
            if message.aside and message.aside.facts:
                rows[index] = (number, replace(message, aside=replace(message.aside, facts="")))
                self.history.store.keep_aside(number, replace(message.aside, facts=""))
        return Past(past.summary, rows)

    def _with_less_gathered(self, past: Past, full: float) -> Past:
        """Where one answer gathers too much by itself: its older results go too, and its last ones are shortened."""
        if past.tokens() > full:
            past = self._with_stubs(past, _last_round(past.rows))
        over = past.tokens() - full
        bulk = sum(len(message.text) for _, message in past.rows if _is_bulky(message))
        if over <= 0 or not bulk:
            return past
        left = max(0.0, 1 - over * CHARS_PER_TOKEN / bulk)
        return self._changed(
            past, len(past.rows), lambda text: shortened(text, max(_BULKY_CHARS, int(len(text) * left)))
        )

    def _with_stubs(self, past: Past, end: int) -> Past:
        """Only the beginnings of the results in the first rows."""
        return self._changed(past, end, lambda text: _STUB.format(head=text[:_HEAD_CHARS]))

    def _changed(self, past: Past, end: int, change: Callable[[str], str]) -> Past:
        """Change the big results among the first rows, here and in the store."""
        rows = list(past.rows)
        for index, (number, message) in enumerate(rows[:end]):
            if _is_bulky(message):
                rows[index] = (number, replace(message, text=change(message.text)))
                self.history.store.replace_text(number, rows[index][1].text)
        return Past(past.summary, rows)


@dataclass(frozen=True, slots=True)
class _Asking:
    """How a summary is asked for."""

    system: str
    budget: float


def _is_bulky(message: Message) -> bool:
    return message.speaker is Speaker.TOOL and len(message.text) > _BULKY_CHARS


def _last_round(rows: Sequence[Row]) -> int:
    """Where the newest calls are."""
    return max((index for index, (_, message) in enumerate(rows) if message.calls), default=0)


def _cut(rows: Sequence[Row], room: float) -> int:
    """Where the part begins that stays: at a message of the person, so that no call loses its results."""
    newest = newest_question(rows)
    for index in range(newest + 1):
        if rows[index][1].speaker is Speaker.USER and tokens([message for _, message in rows[index:]]) <= room:
            return index
    return newest


def _within(messages: list[Message], budget: float) -> list[Message]:
    """The newest that fit: also what is summarised must fit into the context."""
    if tokens(messages) <= budget:
        return messages
    while messages and tokens(messages) > budget:
        messages = messages[max(1, len(messages) // 4) :]
    return [Message(Speaker.USER, _LOST), *messages]
