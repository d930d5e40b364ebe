"""The heartbeat: every so often the agent looks by itself whether there is something to tell its owner."""

from dataclasses import dataclass

from agent.protocol import ChatRequest, Person, Role
from agent.store import Store

# One row. `last`: the last beat, or when the owner first spoke. `running`: the turn of the beat that has not ended.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS heartbeat (
    one INTEGER PRIMARY KEY CHECK (one = 1), chat_id TEXT NOT NULL, person TEXT NOT NULL, last REAL NOT NULL,
    running TEXT NOT NULL DEFAULT '');
"""
NOTHING = "NOTHING"
_INSTRUCTION = (
    "[Not written by a person: you are asked every now and then, so that you can tell your owner something by "
    "yourself. Look at your notes and at what was said. If there is something they want to know now, write it to "
    f"them. If there is not, which is usual, answer with the one word {NOTHING}.]"
)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """When it beats, and in which chat: the one in which the owner spoke last. With no `seconds` between, never."""

    store: Store
    seconds: float

    def __post_init__(self) -> None:
        self.store.prepare(_SCHEMA)

    def heard(self, request: ChatRequest, now: float) -> None:
        """Somebody spoke."""
        if not self.seconds or request.role is not Role.OWNER:
            return
        self.store.execute(
            "INSERT INTO heartbeat (one, chat_id, person, last) VALUES (1, ?1, ?2, ?3) "
            "ON CONFLICT (one) DO UPDATE SET chat_id = ?1, person = ?2",
            (request.chat_id, request.user.model_dump_json() if request.user else "", now),
        )
        self.store.commit()

    def next_due(self) -> float | None:
        """When it beats next, if it does; 0 while it does."""
        row = self.store.execute("SELECT last, running FROM heartbeat").fetchone() if self.seconds else None
        if row is None:
            return None
        return 0 if row[1] else row[0] + self.seconds

    def begin(self, now: float) -> ChatRequest | None:
        """The turn of this beat, if it is time; missed ones are one."""
        due = self.next_due()
        if due is None or not 0 < due <= now:
            return None
        chat_id, person = self.store.execute("SELECT chat_id, person FROM heartbeat").fetchone()
        user = Person.model_validate_json(person) if person else None
        turn_id = f"heartbeat-{int(now)}"
        self.store.execute("UPDATE heartbeat SET last = ?, running = ?", (now, turn_id))
        self.store.commit()
        return ChatRequest(chat_id=chat_id, message=_INSTRUCTION, turn_id=turn_id, role=Role.OWNER, user=user)

    def running(self) -> str:
        """The turn of a beat that has not ended, or was cut off with the agent; empty if there is none."""
        row = self.store.execute("SELECT running FROM heartbeat").fetchone()
        return str(row[0]) if row else ""

    def end(self) -> None:
        """Safe with the store's next commit."""
        self.store.execute("UPDATE heartbeat SET running = ''")


def says_nothing(answer: str) -> bool:
    """Whether the answer to a beat is that there is nothing to tell."""
    return answer.strip().strip("*_`\"'.! ").upper() in {"", NOTHING}
