"""Updates between being stored and being handled: rows of `inbox`. Keys in them are cut out before they are stored."""

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import SecretStr
from sqlalchemy import delete, func, update
from sqlmodel import col, select
from telegram import Message
from telegram import Update as TelegramUpdate
from telegram.ext import ExtBot

from bot.accounts.chats import Chats
from bot.log import KEY
from bot.store.database import Database
from bot.store.models import Update, UpdateState
from bot.store.vault import Vault

CUT = "***"
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""NUL, which Postgres refuses in a text, and halves of characters, which no UTF-8 has."""
KEPT_SECONDS = 3 * 86_400
"""Telegram repeats an update for a day at most; after three, its number need not be remembered."""


class Inbox:
    """Stores, hands out, ticks off."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        chats: Chats,
        bot: ExtBot[Any] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._vault = vault
        self._chats = chats
        self._bot = bot
        self._clock = clock

    async def store(self, updates: Sequence[TelegramUpdate]) -> list[TelegramUpdate]:
        """Keep a batch in one transaction; those that were not known yet, as they were stored."""
        if not updates:
            return []
        rows = [await self._row(incoming) for incoming in updates]
        async with self._database.transaction() as transaction:
            insert = self._database.insert_new(Update, [row.model_dump() for row in rows])
            stored = await transaction.execute(insert.returning(col(Update.update_id)))
            new = {row.update_id for row in stored}
        return [self._load(row) for row in rows if row.update_id in new]

    async def waiting(self) -> list[TelegramUpdate]:
        """All that is not handled yet, in Telegram's order."""
        async with self._database.session() as session:
            query = select(Update).where(col(Update.state) == UpdateState.NEW).order_by(col(Update.update_id))
            return [self._load(row) for row in await session.exec(query)]

    async def next_offset(self) -> int | None:
        """What to ask Telegram for: the number after the highest that is stored."""
        async with self._database.session() as session:
            highest = (await session.exec(select(func.max(Update.update_id)))).one()
        return None if highest is None else highest + 1

    async def key(self, update_id: int) -> SecretStr | None:
        """The key that was cut out of an update."""
        async with self._database.session() as session:
            row = await session.get(Update, update_id)
        return self._vault.open(row.sealed_key) if row and row.sealed_key else None

    async def done(self, update_id: int) -> None:
        """It is handled: only its number is kept."""
        await self._set(update_id, state=UpdateState.DONE, payload="", sealed_key=None)

    async def failed(self, update_id: int) -> None:
        """Handling it broke: it is kept, for the person to have it handled again."""
        await self._set(update_id, state=UpdateState.FAILED)

    async def again(self, update_id: int, chat_id: int) -> TelegramUpdate | None:
        """Take up a failed update of this chat once more; None if it is not one."""
        async with self._database.session() as session:
            # Pressed twice at once, it is handled once.
            row = await session.get(Update, update_id, with_for_update=True)
            if row is None or row.chat_id != chat_id or row.state is not UpdateState.FAILED:
                return None
            row.state = UpdateState.NEW
        return self._load(row)

    async def prune(self) -> None:
        """Forget the numbers of old updates, but never the highest."""
        async with self._database.transaction() as transaction:
            highest = select(func.max(Update.update_id)).scalar_subquery()
            old = col(Update.received_at) < self._clock() - KEPT_SECONDS
            over = col(Update.state) != UpdateState.NEW
            await transaction.execute(delete(Update).where(old, over, col(Update.update_id) != highest))

    def _load(self, row: Update) -> TelegramUpdate:
        # PTB's command handlers ask the update for its bot.
        return TelegramUpdate.de_json(json.loads(row.payload), self._bot)

    async def _set(self, update_id: int, **values: Any) -> None:
        async with self._database.transaction() as transaction:
            await transaction.execute(update(Update).where(col(Update.update_id) == update_id).values(**values))

    async def _row(self, incoming: TelegramUpdate) -> Update:
        payload = incoming.to_dict()
        if _is_unstorable(payload):
            payload = _replaced(payload)
            incoming = TelegramUpdate.de_json(payload)
        key = await self._cut_key(incoming.message, payload) if incoming.message else None
        chat = incoming.effective_chat
        return Update(
            update_id=incoming.update_id,
            chat_id=chat.id if chat else None,
            # Whatever else looks like a key (a reply to the message that held one, say) is not stored either.
            payload=KEY.sub(CUT, json.dumps(payload)),
            sealed_key=self._vault.seal(key) if key else None,
        )

    async def _cut_key(self, message: Message, payload: dict[str, Any]) -> SecretStr | None:
        command, _, rest = (message.text or "").strip().partition(" ")
        is_private = message.chat.type == message.chat.PRIVATE
        if command.split("@")[0] == "/login":
            if not rest.strip() and is_private:
                # Here and not in the handler: the key may come in the same batch.
                await self._chats.want_key(message.chat.id)
            return _cut(payload, rest, left=f"{command} {CUT}") if rest.strip() else None
        wanted = is_private and message.text and not command.startswith("/")
        if wanted and await self._chats.is_key_wanted(message.chat.id):
            return _cut(payload, message.text or "", left=CUT)
        return None


def _is_unstorable(payload: dict[str, Any]) -> bool:
    written = json.dumps(payload, ensure_ascii=False)
    return "\\u0000" in written or UNSTORABLE.search(written) is not None


def _replaced(value: Any) -> Any:
    """U+FFFD for what no database holds: as long as what was there, so that entities stay in place."""
    match value:
        case str():
            return UNSTORABLE.sub("\ufffd", value)
        case dict():
            return {name: _replaced(inner) for name, inner in value.items()}
        case list():
            return [_replaced(inner) for inner in value]
        case _:
            return value


def _cut(payload: dict[str, Any], secret: str, *, left: str) -> SecretStr:
    payload["message"]["text"] = left
    entities = payload["message"].get("entities", [])
    payload["message"]["entities"] = [entity for entity in entities if entity["type"] == "bot_command"]
    return SecretStr(secret.strip())
