"""The provider over the double of its network; nothing listens on the machines."""

import httpx
import pytest

from bot.machines.aleph.ledger import Ledger
from bot.machines.aleph.network import Addresses, Network
from bot.machines.aleph.provider import AlephProvider, Ordered, Patience
from bot.machines.aleph.wallet import Wallet
from bot.store.database import Database
from tests.bot.machines.aleph.parts import CHANNEL, KEY, QUICK
from tests.fakes.aleph import AlephDouble
from tests.fakes.aleph_world import ROOTFS, ZONE


@pytest.fixture
async def aleph(monkeypatch, tmp_path):
    # The SDK reads configuration from the home folder.
    monkeypatch.setenv("ALEPH_CONFIG_HOME", str(tmp_path))
    async with AlephDouble(nodes=3) as double:
        double.world.credit(Wallet(KEY, CHANNEL).address, 2_000_000)
        yield double


@pytest.fixture
async def ledger(tmp_path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/baal.sqlite")
    await database.open()
    yield Ledger(database)
    await database.close()


@pytest.fixture
async def network(aleph):
    async with httpx.AsyncClient() as http:
        yield Network(Addresses(aleph.url, f"{aleph.url}/crns.json", aleph.url, aleph.url, ZONE), http)


@pytest.fixture
def wiped():
    """Ids of machines that were wiped, and the SSH port that each had then."""
    return []


@pytest.fixture
def make(network, ledger, wiped):
    async def wipe(place):
        wiped.append((place.machine_id, (await place.remote.target()).port))

    def made(patience: Patience = QUICK, *, rootfs: str = ROOTFS["debian12"], wipe=wipe, **more) -> AlephProvider:
        ordered = Ordered(rootfs=rootfs, ssh_key="ssh-ed25519 AAAA", **more)
        wallet = Wallet(KEY, CHANNEL)
        return AlephProvider(network, ledger, wallet, ordered, channel=CHANNEL, patience=patience, wipe=wipe)

    return made


@pytest.fixture
def provider(make):
    return make()
