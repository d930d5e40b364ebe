"""What everything on the wire is made of."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

VERSION = 2
"""Sent by both sides in `VERSION_HEADER`. A bot of version N also talks to agents of version N-1: what it sends leaves
out what has its default, and nothing an older agent does not know is needed for what that one can do."""

VERSION_HEADER = "X-Baal-Protocol"
EVENT_STREAM = "text/event-stream"
KEEPALIVE_SECONDS = 15
"""A real event at least this often: the gateway before Aleph's machines drops SSE comments and cuts idle streams."""

MAX_MESSAGE_CHARS = 200_000
MAX_ID_CHARS = 128


class Model(BaseModel):
    """Base of everything on the wire: unknown fields are errors, values do not change."""

    # Built when first needed: an idle agent needs few of them.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Report(Model):
    """Base of what may come from a newer one than reads it: what it does not know it passes over."""

    model_config = ConfigDict(extra="ignore")


class Role(StrEnum):
    """Who speaks to the agent."""

    OWNER = "owner"
    VISITOR = "visitor"


class Person(Model):
    """The person behind a message, as far as the agent may know them."""

    id: str = Field(max_length=MAX_ID_CHARS)
    name: str = Field(default="", max_length=256)
    language: str = Field(default="", max_length=35)


class Refusal(Model):
    """Body of every 4xx and 5xx: a stable `kind` and a text that tells the caller what to do."""

    kind: str
    text: str


class ProtocolError(ValueError):
    """The other side sent something that is not of this protocol. The text says what, without the payload."""
