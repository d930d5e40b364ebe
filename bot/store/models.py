"""The bot's tables: the truth about users, agents, machines and messages. Times are Unix seconds (float, UTC)."""

import json
import secrets
import string
import time
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Enum,
    Index,
    Integer,
    UniqueConstraint,
    bindparam,
    text,
)
from sqlmodel import Field, SQLModel

LINK_ALPHABET = string.ascii_letters + string.digits


def new_link() -> str:
    """A link id nobody guesses: 12 base62 characters, 71 bits."""
    return "".join(secrets.choice(LINK_ALPHABET) for _ in range(12))


def new_machine_id() -> str:
    """Our own name for a machine, fixed before anything is paid for."""
    return f"m-{secrets.token_hex(8)}"


def telegram_id(*, primary_key: bool = False, index: bool = False) -> Column[int]:
    """A number that somebody else gives out."""
    # Telegram ids pass 2**31. Also for other numbers that somebody else gives out.
    return Column(BigInteger, primary_key=primary_key, index=index, autoincrement=False, nullable=False)


def own_id() -> Column[int]:
    """A number that counts up by itself."""
    # Big, because people can make any number come back in a button. Only an INTEGER counts by itself on SQLite.
    return Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


def word_column(words: type[StrEnum], *, index: bool = False) -> Column[StrEnum]:
    """One of these words."""
    # As text, not as a Postgres enum type: a new word then needs no migration.
    stored = Enum(words, native_enum=False, length=16, values_callable=lambda members: [word.value for word in members])
    return Column(stored, nullable=False, index=index)


def open_rows(name: str, column: str, condition: str) -> Index:
    """An index of the few rows that something is still to be done with."""
    return Index(name, column, sqlite_where=text(condition), postgresql_where=text(condition))


def is_one_of(column: Any, *words: StrEnum) -> ColumnElement[bool]:
    """It is one of these, which are written out: of parameters no database knows that an index of `open_rows` fits."""
    has_many = len(words) > 1
    written = bindparam(
        None, list(words) if has_many else words[0], type_=column.type, expanding=has_many, literal_execute=True
    )
    is_one: ColumnElement[bool] = column.in_(written) if has_many else column == written
    return is_one


def only_one(name: str, column: str, condition: str) -> Index:
    """Of the rows that meet the condition there is one at a time."""
    return Index(name, column, unique=True, sqlite_where=text(condition), postgresql_where=text(condition))


class Wanted(StrEnum):
    """What is wanted of an agent."""

    ON = "on"
    ASLEEP = "asleep"
    """Kept as a snapshot, without a machine, until somebody needs it."""
    DELETED = "deleted"


class Phase(StrEnum):
    """What was last observed of an agent, in the order of a deployment."""

    WAITING = "waiting"
    RENTING = "renting"
    REACHING = "reaching"
    PREPARING = "preparing"
    STARTING = "starting"
    RESTORING = "restoring"
    PROVING = "proving"
    RUNNING = "running"
    UPDATING = "updating"
    """It works, while the machine that follows is made ready."""
    DOZING = "dozing"
    """Its state is being brought to safety; then its machine is given back."""
    ASLEEP = "asleep"
    FAILED = "failed"
    DELETING = "deleting"
    GONE = "gone"


SERVING = (Phase.RUNNING, Phase.UPDATING)
"""Phases in which an agent takes turns."""


class MachineState(StrEnum):
    """A machine's life in our books. It leaves them (`gone`) only when the provider no longer lists it."""

    INTENT = "intent"
    RENTED = "rented"
    READY = "ready"
    """Prepared, of the pool, and nobody's yet."""
    ACTIVE = "active"
    """An agent works on it: the row of the agent names it."""
    QUARANTINED = "quarantined"
    """It failed, and is kept a while for those who want to look."""
    DOOMED = "doomed"
    GONE = "gone"


class Purpose(StrEnum):
    """Why a machine was rented."""

    DEPLOY = "deploy"
    UPDATE = "update"
    HEAL = "heal"
    WAKE = "wake"
    POOL = "pool"


class RentalState(StrEnum):
    """How far a paid order is. What was given up is never ordered again; it leaves the books when it costs nothing."""

    SIGNED = "signed"
    PAID = "paid"
    GIVEN_UP = "given-up"
    GONE = "gone"


class UpdateState(StrEnum):
    """An update from Telegram: kept until it is handled."""

    NEW = "new"
    DONE = "done"
    FAILED = "failed"
    """Our fault; kept whole, the person can have it handled again."""


