"""Which chat a client's question goes to: one that the agent keeps, or one that is forgotten after the answer."""

import asyncio
from uuid import uuid4

from agent import log
from agent.completions.asked import Asked
from agent.errors import Refused
from agent.events import EventLog
from agent.protocol import MAX_ID_CHARS, ChatRequest, Role
from agent.store import Store
from agent.turns import Turns
from agent.usage import THROW_AWAY

_ERASE = (
    "DELETE FROM event WHERE turn_id IN (SELECT id FROM turn WHERE chat_id GLOB ?)",
    "DELETE FROM turn WHERE chat_id GLOB ?",
    "DELETE FROM message WHERE chat_id GLOB ?",
    "DELETE FROM summary WHERE chat_id GLOB ?",
)


class Chats:
    """Asks for turns as the owner: whoever has the agent's secret is."""

    def __init__(self, turns: Turns, store: Store) -> None:
        self._turns = turns
        self._store = store
        self._forgetting: set[asyncio.Task[None]] = set()

    def recover(self) -> None:
        """Forget what was to be forgotten when the agent died."""
        self._erase(f"{THROW_AWAY}*")

    async def close(self) -> None:
        """Wait until what has ended is forgotten."""
        await asyncio.gather(*self._forgetting)

    def ask_kept(self, chat_id: str, asked: Asked, key: str | None) -> EventLog:
        """Ask in a chat that stays. The same `key` again is the same turn, run again only if it failed."""
        if len(chat_id) > MAX_ID_CHARS or chat_id.startswith(THROW_AWAY):
            raise Refused(400, "bad_request", f"A chat's id has 1 to {MAX_ID_CHARS} characters.", "user")
        if key and len(key) > MAX_ID_CHARS // 2:
            raise Refused(400, "bad_request", f"An Idempotency-Key has at most {MAX_ID_CHARS // 2} characters.")
        # A client sends its note with every question; the chat has it once.
        message = asked.question if self._knows(chat_id, asked.note) else asked.with_note()
        turn_id = f"v1-{key}" if key else None
        request = ChatRequest(chat_id=chat_id, message=message, role=Role.OWNER, turn_id=turn_id, retry=bool(key))
        return self._turns.submit(request)

    def ask_once(self, asked: Asked) -> EventLog:
        """Ask in a chat that holds what the client says was said before, and is forgotten when the turn has ended."""
        chat_id = THROW_AWAY + uuid4().hex
        events = self._turns.submit(ChatRequest(chat_id=chat_id, message=asked.with_note(), role=Role.OWNER))
        # Comes before the question: that is written when the turn begins to run, and it has not had a chance yet.
        self._store.add_messages(f"{events.turn_id} before", chat_id, asked.before)
        forgetting = asyncio.create_task(self._forget_after(events, chat_id))
        self._forgetting.add(forgetting)
        forgetting.add_done_callback(self._forgetting.discard)
        return events

    def leave(self, events: EventLog) -> None:
        """Nobody waits for this answer any more: in a chat that will be forgotten it is stopped."""
        chat_id = self._turns.chat_of(events.turn_id)
        if chat_id and chat_id.startswith(THROW_AWAY):
            self._turns.stop(chat_id)

    def _knows(self, chat_id: str, note: str) -> bool:
        up_to, _ = self._store.find_summary(chat_id)
        query = "SELECT 1 FROM message WHERE chat_id = ? AND id > ? AND instr(text, ?) LIMIT 1"
        return not note or self._store.execute(query, (chat_id, up_to, note)).fetchone() is not None

    async def _forget_after(self, events: EventLog, chat_id: str) -> None:
        await events.reply()
        try:
            self._erase(chat_id)
        except Exception as error:  # noqa: BLE001 - the next start forgets it
            log.error("chat not forgotten", error, chat=chat_id)

    def _erase(self, pattern: str) -> None:
        for statement in _ERASE:
            self._store.execute(statement, (pattern,))
        self._store.commit()
