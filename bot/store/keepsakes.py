"""Secrets that the bot makes for itself and keeps: encrypted, in its database."""

from collections.abc import Callable

from pydantic import SecretStr

from bot.store.database import Database
from bot.store.models import Keepsake
from bot.store.vault import Vault


class Keepsakes:
    """Rows of `keepsake`."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def get(self, name: str, make: Callable[[], str]) -> SecretStr:
        """The one of that name, made the first time. `Undecryptable` if it was sealed with a key that is gone."""
        async with self._database.session() as session:
            kept = await session.get(Keepsake, name)
            if kept is None:
                made = Keepsake(id=name, sealed=self._vault.seal(SecretStr(make())))
                # Somebody else may make one in this moment: then theirs counts.
                insert = self._database.insert_new(Keepsake, made.model_dump())
                await (await session.connection()).execute(insert)
                kept = await session.get_one(Keepsake, name)
            return self._vault.open(kept.sealed)

    async def find(self, name: str) -> SecretStr | None:
        """The one of that name, if there is one. `Undecryptable` as above."""
        async with self._database.session() as session:
            kept = await session.get(Keepsake, name)
            return self._vault.open(kept.sealed) if kept else None