class TurnState(StrEnum):
    """A message for an agent: from accepted to answered."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class LetterState(StrEnum):
    """A letter of an agent: from taken in to delivered."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DROPPED = "dropped"
    """Telegram refuses it for good."""


class DraftStep(StrEnum):
    """Where a person is in the wizard."""

    NAME = "name"
    JOB = "job"
    MODEL = "model"
    CHECK = "check"


class User(SQLModel, table=True):
    """A person who wrote to the bot."""

    id: int = Field(sa_column=telegram_id(primary_key=True))
    name: str = ""
    language: str = ""
    sealed_key: str | None = None
    """Their LibertAI key, encrypted."""
    key_hint: str | None = None
    """Its last four characters, to be shown."""
    created_at: float = Field(default_factory=time.time)


class Agent(SQLModel, table=True):
    """An agent: what is wanted of it, and what was observed.

    `generation` counts the wishes; a wish is fulfilled when `observed_generation` has caught up. `attempt` counts the
    tries at one wish, `next_at` holds back the next. `lease_owner` may work on it until `lease_until`.
    """

    id: int | None = Field(default=None, sa_column=own_id())
    owner_id: int = Field(sa_column=telegram_id(index=True))
    link: str = Field(default_factory=new_link, unique=True, index=True)
    name: str
    job: str
    model: str
    sealed_secret: str
    release: str
    """What it shall run; `Machine.release` is what it runs."""

    wanted: Wanted = Field(default=Wanted.ON, sa_column=word_column(Wanted))
    generation: int = 1
    observed_generation: int = 0
    phase: Phase = Field(default=Phase.WAITING, sa_column=word_column(Phase))
    attempt: int = 1
    next_at: float = 0
    error: str | None = None
    """Key of the text for its owner: why the last attempt failed."""
    error_code: str | None = None
    """Four characters that owner and log share."""
    deploy_started_at: float = Field(default_factory=time.time)
    ready_at: float | None = None
    """When it first proved to work. From then on its machine holds a conversation that must not be lost."""
    lease_owner: str | None = None
    lease_until: float = 0

    machine_id: str | None = None
    """Where it works: what its turns go to. Changes in the one transaction that switches from one to the next."""
    epoch: int = 0
    """The highest that was ever given to one of its machines: what is told with a lower one comes too late."""
    restore_id: str | None = None
    """The snapshot that it is to go back to."""
    idle_minutes: int | None = None
    """So long nobody writes to it before it falls asleep. 0: never. None: as the operator says."""

    card_chat_id: int | None = Field(default=None, sa_type=BigInteger)
    card_message_id: int | None = Field(default=None, sa_type=BigInteger)
    card_open: bool = False
    """The card has not yet shown how the wish ended."""
    created_at: float = Field(default_factory=time.time)


class AgentField(StrEnum):
    """What an owner can change of an agent while it runs: the columns of its row."""

    NAME = "name"
    JOB = "job"
    MODEL = "model"


class Configuration(SQLModel, table=True):
    """How often an agent's name, job or model was changed since it was made, and which of these it has confirmed."""

    agent_id: int = Field(sa_column=telegram_id(primary_key=True))
    version: int = 0
    observed_version: int = 0


class Edit(SQLModel, table=True):
    """A question to an owner about an agent: one per person. Answered, it stays, so that no update answers it twice."""

    user_id: int = Field(sa_column=telegram_id(primary_key=True))
    chat_id: int = Field(sa_type=BigInteger)
    message_id: int = Field(sa_type=BigInteger)
    """The question; then the card that shows the answer."""
    agent_id: int = Field(sa_type=BigInteger)
    field: AgentField = Field(sa_column=word_column(AgentField))
    is_open: bool = True
    before: str = ""
    """What it was, should the answer turn out to be none."""
    asked_at: float = 0
    answered_at: float = 0
    last_update_id: int = Field(default=0, sa_type=BigInteger)


