"""Conversations that start over once their agent answers again: it was asleep, or away, when the person said /new."""

from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from bot.chat.route import Route
from bot.store.database import Database
from bot.store.models import Turn
from bot.store.records import StartOver


class Fresh:
    """Rows of `start_over`, each of which becomes a mark on the next turn."""

    def __init__(self, database: Database, route: Route) -> None:
        self._database = database
        self._route = route

    async def want(self, chat_id: int, agent_id: int) -> None:
        """Have this chat's next message to the agent be the first of a new conversation."""
        async with self._database.transaction() as transaction:
            values = StartOver(chat_id=chat_id, agent_id=agent_id).model_dump()
            await transaction.execute(self._database.insert_new(StartOver, values))

    async def take(self, transaction: AsyncConnection, turn: Turn) -> None:
        """Mark a turn that was just accepted, if that is wanted; the ones after it are not marked."""
        wanted = delete(StartOver).where(
            col(StartOver.chat_id) == turn.chat_id, col(StartOver.agent_id) == turn.agent_id
        )
        if (await transaction.execute(wanted)).rowcount:
            await transaction.execute(update(Turn).where(col(Turn.id) == turn.id).values(starts_over=True))

    async def begin(self, turn: Turn) -> None:
        """What a marked turn needs before its agent has it; `AgentError` as in `Route.forget`, and the mark stays."""
        if not turn.starts_over:
            return
        await self._route.forget(turn.agent_id, str(turn.chat_id))
        async with self._database.transaction() as transaction:
            await transaction.execute(update(Turn).where(col(Turn.id) == turn.id).values(starts_over=False))
        turn.starts_over = False
