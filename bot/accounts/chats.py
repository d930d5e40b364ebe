"""What a chat is doing: whom its plain messages go to, and whether its next message is a key."""

import time
from collections.abc import Callable

from sqlalchemy import update
from sqlmodel import col

from bot.store.database import Database
from bot.store.models import Chat

KEY_WANTED_SECONDS = 300


class Chats:
    """Rows of `chat`."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def agent_id(self, chat_id: int) -> int | None:
        """The agent that plain messages of this chat go to."""
        chat = await self._get(chat_id)
        return chat.agent_id if chat else None

    async def talk_to(self, chat_id: int, agent_id: int | None) -> None:
        """Send plain messages of this chat to that agent, or to none."""
        await self._set(chat_id, agent_id=agent_id)

    async def want_key(self, chat_id: int, *, wanted: bool = True) -> None:
        """The next message is a key (for five minutes), or no longer."""
        await self._set(chat_id, key_wanted_until=self._clock() + KEY_WANTED_SECONDS if wanted else 0.0)

    async def is_key_wanted(self, chat_id: int) -> bool:
        chat = await self._get(chat_id)
        return chat is not None and chat.key_wanted_until > self._clock()

    async def leave_all(self, agent_id: int) -> None:
        """Nobody's messages go to this agent any more."""
        async with self._database.transaction() as transaction:
            await transaction.execute(update(Chat).where(col(Chat.agent_id) == agent_id).values(agent_id=None))

    async def _get(self, chat_id: int) -> Chat | None:
        async with self._database.session() as session:
            return await session.get(Chat, chat_id)

    async def _set(self, chat_id: int, **values: float | None) -> None:
        async with self._database.transaction() as transaction:
            await transaction.execute(self._database.insert_new(Chat, Chat(id=chat_id).model_dump()))
            await transaction.execute(update(Chat).where(col(Chat.id) == chat_id).values(**values))
