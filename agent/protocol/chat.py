"""Asking an agent: the request, and what it answers to a client that wants no stream."""

from pydantic import Field

from agent.protocol.base import MAX_ID_CHARS, MAX_MESSAGE_CHARS, Model, Person, Role

MAX_ATTACHMENTS = 10
MAX_FILE_BYTES = 50_000_000
"""What Telegram lets a bot send. It lets one receive 20 MB."""
MAX_NAME_CHARS = 255


class Attachment(Model):
    """A file that the agent has stored before: answer of `PUT /files/{chat_id}/{id}`.

    That call's body is the file; its query is `name` (as the person calls it), `role` (whose folder it goes to) and
    `media_type`. Repeated with the same id it replaces the file. `path` is where tools find it.
    """

    id: str = Field(min_length=1, max_length=MAX_ID_CHARS, pattern="^[A-Za-z0-9_-]+$")
    name: str = Field(max_length=MAX_NAME_CHARS)
    media_type: str = Field(default="application/octet-stream", max_length=128)
    size: int = Field(ge=0)
    path: str = ""


class ChatRequest(Model):
    """Body of `POST /chat`. Only `message` and `chat_id` are required; without a `turn_id` the agent mints one.

    `after` is the last event number already seen (0: all). `retry` runs a turn again that ended `interrupted` or in a
    retryable error; the numbers of its events go on from where they stopped.
    """

    chat_id: str = Field(min_length=1, max_length=MAX_ID_CHARS)
    message: str = Field(min_length=1, max_length=MAX_MESSAGE_CHARS)
    attachments: tuple[Attachment, ...] = Field(default=(), max_length=MAX_ATTACHMENTS)
    turn_id: str | None = Field(default=None, min_length=1, max_length=MAX_ID_CHARS)
    role: Role = Role.VISITOR
    user: Person | None = None
    after: int = Field(default=0, ge=0)
    retry: bool = False


class ChatReply(Model):
    """Answer of `POST /chat` to a client that did not ask for an event stream."""

    response: str
    turn_id: str
