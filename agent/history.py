"""What of a chat's past the model is shown: the newest messages that fit, in an order every server accepts."""

from dataclasses import dataclass

from agent.store import Message, Speaker, Store

_CHARS_PER_TOKEN = 3
"""On the safe side for most languages: English has about four, and four was seen to overflow."""


@dataclass(frozen=True, slots=True)
class History:
    """Reads the past of chats within two bounds."""

    store: Store
    max_messages: int
    max_tokens: int

    def load(self, chat_id: str) -> list[Message]:
        """Return the chat's last messages: alternating, the first and the last one said by the user."""
        recent = self.store.recent_messages(chat_id, self.max_messages)
        return merge(_starting_with_user(_newest_within(recent, self.max_tokens * _CHARS_PER_TOKEN)))


def merge(messages: list[Message]) -> list[Message]:
    """Join neighbours of one speaker.

    A failed turn leaves a user's message without an answer, and some chat templates refuse two users in a row.
    """
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].speaker == message.speaker:
            message = Message(message.speaker, f"{merged.pop().text}\n\n{message.text}")  # noqa: PLW2901 - the joined one
        merged.append(message)
    return merged


def newer_half(messages: list[Message]) -> list[Message]:
    """Drop the older half of a conversation that did not fit."""
    return _starting_with_user(messages[(len(messages) + 1) // 2 :])


def _newest_within(messages: list[Message], chars: int) -> list[Message]:
    for index in range(len(messages) - 1, -1, -1):
        chars -= len(messages[index].text)
        if chars < 0:
            # The newest one always goes: if it is too long, that is for the model to say.
            return messages[min(index + 1, len(messages) - 1) :]
    return messages


def _starting_with_user(messages: list[Message]) -> list[Message]:
    for index, message in enumerate(messages):
        if message.speaker is Speaker.USER:
            return messages[index:]
    return []
