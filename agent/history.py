"""What of a chat's past the model is shown: a summary of its older part and what was said since, always valid.

Valid is what every chat completions API accepts: user first, no two of one speaker in a row, after an answer with tool
calls exactly one result for each, and after results an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from agent import asides
from agent.store import NEWEST_IMAGES, NOTHING, Aside, Message, Speaker, Store

IMAGE_TOKENS = 1_000
CHARS_PER_TOKEN = 3
"""On the safe side for most languages: English has about four, and four was seen to overflow."""
NO_RESULT = "There is no result: this call was interrupted."
STOPPED = "(I was stopped here.)"
_SUMMARY = "Summary of our conversation so far:\n{summary}\n\n(End of the summary.)"
_UNDERSTOOD = "Understood; I go on from there."


Row = tuple[int, Message]
"""A message and its number."""


@dataclass(frozen=True, slots=True)
class Past:
    """The rows of a chat since its summary, with their numbers."""

    summary: str
    rows: Sequence[Row]

    def messages(self) -> list[Message]:
        """What the model is shown."""
        said = valid([message if message.aside is None else asides.shown(message) for _, message in self.rows])
        if not self.summary:
            return said
        # A pair of its own: the rest stays, to the byte, as it was sent before, which model servers' caches need.
        told = Message(Speaker.USER, _SUMMARY.format(summary=self.summary))
        return [told, Message(Speaker.ASSISTANT, _UNDERSTOOD), *said]

    def tokens(self) -> int:
        """Estimate how many those are, rather too many."""
        return len(self.summary) // CHARS_PER_TOKEN + tokens([message for _, message in self.rows])


@dataclass(frozen=True, slots=True)
class History:
    """Reads and writes the past of chats."""

    store: Store
    max_messages: int

    def load(self, chat_id: str, now: Aside = NOTHING) -> Past:
        """The chat since its summary, at most its newest `max_messages`, and what should be known now."""
        up_to, summary = self.store.find_summary(chat_id)
        rows = self.store.recent_messages(chat_id, self.max_messages, after=up_to)
        if not any(message.speaker is Speaker.USER for _, message in rows):
            rows = [*self.store.newest_question(chat_id), *rows]  # what is being answered, however long that takes
        return self.tell(Past(summary, [row if row[1].aside is None else _within(row, now.scope) for row in rows]), now)

    def tell(self, past: Past, now: Aside) -> Past:
        """With what should be known now, kept with the newest question unless it stands there already."""
        newest = newest_question(past.rows)
        aside = asides.due(past.rows[: newest + 1], now) if past.rows else None
        if aside is None:
            return past
        number, question = past.rows[newest]
        self.store.keep_aside(number, aside)
        told = (number, replace(question, aside=aside))
        return Past(past.summary, [*past.rows[:newest], told, *past.rows[newest + 1 :]])


def newest_question(rows: Sequence[Row]) -> int:
    """Where the newest message of the person is; 0 if there is none."""
    return next((index for index in range(len(rows) - 1, -1, -1) if rows[index][1].speaker is Speaker.USER), 0)


def _within(row: Row, scope: str) -> Row:
    return row[0], asides.within(row[1], scope)


# Of a hundred messages nearly all are plain: what these do with each is written as lists, at half the price of calls.


def tokens(messages: Sequence[Message]) -> int:
    """Estimate, rather too high."""
    chars = sum([len(each.text) for each in messages])
    chars += sum([_chars_besides(each) for each in messages if each.calls or each.aside])
    images = sum([len(each.images) for each in messages if each.images])
    return chars // CHARS_PER_TOKEN + IMAGE_TOKENS * min(images, NEWEST_IMAGES)


def _chars_besides(message: Message) -> int:
    aside = len(message.aside.moment) + len(message.aside.facts) if message.aside else 0
    return aside + sum(len(call.name) + len(call.arguments) for call in message.calls)


def valid(rounds: Sequence[Message]) -> list[Message]:
    """Repair whatever failures, restarts and cuts have left behind."""
    if _alternate(rounds):
        return list(rounds)
    repaired: list[Message] = []
    index = next((number for number, each in enumerate(rounds) if each.speaker is Speaker.USER), len(rounds))
    while index < len(rounds):
        message = rounds[index]
        index += 1
        if message.calls:
            results, index = _results(rounds, index)
            _append(repaired, message)
            repaired += [_result(call.id, results) for call in message.calls]
        elif message.speaker is not Speaker.TOOL:  # a result whose call is gone says nothing
            _append(repaired, message)
    return repaired


def _alternate(rounds: Sequence[Message]) -> bool:
    """Whether the person and the agent speak in turn, and nothing else is there."""
    speakers = [each.speaker for each in rounds]
    turns = [Speaker.USER, Speaker.ASSISTANT] * (len(speakers) // 2 + 1)
    return speakers == turns[: len(speakers)] and not [each for each in rounds if each.calls]


def _results(rounds: Sequence[Message], index: int) -> tuple[dict[str, Message], int]:
    """The results that follow, by the id of their call, and where they end."""
    found: dict[str, Message] = {}
    while index < len(rounds) and rounds[index].speaker is Speaker.TOOL:
        found.setdefault(rounds[index].call_id, rounds[index])
        index += 1
    return found, index


def _result(call_id: str, results: dict[str, Message]) -> Message:
    return results.get(call_id) or Message(Speaker.TOOL, NO_RESULT, call_id=call_id)


def _append(repaired: list[Message], message: Message) -> None:
    """A failed turn leaves a user's message without an answer, a stopped one a result: some templates refuse that."""
    last = repaired[-1] if repaired else None
    if last and last.speaker is Speaker.TOOL and message.speaker is Speaker.USER:
        repaired.append(Message(Speaker.ASSISTANT, STOPPED))
    if last and last.speaker is message.speaker and not last.calls:
        repaired[-1] = replace(
            message, text=f"{last.text}\n\n{message.text}".rstrip(), images=last.images + message.images
        )
    else:
        repaired.append(message)
