import subprocess
import sys

import pytest
from cryptography.fernet import Fernet

from bot.app import open_authority
from bot.settings import read_settings
from bot.store.keepsakes import Keepsakes


def settings(tmp_path, **more):
    given = {"telegram_bot_token": "4242:abc", "bot_encryption_key": Fernet.generate_key().decode()}
    return read_settings(**given, data_dir=tmp_path, **more)


@pytest.mark.parametrize(
    ("more", "is_own"),
    [
        ({"provider": "aleph"}, True),
        ({"provider": "hosts", "ssh_hosts": "203.0.113.9"}, True),
        ({"provider": "aleph", "agent_tls": "acme", "acme_email": "a@example.org"}, False),
        ({"provider": "local"}, False),
    ],
)
async def test_agents_on_other_machines_are_vouched_for_by_our_own_authority(more, is_own, tmp_path, database, vault):
    authority = await open_authority(settings(tmp_path, **more), Keepsakes(database, vault))

    assert (authority is not None) is is_own


def test_what_reads_certificates_is_loaded_only_when_it_is_needed():
    code = "import sys, bot.app; sys.exit('cryptography.x509' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