class Machine(SQLModel, table=True):
    """A machine that is or was rented. Rows stay, as tombstones."""

    id: str = Field(default_factory=new_machine_id, primary_key=True)
    agent_id: int = Field(sa_type=BigInteger, index=True)
    """0: of the pool. From the moment that it is some agent's it never is another's."""
    provider: str
    state: MachineState = Field(default=MachineState.INTENT, sa_column=word_column(MachineState, index=True))
    purpose: Purpose = Field(default=Purpose.DEPLOY, sa_column=word_column(Purpose))
    release: str = ""
    """What was started on it, or (of the pool) pulled to it."""
    epoch: int = 0
    """In which its agent works there, or is to."""
    url: str | None = None
    """Where its agent answers."""
    credits_per_hour: float = 0
    """Its price, as it was when it was rented."""
    claimed_at: float | None = None
    """When an agent took it out of the pool; until then the pool paid for it."""
    created_at: float = Field(default_factory=time.time)
    failed_at: float | None = None
    """When it went into quarantine."""
    gone_at: float | None = None


class Keepsake(SQLModel, table=True):
    """Something secret that was made once and is used ever after: a key. Encrypted."""

    id: str = Field(primary_key=True)
    sealed: str
    created_at: float = Field(default_factory=time.time)


class Rental(SQLModel, table=True):
    """An order that costs money: a machine has one at a time, and another when one failed.

    It stands here before anybody hears of it, with the very bytes that are sent: sent again, they order nothing new.
    """

    reference: str = Field(primary_key=True)
    """What the provider calls it."""
    machine_id: str = Field(index=True)
    order: str
    """The signed message, as JSON."""
    node: str
    """Whose machine it is to be on: the provider's id, and its URL."""
    node_url: str
    state: RentalState = Field(default=RentalState.SIGNED, sa_column=word_column(RentalState, index=True))
    sent_at: float | None = None
    """Before the first time it is sent. None: nobody has ever heard of it."""
    ended_at: float | None = None
    reason: str = ""
    """Why it was given up."""
    host_key: str | None = None
    """Of its SSH server, as it was at the first contact (OpenSSH's format)."""
    created_at: float = Field(default_factory=time.time)


class Berth(SQLModel, table=True):
    """A machine's place on a server of the operator's own: it stands here before anything happens there."""

    __table_args__ = (UniqueConstraint("server", "port"),)

    machine_id: str = Field(primary_key=True)
    server: str = Field(index=True)
    """`host:port` of its SSH server."""
    port: int
    """The server's port on which the agent is published."""
    created_at: float = Field(default_factory=time.time)


class HostKey(SQLModel, table=True):
    """The key of a server of the operator's own, as it was at the first contact (OpenSSH's format)."""

    __tablename__ = "host_key"

    server: str = Field(primary_key=True)
    """`host:port` of its SSH server."""
    key: str
    created_at: float = Field(default_factory=time.time)


class Draft(SQLModel, table=True):
    """A wizard in the middle: one per person. Expires after a day."""

    user_id: int = Field(sa_column=telegram_id(primary_key=True))
    chat_id: int = Field(sa_type=BigInteger)
    step: DraftStep = Field(default=DraftStep.NAME, sa_column=word_column(DraftStep))
    name: str = ""
    job: str = ""
    job_at: float = 0
    """When the last part of the job was sent: the rest of a split paste follows at once."""
    model: str = ""
    link: str = Field(default_factory=new_link)
    """The link of the agent to be: pressing Deploy twice makes one agent."""
    message_id: int | None = Field(default=None, sa_type=BigInteger)
    """The wizard's one message."""
    is_active: bool = True
    """Plain messages go to it; not after its person has turned to an agent."""
    last_update_id: int = Field(default=0, sa_type=BigInteger)
    """The update that changed it last: the same update never changes it twice."""
    updated_at: float = Field(default_factory=time.time)


class Chat(SQLModel, table=True):
    """What a chat is doing: whom its plain messages go to, and whether the next one is a key."""

    id: int = Field(sa_column=telegram_id(primary_key=True))
    agent_id: int | None = Field(default=None, sa_type=BigInteger)
    key_wanted_until: float = 0


class Update(SQLModel, table=True):
    """The inbox: an update as Telegram sent it (keys cut out and sealed), stored before it is acknowledged."""

    __tablename__ = "inbox"
    __table_args__ = (open_rows("ix_inbox_open", "update_id", "state = 'new'"),)

    update_id: int = Field(sa_column=telegram_id(primary_key=True))
    chat_id: int | None = Field(default=None, sa_type=BigInteger)
    payload: str
    sealed_key: str | None = None
    state: UpdateState = Field(default=UpdateState.NEW, sa_column=word_column(UpdateState))
    received_at: float = Field(default_factory=time.time)


