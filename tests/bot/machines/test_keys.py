"""The SSH key that opens machines."""

import asyncssh
import pytest

from bot.errors import BadSettings
from bot.machines.keys import ssh_key
from bot.machines.ssh import Ssh
from bot.store.database import Database
from bot.store.keepsakes import Keepsakes
from bot.store.vault import Vault

FERNET = "eGYtZ29vZC1rZXktb2YtMzItYnl0ZXMtZm9yLXRlc3Q="


@pytest.fixture
async def keepsakes(tmp_path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/baal.sqlite")
    await database.open()
    yield Keepsakes(database, Vault([FERNET]))
    await database.close()


async def test_without_a_file_one_is_made_and_kept(keepsakes, tmp_path):
    made = await ssh_key(None, keepsakes)
    assert await ssh_key(None, keepsakes) == made
    assert Ssh(made).public_key.startswith("ssh-ed25519 ")
    assert b"PRIVATE KEY" not in (tmp_path / "baal.sqlite").read_bytes()


async def test_the_operators_file_is_used(keepsakes, tmp_path):
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    (tmp_path / "key").write_bytes(key.export_private_key())
    found = Ssh(await ssh_key(tmp_path / "key", keepsakes)).public_key
    assert found == key.export_public_key().decode().strip()


@pytest.mark.parametrize("content", ["", "not a key", "locked"])
async def test_a_file_without_a_usable_key_is_refused_and_not_repeated(keepsakes, tmp_path, content):
    if content == "locked":
        content = (
            asyncssh.generate_private_key("ssh-ed25519").export_private_key("pkcs8-pem", passphrase="secret").decode()
        )
    (tmp_path / "key").write_text(content)
    with pytest.raises(BadSettings, match=r"SSH_KEY_FILE .* is not a private key without a passphrase") as refused:
        await ssh_key(tmp_path / "key", keepsakes)
    assert not content or content not in str(refused.value)


async def test_a_file_that_is_not_there_is_told(keepsakes, tmp_path):
    with pytest.raises(BadSettings, match=r"SSH_KEY_FILE .* cannot be read"):
        await ssh_key(tmp_path / "none", keepsakes)
