"""The provider from the operator's settings; its SDK is kept away from everybody else's."""

import subprocess
import sys

import httpx
import pytest
from pydantic import SecretStr

from bot.errors import BadSettings
from bot.machines.opening import open_provider
from bot.machines.process import ProcessEngine
from bot.settings import read_settings
from bot.store.database import Database
from bot.store.keepsakes import Keepsakes
from bot.store.vault import Vault
from tests.bot.machines.aleph.parts import KEY, MACHINE
from tests.fakes.aleph_world import ROOTFS

FERNET = "eGYtZ29vZC1rZXktb2YtMzItYnl0ZXMtZm9yLXRlc3Q="


@pytest.fixture
async def open_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALEPH_CONFIG_HOME", raising=False)
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/baal.sqlite")
    await database.open()
    async with httpx.AsyncClient() as http:

        async def opened(**changes):
            basics = {"telegram_bot_token": "1:a", "bot_encryption_key": FERNET, "data_dir": tmp_path / "data"}
            basics |= {"provider": "aleph", "engine": "docker", "aleph_private_key": KEY}
            settings = read_settings(**(basics | changes))
            return await open_provider(settings, database, ProcessEngine(), Keepsakes(database, Vault([FERNET])), http)

        yield opened
    await database.close()


async def test_it_rents_with_the_settings_and_the_bots_own_key(aleph, open_with):
    provider = await open_with(
        aleph_api_url=f"{aleph.url}/",
        aleph_crn_list_url=f"{aleph.url}/crns.json",
        aleph_scheduler_url=aleph.url,
        aleph_gateway_url=aleph.url,
        aleph_channel="BAAL-mine",
        aleph_rootfs=ROOTFS["ubuntu24"],
        aleph_memory=4096,
    )
    await provider.rent(MACHINE)
    (entry,) = aleph.world.running()
    assert entry.message["channel"] == "BAAL-mine"
    assert entry.content["rootfs"]["parent"]["ref"] == ROOTFS["ubuntu24"]
    assert entry.content["resources"]["memory"] == 4096
    (key,) = entry.content["authorized_keys"]
    assert key.startswith("ssh-ed25519 ")
    assert "PRIVATE" not in str(entry.message)
    await provider.give_back(MACHINE)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"aleph_private_key": SecretStr("")}, "ALEPH_PRIVATE_KEY is not set"),
        ({"aleph_private_key": SecretStr("0x" + "zz" * 32)}, "ALEPH_PRIVATE_KEY is not a private key"),
    ],
)
async def test_what_is_missing_is_told_with_what_to_do(open_with, changes, says):
    with pytest.raises(BadSettings, match=says) as refused:
        await open_with(**changes)
    assert "zz" not in str(refused.value)


def test_other_providers_do_not_load_it():
    heavy = "[name for name in ('aleph', 'aleph_message', 'eth_account', 'web3') if name in sys.modules]"
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, bot.app; print({heavy})"], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"


def test_its_sdk_reads_an_empty_folder_of_ours_not_the_users(tmp_path):
    home = tmp_path / "home" / ".aleph-im"
    home.mkdir(parents=True)
    (home / "config.json").write_text('{"path": "/theirs/key", "chain": "ETH"}')
    script = f"""
from pathlib import Path
from bot.machines.aleph.opening import _load
_load(Path({str(tmp_path / "data")!r}))
from aleph.sdk.conf import settings
print(settings.CONFIG_HOME, settings.PRIVATE_KEY_FILE)
"""
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env={"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path / "data" / "aleph"
    assert told.stdout.split() == [str(folder), str(folder / "private-keys" / "ethereum.key")]
