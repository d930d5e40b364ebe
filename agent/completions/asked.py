"""What a client of OpenAI's API asks, as far as an agent can do it.

Unknown fields are ignored. What cannot be ignored without making the answer another one is refused.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from agent.errors import Refused
from agent.protocol import MAX_MESSAGE_CHARS
from agent.store import Message, Speaker

_TEXTS = frozenset({"text", "refusal"})
_SYSTEM = frozenset({"system", "developer"})
_SPEAKERS = {"user": Speaker.USER, "assistant": Speaker.ASSISTANT}
_NOTE = "[The program that the person writes with adds:\n{words}]"


class Part(BaseModel):
    """A piece of a message's content."""

    type: str
    text: str = ""
    refusal: str = ""


class Said(BaseModel):
    """A message."""

    role: str
    content: str | list[Part] | None = None
    tool_calls: list[Any] | None = None


class StreamOptions(BaseModel):
    """What a stream tells besides the answer."""

    include_usage: bool = False


class CompletionRequest(BaseModel):
    """Body of `POST /v1/chat/completions`."""

    model: str
    messages: list[Said] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    n: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, what the client's program says about it, and what was said before as the client tells it."""

    question: str
    note: str
    before: tuple[Message, ...]

    def with_note(self) -> str:
        """The question as the agent gets it; `Refused` if it is too long."""
        words = "\n\n".join(filter(None, [self.note, self.question]))
        if len(words) > MAX_MESSAGE_CHARS:
            raise Refused(400, "too_long", f"The question has more than {MAX_MESSAGE_CHARS} characters.", "messages")
        return words


def check(request: CompletionRequest) -> None:
    """`Refused` (400) if something is asked for that agents do not do."""
    if request.n not in (None, 1):
        raise _unsupported("n", "This agent gives one answer: leave `n` out.")
    if request.tools or request.functions:
        name = "tools" if request.tools else "functions"
        raise _unsupported(name, f"This agent works with its own tools and cannot call yours: leave `{name}` out.")
    if request.response_format and request.response_format.get("type") != "text":
        raise _unsupported("response_format", "This agent answers in text: ask for JSON in your message.")
    if request.modalities and request.modalities != ["text"]:
        raise _unsupported("modalities", "This agent answers in text: leave `modalities` out.")


def read(request: CompletionRequest, *, is_kept: bool) -> Asked:
    """What is asked; `Refused` (400) if it is no question in text.

    Where the agent keeps the chat, what was said before is its own to know, and is not looked at.
    """
    messages = list(enumerate(request.messages))
    note = "\n\n".join(_words(number, said) for number, said in messages if said.role in _SYSTEM)
    talk = [(number, said) for number, said in messages if said.role not in _SYSTEM]
    if not talk or talk[-1][1].role != "user":
        raise Refused(400, "bad_request", "The last message must be one of the role `user`.", "messages")
    question = _words(*talk[-1])
    if not question.strip():
        raise Refused(400, "bad_request", "The last message is empty.", "messages")
    before = () if is_kept else tuple(_message(number, said) for number, said in talk[:-1])
    return Asked(question, _NOTE.format(words=note) if note.strip() else "", before)


def _message(number: int, said: Said) -> Message:
    if said.role not in _SPEAKERS or said.tool_calls:
        what = f"a message of the role `{said.role}`" if said.role not in _SPEAKERS else "a call of a tool"
        raise _unreadable(f"messages[{number}]", f"This agent cannot take over {what}: leave it out.")
    return Message(_SPEAKERS[said.role], _words(number, said))


def _words(number: int, said: Said) -> str:
    if isinstance(said.content, str) or said.content is None:
        return said.content or ""
    return "\n".join(_text(f"messages[{number}].content[{index}]", part) for index, part in enumerate(said.content))


def _text(where: str, part: Part) -> str:
    if part.type not in _TEXTS:
        raise _unreadable(where, f"This agent reads text only: leave parts of the type `{part.type}` out.")
    return part.text or part.refusal


def _unsupported(name: str, text: str) -> Refused:
    return Refused(400, "unsupported_parameter", text, name)


def _unreadable(where: str, text: str) -> Refused:
    return Refused(400, "unsupported_content", text, where)
