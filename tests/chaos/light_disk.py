"""What a light machine keeps, and what can be wrong with all of them. It is gone with the machine."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.protocol import Event, Final, from_json, to_json


@dataclass
class Faults:
    """Of all light machines and their agents at once; switched while they work."""

    refuses: float = 0
    """The share of calls that are cut without an answer."""
    hangs_up: bool = False
    """In the middle of every snapshot, taken or restored."""
    is_full: bool = False
    think_seconds: float = 0
    ssh_drops: bool = False
    pull_fails: bool = False


@dataclass
class Kept:
    """A turn, as an agent keeps it: its events are encoded, and none has a number up to that of an earlier run."""

    chat_id: str
    message: str
    lines: list[str] = field(default_factory=list)
    seq: int = 0
    """The number of the newest event."""

    @property
    def is_over(self) -> bool:
        return bool(self.lines) and isinstance(from_json(self.lines[-1]), Final)

    @property
    def is_answered(self) -> bool:
        return bool(self.lines) and from_json(self.lines[-1]).type == "done"

    def say(self, event: Event) -> None:
        self.lines.append(to_json(event))
        self.seq = event.seq


@dataclass
class Disk:
    """The folder is for what the real agent keeps beside its database."""

    folder: Path
    turns: dict[str, Kept] = field(default_factory=dict)
    """By id, in the order of their beginning."""
    history: list[str] = field(default_factory=list)
    """Ids of the turns whose messages the model is shown, in this order."""
    config: dict[str, Any] = field(default_factory=dict)

    def dump(self) -> bytes:
        """The database, as a snapshot has it."""
        turns = {turn_id: asdict(kept) for turn_id, kept in self.turns.items()}
        return json.dumps({"turns": turns, "history": self.history, "config": self.config}).encode()

    def load(self, database: bytes) -> None:
        """Instead of what is here."""
        held = json.loads(database)
        self.turns = {turn_id: Kept(**kept) for turn_id, kept in held["turns"].items()}
        self.history, self.config = held["history"], held["config"]

    def counts(self) -> dict[str, int]:
        """Rows by table."""
        events = sum(len(kept.lines) for kept in self.turns.values())
        return {"event": events, "message": len(self.history), "turn": len(self.turns)}

    def last_turn(self) -> str | None:
        return next(reversed(self.turns), None)
