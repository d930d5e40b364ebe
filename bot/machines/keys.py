"""The SSH key that opens machines: the operator's, or one that the bot makes once and keeps."""

import asyncio
from pathlib import Path

import asyncssh

from bot.errors import BadSettings
from bot.store.keepsakes import Keepsakes

KEEPSAKE = "ssh-key"


async def ssh_key(file: Path | None, keepsakes: Keepsakes) -> str:
    """The private key in OpenSSH's format. `BadSettings` if the operator's file has none, or one with a passphrase."""
    if file is None:
        return (await keepsakes.get(KEEPSAKE, _make)).get_secret_value()
    try:
        text = await asyncio.to_thread(_read, file)
        asyncssh.import_private_key(text)
    except OSError as error:
        raise BadSettings(
            f"SSH_KEY_FILE {file} cannot be read ({error.strerror}); the bot's user must be able to"
        ) from None
    except (asyncssh.KeyImportError, ValueError) as error:
        raise BadSettings(
            f"SSH_KEY_FILE {file} is not a private key without a passphrase ({type(error).__name__}); "
            "`ssh-keygen -t ed25519 -N ''` makes one, and without SSH_KEY_FILE the bot makes its own"
        ) from None
    return text


def _make() -> str:
    return asyncssh.generate_private_key("ssh-ed25519", comment="baal").export_private_key().decode()


def _read(file: Path) -> str:
    return file.expanduser().read_text()