class Turn(SQLModel, table=True):
    """One message to an agent and how far its answer got. The id is the same on the agent: asking twice is one run."""

    __table_args__ = (
        open_rows("ix_turn_open", "chat_id", "state IN ('queued', 'running')"),
        Index("ix_turn_chat", "chat_id", "created_at"),
        Index("ix_turn_agent", "agent_id", "created_at"),
    )

    id: str = Field(primary_key=True)
    agent_id: int = Field(sa_type=BigInteger, index=True)
    chat_id: int = Field(sa_type=BigInteger)
    user_id: int = Field(sa_type=BigInteger)
    message_id: int = Field(sa_type=BigInteger)
    """The person's message that asks."""
    message: str
    sequence: int = Field(sa_type=BigInteger)
    """Order within the chat: the update id."""
    state: TurnState = Field(default=TurnState.QUEUED, sa_column=word_column(TurnState))
    retry: bool = False
    """Run it again although it has ended."""
    seen: int = 0
    """With `retry`: the last event number of the run before."""
    answer_ids: str = ""
    """Telegram message ids of the answer so far, joined by commas."""
    charged_day: str | None = None
    """The day whose free messages it counts to."""
    starts_over: bool = False
    """The agent forgets the conversation first."""
    created_at: float = Field(default_factory=time.time)


class TurnFile(SQLModel, table=True):
    """A file that came with a person's message: where Telegram has it, and what the agent called it once it had it."""

    __tablename__ = "turn_file"

    update_id: int = Field(sa_column=telegram_id(primary_key=True))
    """The update that brought it: the same update never brings it twice."""
    turn_id: str = Field(index=True)
    album: str = Field(default="", index=True)
    """Telegram's id of the group of messages that it is one of."""
    file_id: str = ""
    """Empty: only the words of this part of an album are wanted, or the turn was answered."""
    key: str = ""
    """Its id on the agent."""
    name: str = ""
    media_type: str = ""
    size: int = Field(default=0, sa_type=BigInteger)
    stored: str = ""
    """The agent's answer (`protocol.Attachment` as JSON), once it has the file."""
    added_at: float = Field(default_factory=time.time)


class Alarm(SQLModel, table=True):
    """When an agent wants to be called (Unix time), if it does. A table of its own: turns and calls write it."""

    agent_id: int = Field(sa_column=telegram_id(primary_key=True))
    at: float


class Letter(SQLModel, table=True):
    """What an agent says unasked. Its number is the agent's own, which never gives it out again."""

    __table_args__ = (open_rows("ix_letter_open", "chat_id", "state = 'waiting'"),)

    agent_id: int = Field(sa_column=telegram_id(primary_key=True))
    id: int = Field(sa_column=telegram_id(primary_key=True))
    chat_id: int = Field(sa_type=BigInteger)
    text: str
    files: list[Any] = Field(sa_column=Column(JSON, nullable=False))
    """`agent.protocol.Attachment` each."""
    sent: int = 0
    """How many of its messages are in the chat."""
    state: LetterState = Field(default=LetterState.WAITING, sa_column=word_column(LetterState))
    received_at: float = Field(default_factory=time.time)


class Offer(SQLModel, table=True):
    """Ready answers under the end of a turn, for the person of that turn. Rows stay: an old button is told from none.

    Chat, person, agent and sequence are the turn's.
    """

    turn_id: str = Field(primary_key=True)
    chat_id: int = Field(sa_type=BigInteger, index=True)
    user_id: int = Field(sa_type=BigInteger)
    agent_id: int = Field(sa_type=BigInteger)
    sequence: int = Field(sa_type=BigInteger)
    options: str
    """In full, as JSON; a button says the index."""
    chosen: int | None = None
    answered_by: str | None = None
    """The turn that has the answer, or (nothing chosen) with which the person went on."""

    def option(self, index: int | None) -> str | None:
        """What the button with this index stands for; None if there is no such option."""
        options: list[str] = json.loads(self.options)
        return options[index] if index is not None and index < len(options) else None


class DailyUsage(SQLModel, table=True):
    """Free messages of a person on a day (UTC, ISO)."""

    user_id: int = Field(sa_column=telegram_id(primary_key=True))
    day: str = Field(primary_key=True)
    messages: int = 0


class Kept(SQLModel, table=True):
    """Last good answers of services that may be away, as JSON."""

    name: str = Field(primary_key=True)
    value: str
    at: float = Field(default_factory=time.time)
