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
                kept = Keepsake(id=name, sealed=self._vault.seal(SecretStr(make())))
                session.add(kept)
            return self._vault.open(kept.sealed)
