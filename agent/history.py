"""What of a chat's past the model is shown: a summary of its older part and what was said since, always valid.

Valid is what every chat completions API accepts: user first, no two of one speaker in a row, and after an answer with
tool calls exactly one result for each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agent.store import NEWEST_IMAGES, Message, Speaker, Store

IMAGE_TOKENS = 1_000
CHARS_PER_TOKEN = 3
"""On the safe side for most languages: English has about four, and four was seen to overflow."""
NO_RESULT = "There is no result: this call was interrupted."
_SUMMARY = "Summary of our conversation so far:\n{summary}\n\n(End of the summary.)"
_UNDERSTOOD = "Understood; I go on from there."


@dataclass(frozen=True, slots=True)
class Past:
    """The rows of a chat since its summary, with their numbers."""

    summary: str
    rows: Sequence[tuple[int, Message]]

    def messages(self) -> list[Message]:
        """What the model is shown."""
        said = valid(message for _, message in self.rows)
        if not self.summary:
            return said
        # A pair of its own: the rest stays, to the byte, as it was sent before, which model servers' caches need.
        told = Message(Speaker.USER, _SUMMARY.format(summary=self.summary))
        return [told, Message(Speaker.ASSISTANT, _UNDERSTOOD), *said]


@dataclass(frozen=True, slots=True)
class History:
    """Reads and writes the past of chats."""

    store: Store
    max_messages: int

    def load(self, chat_id: str) -> Past:
        """The chat since its summary, at most its newest `max_messages`."""
        up_to, summary = self.store.find_summary(chat_id)
        rows = self.store.recent_messages(chat_id, self.max_messages, after=up_to)
        if not any(message.speaker is Speaker.USER for _, message in rows):
            rows = [*self.store.newest_question(chat_id), *rows]  # what is being answered, however long that takes
        return Past(summary, rows)


def tokens(messages: Iterable[Message]) -> int:
    """Estimate, rather too high."""
    chars = images = 0
    for message in messages:
        chars += _chars(message)
        images += len(message.images)
    return chars // CHARS_PER_TOKEN + IMAGE_TOKENS * min(images, NEWEST_IMAGES)


def _chars(message: Message) -> int:
    return len(message.text) + sum(len(call.name) + len(call.arguments) for call in message.calls)


def valid(messages: Iterable[Message]) -> list[Message]:
    """Repair whatever failures, restarts and cuts have left behind."""
    repaired: list[Message] = []
    rounds = list(messages)
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
    """A failed turn leaves a user's message without an answer; some chat templates refuse two users in a row."""
    last = repaired[-1] if repaired else None
    if last and last.speaker is message.speaker and not last.calls:
        repaired[-1] = replace(
            message, text=f"{last.text}\n\n{message.text}".rstrip(), images=last.images + message.images
        )
    else:
        repaired.append(message)
