"""Ready answers under the end of a turn: kept before they are shown, given once, gone when the person goes on."""

import json
from collections.abc import Sequence

from sqlalchemy import or_, update
from sqlmodel import col, select

from bot.store.database import Database
from bot.store.models import Offer, Turn


class Offers:
    """Rows of `offer`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, turn_id: str, options: Sequence[str]) -> bool:
        """Offer these under this turn; False if an answer was given already, or the person went on without one."""
        kept = json.dumps(list(options))
        async with self._database.transaction() as transaction:
            query = select(Turn.chat_id, Turn.user_id, Turn.agent_id, Turn.sequence).where(col(Turn.id) == turn_id)
            turn = (await transaction.execute(query)).one()
            row = Offer(
                turn_id=turn_id,
                chat_id=turn.chat_id,
                user_id=turn.user_id,
                agent_id=turn.agent_id,
                sequence=turn.sequence,
                options=kept,
            )
            await transaction.execute(self._database.insert_new(Offer, row.model_dump()))
            change = update(Offer).where(col(Offer.turn_id) == turn_id, col(Offer.answered_by).is_(None))
            changed = await transaction.execute(change.values(options=kept))
        return changed.rowcount > 0

    async def find(self, turn_id: str, chat_id: int) -> Offer | None:
        """What was offered under this turn of this chat."""
        async with self._database.session() as session:
            offer = await session.get(Offer, turn_id)
        return offer if offer and offer.chat_id == chat_id else None

    async def claim(self, turn_id: str, chosen: int, by: str) -> bool:
        """Answer with this one, in the turn `by`. False if another turn has the answer; the same one may ask again."""
        free = or_(col(Offer.answered_by).is_(None), col(Offer.answered_by) == by)
        change = update(Offer).where(col(Offer.turn_id) == turn_id, free)
        async with self._database.transaction() as transaction:
            changed = await transaction.execute(change.values(answered_by=by, chosen=chosen))
        return changed.rowcount > 0

    async def release(self, turn_id: str, by: str) -> None:
        """The turn `by` was not accepted: an answer can still be given."""
        async with self._database.transaction() as transaction:
            mine = update(Offer).where(col(Offer.turn_id) == turn_id, col(Offer.answered_by) == by)
            await transaction.execute(mine.values(answered_by=None, chosen=None))

    async def close(self, chat_id: int, user_id: int, *, before: int, by: str) -> list[str]:
        """The person goes on without them, in the turn `by` and with update `before`: whose turns' they were.

        Asked again, it names the same: whoever takes the buttons away may have to do it once more.
        """
        theirs = (col(Offer.chat_id) == chat_id, col(Offer.user_id) == user_id, col(Offer.sequence) < before)
        unanswered = or_(col(Offer.answered_by).is_(None), col(Offer.answered_by) == by)
        change = update(Offer).where(*theirs, unanswered, col(Offer.chosen).is_(None))
        async with self._database.transaction() as transaction:
            closed = await transaction.execute(change.values(answered_by=by).returning(col(Offer.turn_id)))
            return [row.turn_id for row in closed]
