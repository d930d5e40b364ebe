"""Notes that outlive conversations: an owner's about everything, a visitor's in their own chat alone."""

from dataclasses import dataclass

from agent.protocol import Role
from agent.store import Store
from agent.toolbox import ToolFailed

MAX_NOTES = 100
MAX_CHARS = 500
MAX_ALL_CHARS = 6_000
"""Of all notes together, since each question brings them: some 2,000 tokens of the smallest context, 16,000."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The notes of one scope."""

    store: Store
    scope: str

    @classmethod
    def of(cls, store: Store, role: Role, chat_id: str) -> "Memory":
        """What who speaks in this chat may read and write."""
        return cls(store, "owner" if role is Role.OWNER else f"chat {chat_id}")

    def add(self, note: str) -> int:
        """Keep a note; its number. `ToolFailed` if it is none or there are too many."""
        text = " ".join(note.split())
        if not text or len(text) > MAX_CHARS:
            raise ToolFailed(f"A note has 1 to {MAX_CHARS} characters.")
        notes = self.store.notes(self.scope)
        known = next((number for number, kept in notes if kept == text), 0)
        if known:
            return known
        if len(notes) >= MAX_NOTES or sum(len(kept) for _, kept in notes) + len(text) > MAX_ALL_CHARS:
            raise ToolFailed("There is no room for more notes. Forget what is no longer true first, or shorten some.")
        return self.store.add_note(self.scope, text)

    def remove(self, number: int) -> bool:
        """Forget a note of this scope; whether there was one."""
        return self.store.drop_note(self.scope, number)

    def words(self) -> str:
        """All of them, for the model; empty if there are none."""
        return "\n".join(f"{number}. {text}" for number, text in self.store.notes(self.scope))
