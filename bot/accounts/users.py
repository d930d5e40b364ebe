"""People who write to the bot, and the LibertAI keys they lend to their agents."""

from dataclasses import dataclass

from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col

from bot.store.database import Database
from bot.store.models import User
from bot.store.vault import Vault


@dataclass(frozen=True, slots=True)
class Person:
    """Who is writing, as Telegram says."""

    id: int
    name: str
    language: str


class Users:
    """Rows of `user`."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def meet(self, person: Person) -> None:
        """Make sure that there is a row; names and languages change, so they are taken over."""
        row = User(id=person.id, name=person.name, language=person.language)
        change = update(User).where(col(User.id) == person.id).values(name=person.name, language=person.language)
        async with self._database.transaction() as transaction:
            await transaction.execute(self._database.insert_new(User, row.model_dump()))
            await transaction.execute(change)

    async def get(self, user_id: int) -> User | None:
        async with self._database.session() as session:
            return await session.get(User, user_id)

    async def key(self, user_id: int) -> SecretStr | None:
        """Their own LibertAI key, if they have connected one."""
        user = await self.get(user_id)
        return self._vault.open(user.sealed_key) if user and user.sealed_key else None

    async def connect(self, user_id: int, key: SecretStr) -> None:
        """Keep a checked key, encrypted."""
        await self._set_key(user_id, sealed=self._vault.seal(key), hint=key.get_secret_value()[-4:])

    async def disconnect(self, user_id: int) -> None:
        """Forget their key."""
        await self._set_key(user_id, sealed=None, hint=None)

    async def _set_key(self, user_id: int, *, sealed: str | None, hint: str | None) -> None:
        async with self._database.transaction() as transaction:
            change = update(User).where(col(User.id) == user_id).values(sealed_key=sealed, key_hint=hint)
            await transaction.execute(change)
