"""The key that opens machines: the operator's file, or one that the bot makes once and keeps."""

import asyncio
from pathlib import Path

import asyncssh
from pydantic import SecretStr

from bot.errors import BadSettings
from bot.store.keepsakes import Keepsakes

NAME = "ssh"
"""Of the keepsake."""


async def private_key(file: Path | None, keepsakes: Keepsakes) -> SecretStr:
    """In OpenSSH's format, without a passphrase; `BadSettings` if the file is no such key."""
    if file is None:
        return await keepsakes.get(NAME, make)
    return await asyncio.to_thread(read, file)


def read(file: Path) -> SecretStr:
    """The operator's own; `BadSettings` says what is wrong with it, and nothing of what is in it."""
    try:
        text = file.read_text()
        asyncssh.import_private_key(text)
    except asyncssh.KeyEncryptionError:
        raise BadSettings("SSH_KEY_FILE has a passphrase: take it off (ssh-keygen -p), or leave it empty") from None
    except (asyncssh.KeyImportError, UnicodeError):
        raise BadSettings("SSH_KEY_FILE is no private key in OpenSSH's format: ssh-keygen -t ed25519") from None
    except OSError as error:
        raise BadSettings(f"SSH_KEY_FILE cannot be read ({error.strerror}): let the bot's user read it") from None
    return SecretStr(text)


def make() -> str:
    """A new one."""
    return asyncssh.generate_private_key("ssh-ed25519", comment="baal").export_private_key().decode()
