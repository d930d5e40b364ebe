"""Last good answers of services that may be away."""

import time

from bot.store.database import Database
from bot.store.models import Kept


class KeptAnswers:
    """Rows of `kept`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> str | None:
        """The answer kept under this name."""
        async with self._database.session() as session:
            row = await session.get(Kept, name)
        return row.value if row else None

    async def put(self, name: str, value: str) -> None:
        """Keep it in place of the one before."""
        async with self._database.transaction() as transaction:
            await transaction.execute(self._database.insert_or_replace(Kept(name=name, value=value, at=time.time())))
