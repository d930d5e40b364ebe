"""Tables of what happens to agents over time: snapshots, rollouts, who did what, what people are to be told."""

import secrets
import time
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Column
from sqlmodel import Field, SQLModel

from bot.store.models import only_one, open_rows, own_id, telegram_id, word_column


def new_snapshot_id() -> str:
    """Of a snapshot: fixed before anything of it is written anywhere."""
    return f"s-{secrets.token_hex(8)}"


class Reason(StrEnum):
    """Why a snapshot was taken."""

    SCHEDULE = "schedule"
    UPDATE = "update"
    HEAL = "heal"
    SLEEP = "sleep"
    DELETE = "delete"
    IMPORT = "import"


class SnapshotState(StrEnum):
    """How far a snapshot is."""

    WRITING = "writing"
    WHOLE = "whole"
    DROPPED = "dropped"
    """To be removed from where it is stored; then the row goes too."""


class Snapshot(SQLModel, table=True):
    """All that an agent was at a moment, compressed and encrypted, outside of any machine."""

    id: str = Field(default_factory=new_snapshot_id, primary_key=True)
    agent_id: int = Field(sa_type=BigInteger, index=True)
    reason: Reason = Field(sa_column=word_column(Reason))
    state: SnapshotState = Field(default=SnapshotState.WRITING, sa_column=word_column(SnapshotState))
    path: str = ""
    """Where it is stored, below the store's own URL."""
    size: int = Field(default=0, sa_type=BigInteger)
    """Bytes stored."""
    plain_size: int = Field(default=0, sa_type=BigInteger)
    """Bytes of the archive."""
    sha256: str = ""
    """Of the archive."""
    manifest: str = ""
    """`protocol.Manifest` as JSON."""
    last_turn: str | None = None
    answered: int = 0
    """Messages that the agent had answered when this was begun: all of them are in it."""
    created_at: float = Field(default_factory=time.time)
    keep_until: float | None = None
    """Of an agent that was deleted: then it goes."""


class RolloutState(StrEnum):
    """How far a rollout is."""

    CANARY = "canary"
    SOAKING = "soaking"
    ROLLING = "rolling"
    PAUSED = "paused"
    DONE = "done"
    ABORTED = "aborted"


class ItemState(StrEnum):
    """How far an agent is in a rollout."""

    WAITING = "waiting"
    UPDATING = "updating"
    DONE = "done"
    FAILED = "failed"
    ASLEEP = "asleep"
    """It wakes with the new release."""
    SKIPPED = "skipped"


class Rollout(SQLModel, table=True):
    """A release on its way to all agents. One at a time is open."""

    __table_args__ = (only_one("ix_rollout_open", "is_open", "is_open"),)

    id: int | None = Field(default=None, sa_column=own_id())
    release: str
    """By digest, looked up once."""
    previous: str
    """What agents that are made meanwhile run, and what `undo` goes back to where nothing else is known."""
    state: RolloutState = Field(default=RolloutState.CANARY, sa_column=word_column(RolloutState))
    is_open: bool = True
    plan: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """Canaries, soak, batch, surge, deadlines: as decided at the start, and changed since."""
    reason: str = ""
    """Why it is paused, or was aborted."""
    by: str = ""
    """Who started it."""
    undoes: int | None = None
    """The rollout that this one takes back."""
    started_at: float = Field(default_factory=time.time)
    changed_at: float = Field(default_factory=time.time)
    ended_at: float | None = None


class RolloutItem(SQLModel, table=True):
    """One agent in a rollout."""

    __tablename__ = "rollout_item"

    rollout_id: int = Field(sa_column=telegram_id(primary_key=True))
    agent_id: int = Field(sa_column=telegram_id(primary_key=True))
    previous: str
    """What it ran before."""
    is_canary: bool = False
    state: ItemState = Field(default=ItemState.WAITING, sa_column=word_column(ItemState))
    reason: str = ""
    begun_at: float | None = None
    ended_at: float | None = None


class Audit(SQLModel, table=True):
    """Who did what, when: rows are only added."""

    id: int | None = Field(default=None, sa_column=own_id())
    at: float = Field(default_factory=time.time)
    who: str
    """A Telegram id, the operator's login, or the part of the bot that decided."""
    what: str
    agent_id: int | None = Field(default=None, sa_type=BigInteger)
    details: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class Notice(SQLModel, table=True):
    """Something that a person is to be told once. The id says what it is about: the same is told once."""

    __table_args__ = (open_rows("ix_notice_open", "created_at", "told_at IS NULL"),)

    id: str = Field(primary_key=True)
    user_id: int = Field(sa_type=BigInteger)
    """0: the operator, whoever that is."""
    text: str
    """Key of the text."""
    facts: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: float = Field(default_factory=time.time)
    told_at: float | None = None


class Import(SQLModel, table=True):
    """A file that a person wants to be the state of one of their agents: first asked for, then there. One each."""

    user_id: int = Field(sa_column=telegram_id(primary_key=True))
    asked_at: float = 0
    """Since when their next file is it; 0: no file is waited for."""
    file_id: str = ""
    """Telegram's; empty: there is none."""
    created: float = 0
    """What it says of itself: when it was made, and how many messages it holds."""
    messages: int = 0


class StartOver(SQLModel, table=True):
    """A conversation that its agent forgets before the next message of this chat."""

    __tablename__ = "start_over"

    chat_id: int = Field(sa_column=telegram_id(primary_key=True))
    agent_id: int = Field(sa_column=telegram_id(primary_key=True))
