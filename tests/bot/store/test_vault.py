import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from bot.errors import Undecryptable
from bot.store.vault import Vault

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def test_a_secret_comes_back_and_is_not_readable_while_sealed():
    sealed = Vault([NEW]).seal(SecretStr("LTAI_secret"))

    assert "LTAI_secret" not in sealed
    assert Vault([NEW]).open(sealed).get_secret_value() == "LTAI_secret"


def test_the_old_key_still_opens_after_a_rotation():
    sealed = Vault([OLD]).seal(SecretStr("LTAI_secret"))

    assert Vault([NEW, OLD]).open(sealed).get_secret_value() == "LTAI_secret"


def test_the_new_key_seals_after_a_rotation():
    sealed = Vault([NEW, OLD]).seal(SecretStr("LTAI_secret"))

    assert Vault([NEW]).open(sealed).get_secret_value() == "LTAI_secret"


def test_a_missing_key_is_named_as_the_cause():
    sealed = Vault([OLD]).seal(SecretStr("LTAI_secret"))

    with pytest.raises(Undecryptable, match="BOT_ENCRYPTION_KEY"):
        Vault([NEW]).open(sealed)
