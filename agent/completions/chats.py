"""Which chat a client's question goes to: one that the agent keeps, or one that is forgotten after the answer."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any
from uuid import uuid4

from agent import log
from agent.completions.asked import Asked
from agent.completions.pictures import Picture
from agent.errors import Refused
from agent.events import EventLog
from agent.files import Files
from agent.protocol import MAX_ID_CHARS, Attachment, ChatRequest, Role
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

    def __init__(self, turns: Turns, store: Store, files: Files) -> None:
        self._turns = turns
        self._files = files
        self._store = store
        self._forgetting: set[asyncio.Task[None]] = set()

    def recover(self) -> None:
        """Forget what was to be forgotten when the agent died; its files in the background."""
        self._erase(f"{THROW_AWAY}*")
        for chat_id in self._files.chats(THROW_AWAY):
            self._in_background(self._forget(chat_id))

    async def close(self) -> None:
        """Wait until what has ended is forgotten."""
        await asyncio.gather(*self._forgetting)

    async def ask_kept(self, chat_id: str, asked: Asked, key: str | None) -> EventLog:
        """Ask in a chat that stays. The same `key` again is the same turn, run again only if it failed."""
        if len(chat_id) > MAX_ID_CHARS or chat_id.startswith(THROW_AWAY):
            raise Refused(400, "bad_request", f"A chat's id has 1 to {MAX_ID_CHARS} characters.", "user")
        if key and len(key) > MAX_ID_CHARS // 2:
            raise Refused(400, "bad_request", f"An Idempotency-Key has at most {MAX_ID_CHARS // 2} characters.")
        # A client sends its note with every question; the chat has it once.
        message = asked.question if self._knows(chat_id, asked.note) else asked.with_note()
        turn_id = f"v1-{key}" if key else None
        attached = await self._receive(chat_id, asked.pictures)
        question = _as_owner(chat_id, message, attached, turn_id=turn_id, retry=bool(key))
        return self._turns.submit(question)

    async def ask_once(self, asked: Asked) -> EventLog:
        """Ask in a chat that holds what the client says was said before, and is forgotten when the turn has ended."""
        chat_id = THROW_AWAY + uuid4().hex
        message = asked.with_note()
        try:
            attached = await self._receive(chat_id, asked.pictures)
            events = self._turns.submit(_as_owner(chat_id, message, attached))
        except Refused:
            self._in_background(self._forget(chat_id))
            raise
        # Comes before the question: that is written when the turn begins to run, and it has not had a chance yet.
        self._store.add_messages(f"{events.turn_id} before", chat_id, asked.before)
        self._in_background(self._forget_after(events, chat_id))
        return events

    def leave(self, events: EventLog) -> None:
        """Nobody waits for this answer any more: in a chat that will be forgotten it is stopped."""
        chat_id = self._turns.chat_of(events.turn_id)
        if chat_id and chat_id.startswith(THROW_AWAY):
            self._turns.stop(chat_id)

    async def _receive(self, chat_id: str, pictures: Sequence[Picture]) -> tuple[Attachment, ...]:
        files = self._files.of(Role.OWNER, chat_id)
        different = {each.id: each for each in pictures}
        sent = [await files.receive(key, each.name, each.media_type, each.chunks()) for key, each in different.items()]
        return tuple(sent)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)

    def _knows(self, chat_id: str, note: str) -> bool:
        up_to, _ = self._store.find_summary(chat_id)
        query = "SELECT 1 FROM message WHERE chat_id = ? AND id > ? AND instr(text, ?) LIMIT 1"
        return not note or self._store.execute(query, (chat_id, up_to, note)).fetchone() is not None

    async def _forget_after(self, events: EventLog, chat_id: str) -> None:
        await events.reply()
        await self._forget(chat_id)

    async def _forget(self, chat_id: str) -> None:
        try:
            self._erase(chat_id)
            await self._files.erase(chat_id)
        except Exception as error:  # noqa: BLE001 - the next start forgets it
            log.error("chat not forgotten", error, chat=chat_id)

    def _erase(self, pattern: str) -> None:
        for statement in _ERASE:
            self._store.execute(statement, (pattern,))
        self._store.commit()


def _as_owner(chat_id: str, message: str, attached: Sequence[Attachment], **fields: Any) -> ChatRequest:
    return ChatRequest(chat_id=chat_id, message=message, attachments=tuple(attached), role=Role.OWNER, **fields)
