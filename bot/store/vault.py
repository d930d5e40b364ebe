"""Encrypt what must not be readable in a database dump."""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from bot.errors import Undecryptable


class Vault:
    """Fernet with rotation: the first key encrypts, every key decrypts."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, secret: SecretStr) -> str:
        """Encrypt; the result is ASCII."""
        return self._fernet.encrypt(secret.get_secret_value().encode()).decode()

    def open(self, sealed: str) -> SecretStr:
        """Decrypt; `Undecryptable` if no key fits."""
        try:
            return SecretStr(self._fernet.decrypt(sealed.encode()).decode())
        except InvalidToken as error:
            raise Undecryptable("no key in BOT_ENCRYPTION_KEY opens this secret; put the old key back, last") from error
