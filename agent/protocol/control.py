"""Around the turns: how an agent is, what it wants to say unasked, its settings, its state on the move."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from agent.protocol.base import MAX_ID_CHARS, VERSION, Model, Report
from agent.protocol.chat import Attachment


class Mode(StrEnum):
    """Whether a machine's copy of the agent is the one that works. Only an active one takes turns (else 409)."""

    STANDBY = "standby"
    """Started to take over: waits for a snapshot, then for `POST /activate`."""
    ACTIVE = "active"
    SEALED = "sealed"
    """Handed over: nothing is written any more."""


class Health(Report):
    """Answer of `GET /health`. Without the bearer secret the fields after `digest` are left out (null).

    `release` is what its deployer calls it; `version` and `revision` (git) are baked into the image, `digest` is the
    image's, as its engine knows it.
    """

    status: Literal["ok", "draining"]
    agent_name: str
    release: str
    protocol: int = VERSION
    version: str | None = None
    revision: str | None = None
    digest: str | None = None
    model: str | None = None
    running_turns: int | None = None
    next_due: float | None = None
    mode: Mode | None = None
    epoch: int | None = None
    config_version: int | None = None
    trouble: str | None = None
    """What the operator should know, for example that the database was found damaged and set aside."""


class Epoch(Model):
    """Body of `POST /seal`, `/activate` and `/unseal`. Lower than the agent's, it is a late call and refused (409)."""

    epoch: int = Field(ge=0)


class Part(Report):
    """A file of a snapshot."""

    name: str
    size: int
    sha256: str


class Manifest(Report):
    """Answer of `POST /seal`, and the last member of a snapshot: what is in it."""

    schema_version: int
    """Of whoever took it."""
    readable_from: int = 1
    """An agent of this schema or a later one can work with it, also where `schema_version` is beyond its own."""
    release: str
    created: float
    mode: Mode
    epoch: int
    last_turn: str | None
    counts: dict[str, int]
    """Rows by table."""
    parts: tuple[Part, ...] = ()
    """Of the archive, sorted by name; none in the answer of `POST /seal`, which makes no archive."""
    fingerprint: str = ""
    """SHA-256 of the database and of the list of all files (path, kind, mode, size, time in ns, target of a link).

    Where it is the same in the answers of `POST /seal` and of `PUT /snapshot`, the new machine holds what the old one
    had: the old one computes it of what it has, the new one of what it has put in place. Empty: an agent of before.
    """
    mark: str = ""
    """Names the files of this snapshot: `GET /snapshot?base=` leaves out those that are still as they were then."""
    base: str = ""
    """The mark that this snapshot goes with; empty if it is whole.

    Only a machine that holds just that takes it (else 409 `other_base`; then a whole one will do). An agent answers
    with a whole one where it does not know the mark, or any more.
    """


class Letter(Model):
    """A message that nobody asked for, now at least: a reminder, the result of scheduled work."""

    id: int
    chat_id: str
    text: str
    created: float
    files: tuple[Attachment, ...] = ()
    """`GET /files/{chat_id}/{id}` has them."""


class Outbox(Model):
    """Answer of `GET /outbox?after=`, oldest first, a page at a time; and of `POST /tick`."""

    letters: tuple[Letter, ...]
    next_due: float | None


class Acknowledged(Model):
    """Body of `POST /outbox/ack`: all letters up to this one are safe with the caller."""

    up_to: int = Field(ge=0)


class Task(Model):
    """A sub-agent that works for a turn. `task` is the beginning of what it was told to do."""

    id: str
    task: str
    seconds: float
    rounds: int


class Tasks(Model):
    """Answer of `GET /chat/{chat_id}/tasks`, oldest first. `POST /chat/{chat_id}/tasks/{id}/stop` stops one."""

    tasks: tuple[Task, ...]


class Config(Model):
    """Body of `PUT /config`: what changes without a redeploy. What is null stays as it is. `GET` answers what is.

    The highest `version` wins, also over the environment's (`AGENT_CONFIG_VERSION`) after a restart; a lower one than
    the agent has is refused (409), the same is done already. 0 is how the agent was deployed.
    """

    version: int = Field(ge=0)
    name: str | None = Field(default=None, min_length=1, max_length=200)
    job: str | None = Field(default=None, min_length=1)
    model: str | None = Field(default=None, min_length=1, max_length=200)
    tools: bool | None = None
    vision: bool | None = None
    context_tokens: int | None = Field(default=None, ge=256)
    max_tokens: int | None = Field(default=None, ge=16)
    turn_tokens: int | None = Field(default=None, ge=1_000)
    rounds: int | None = Field(default=None, ge=1)


class Spending(Model):
    """What a chat cost on a day (UTC, ISO)."""

    chat_id: str = Field(max_length=MAX_ID_CHARS)
    day: str
    turns: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    tool_calls: int
    milliseconds: int


class Spendings(Model):
    """Answer of `GET /usage?since=&chat_id=`, newest day first."""

    days: tuple[Spending, ...]
