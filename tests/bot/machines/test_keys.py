import asyncssh
import pytest

from bot.errors import BadSettings
from bot.machines.keys import open_ssh
from bot.store.keepsakes import Keepsakes


@pytest.fixture
def keepsakes(database, vault):
    return Keepsakes(database, vault)


async def test_a_key_is_made_once_and_kept_unreadable(keepsakes, on_disk):
    made = await open_ssh(None, keepsakes)

    assert (await open_ssh(None, keepsakes)).public_key == made.public_key
    assert made.public_key.startswith("ssh-ed25519 ")
    assert b"OPENSSH" not in on_disk()


async def test_the_operators_own_key_is_used(keepsakes, tmp_path):
    key = asyncssh.generate_private_key("ssh-ed25519")
    file = tmp_path / "key"
    key.write_private_key(file)
    assert (await open_ssh(file, keepsakes)).public_key == key.export_public_key().decode().strip()


@pytest.mark.parametrize("content", ["", "not a key", "\0", b"\xff\xfe"])
async def test_a_file_that_holds_no_key_is_named(keepsakes, tmp_path, content):
    file = tmp_path / "key"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadSettings, match=r"SSH_KEY_FILE .*key holds no private key without a passphrase"):
        await open_ssh(file, keepsakes)


async def test_a_key_with_a_passphrase_is_refused(keepsakes, tmp_path):
    file = tmp_path / "key"
    key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
    file.write_bytes(key.export_private_key("pkcs8-pem", passphrase="word"))
    with pytest.raises(BadSettings, match="without a passphrase"):
        await open_ssh(file, keepsakes)


async def test_a_file_that_is_not_there_is_named(keepsakes, tmp_path):
    with pytest.raises(BadSettings, match=r"cannot be read \(No such file"):
        await open_ssh(tmp_path / "none", keepsakes)
