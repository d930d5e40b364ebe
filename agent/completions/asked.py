"""What a client of OpenAI's API asks, as far as an agent can do it.

Unknown fields are ignored. What cannot be ignored without making the answer another one is refused.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from agent.completions.pictures import Picture, picture
from agent.errors import Refused
from agent.protocol import MAX_ATTACHMENTS, MAX_MESSAGE_CHARS
from agent.store import Message, Speaker

_TEXTS = frozenset({"text", "refusal"})
_SYSTEM = frozenset({"system", "developer"})
_SPEAKERS = {"user": Speaker.USER, "assistant": Speaker.ASSISTANT}
_IMAGE = "image_url"
_EARLIER_IMAGE = "[An image was here. You can see only those of the newest message.]"
_WORDLESS = "[Sent without words.]"
_NOTE = "[The program that the person writes with adds:\n{words}]"


class ImageUrl(BaseModel):
    """Where an image is."""

    url: str


class Part(BaseModel):
    """A piece of a message's content."""

    type: str
    text: str = ""
    refusal: str = ""
    image_url: ImageUrl | None = None


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
    pictures: tuple[Picture, ...] = ()

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
    """What is asked; `Refused` (400) if it is no question in text and images.

    Where the agent keeps the chat, what was said before is its own to know, and is not looked at.
    """
    messages = list(enumerate(request.messages))
    note = "\n\n".join(_words(number, said) for number, said in messages if said.role in _SYSTEM)
    talk = [(number, said) for number, said in messages if said.role not in _SYSTEM]
    if not talk or talk[-1][1].role != "user":
        raise Refused(400, "bad_request", "The last message must be one of the role `user`.", "messages")
    question, pictures = _question(*talk[-1])
    if not (question.strip() or pictures):
        raise Refused(400, "bad_request", "The last message is empty.", "messages")
    before = () if is_kept else tuple(_message(number, said) for number, said in talk[:-1])
    told = _NOTE.format(words=note) if note.strip() else ""
    return Asked(question if question.strip() else _WORDLESS, told, before, pictures)


def _question(number: int, said: Said) -> tuple[str, tuple[Picture, ...]]:
    parts = said.content if isinstance(said.content, list) else []
    images = [(_where(number, index), part.image_url) for index, part in enumerate(parts) if part.type == _IMAGE]
    if len(images) > MAX_ATTACHMENTS:
        text = f"A message may have {MAX_ATTACHMENTS} images: leave out the others."
        raise _unreadable(images[MAX_ATTACHMENTS][0], text)
    pictures = tuple(picture(image.url if image else "", where) for where, image in images)
    return _words(number, said, image=""), pictures


def _message(number: int, said: Said) -> Message:
    if said.role not in _SPEAKERS or said.tool_calls:
        what = f"a message of the role `{said.role}`" if said.role not in _SPEAKERS else "a call of a tool"
        raise _unreadable(f"messages[{number}]", f"This agent cannot take over {what}: leave it out.")
    image = _EARLIER_IMAGE if said.role == "user" else None
    return Message(_SPEAKERS[said.role], _words(number, said, image=image))


def _words(number: int, said: Said, *, image: str | None = None) -> str:
    """Its text; `image` stands for each image, where there may be some."""
    if isinstance(said.content, str) or said.content is None:
        return said.content or ""
    texts = [_text(_where(number, index), part, image) for index, part in enumerate(said.content)]
    return "\n".join(filter(None, texts))


def _text(where: str, part: Part, image: str | None) -> str:
    if part.type == _IMAGE and image is not None:
        return image
    if part.type not in _TEXTS:
        raise _unreadable(where, f"This agent cannot read parts of the type `{part.type}` here: leave them out.")
    return part.text or part.refusal


def _where(number: int, index: int) -> str:
    return f"messages[{number}].content[{index}]"


def _unsupported(name: str, text: str) -> Refused:
    return Refused(400, "unsupported_parameter", text, name)


def _unreadable(where: str, text: str) -> Refused:
    return Refused(400, "unsupported_content", text, where)
