"""The key with which the bot opens machines: the operator's file, or one that it made and keeps."""

import asyncio
from pathlib import Path

import asyncssh

from bot.errors import BadSettings
from bot.machines.ssh import Ssh
from bot.store.keepsakes import Keepsakes


async def open_ssh(file: Path | None, keepsakes: Keepsakes) -> Ssh:
    """`file` is SSH_KEY_FILE; without one, a key is made the first time. `BadSettings` if it cannot be used."""
    if file is None:
        return Ssh((await keepsakes.get("ssh", _make)).get_secret_value())
    try:
        return Ssh(await asyncio.to_thread(file.read_text))
    except OSError as error:
        raise BadSettings(f"SSH_KEY_FILE {file} cannot be read ({error.strerror})") from None
    except (asyncssh.KeyImportError, UnicodeDecodeError):
        raise BadSettings(
            f"SSH_KEY_FILE {file} holds no private key without a passphrase; `ssh-keygen -t ed25519 -N ''` makes one"
        ) from None


def _make() -> str:
    return asyncssh.generate_private_key("ssh-ed25519", comment="baal").export_private_key().decode()
