"""Letters of agents between the agent's outbox and the chat: rows of `letter`."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col, select

from agent import protocol
from bot.log import line
from bot.store.database import Database
from bot.store.models import Letter, LetterState, Turn

log = logging.getLogger(__name__)

KEPT_SECONDS = 30 * 86_400
"""How long the number of a letter that is over is remembered: an agent repeats it until it was acknowledged."""
_TOO_BIG = 2**63


class Letters:
    """Takes in, hands out, ticks off. A letter is taken in once, however often the agent shows it."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def keep(self, agent_id: int, letters: Sequence[protocol.Letter]) -> set[int]:
        """Take them in, in one transaction; the chats for which there are new ones.

        An agent writes to chats that have written to it; what it has for others is dropped.
        """
        if not letters:
            return set()
        async with self._database.transaction() as transaction:
            known = await self._known(transaction, agent_id, {_chat(letter) for letter in letters})
            for stranger in {letter.chat_id for letter in letters if _chat(letter) not in known}:
                log.warning(line("letter to a stranger dropped", agent=agent_id, chat=stranger[:32]))
            rows = [self._row(agent_id, letter) for letter in letters if _chat(letter) in known]
            if not rows:
                return set()
            insert = self._database.insert_new(Letter, rows).returning(col(Letter.chat_id))
            return {row.chat_id for row in await transaction.execute(insert)}

    async def waiting(self) -> list[int]:
        """Chats for which there are letters."""
        query = select(col(Letter.chat_id)).where(col(Letter.state) == LetterState.WAITING).distinct()
        async with self._database.transaction() as transaction:
            return list(await transaction.scalars(query))

    async def next(self, chat_id: int) -> Letter | None:
        """The chat's oldest letter that was not delivered."""
        waiting = (col(Letter.chat_id) == chat_id, col(Letter.state) == LetterState.WAITING)
        order = (col(Letter.received_at), col(Letter.agent_id), col(Letter.id))
        async with self._database.session() as session:
            return (await session.exec(select(Letter).where(*waiting).order_by(*order).limit(1))).first()

    async def sent(self, letter: Letter, messages: int) -> None:
        """So many of its messages are in the chat."""
        await self._set(letter, sent=messages)

    async def end(self, letter: Letter, state: LetterState) -> None:
        """It is over; of its words nothing is kept."""
        await self._set(letter, state=state, text="", files=[])

    async def prune(self) -> None:
        """Forget the numbers of old letters that are over."""
        old = (col(Letter.state) != LetterState.WAITING, col(Letter.received_at) < self._clock() - KEPT_SECONDS)
        async with self._database.transaction() as transaction:
            await transaction.execute(delete(Letter).where(*old))

    async def _known(self, transaction: AsyncConnection, agent_id: int, chats: set[int | None]) -> set[int | None]:
        named = [chat for chat in chats if chat is not None]
        query = select(col(Turn.chat_id)).where(col(Turn.agent_id) == agent_id, col(Turn.chat_id).in_(named))
        return set(await transaction.scalars(query.distinct()))

    def _row(self, agent_id: int, letter: protocol.Letter) -> dict[str, Any]:
        row = Letter(
            agent_id=agent_id,
            id=letter.id,
            chat_id=_chat(letter) or 0,
            text=letter.text.replace("\0", "\ufffd"),  # Postgres refuses it, and would for ever
            files=[file.model_dump() for file in letter.files],
            received_at=self._clock(),
        )
        return row.model_dump()

    async def _set(self, letter: Letter, **values: Any) -> None:
        this = (col(Letter.agent_id) == letter.agent_id, col(Letter.id) == letter.id)
        async with self._database.transaction() as transaction:
            await transaction.execute(update(Letter).where(*this).values(**values))


def _chat(letter: protocol.Letter) -> int | None:
    """Its chat, if it is one of Telegram's at all."""
    try:
        number = int(letter.chat_id)
    except ValueError:
        return None
    return number if abs(number) < _TOO_BIG else None
