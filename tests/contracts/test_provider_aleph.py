"""The same suite over Aleph, whose machines are light here: nothing listens on them."""

import httpx
import pytest
from pydantic import SecretStr

from bot.machines.aleph.ledger import Ledger
from bot.machines.aleph.network import Addresses, Network
from bot.machines.aleph.provider import AlephProvider, Ordered, Patience
from bot.machines.aleph.wallet import Wallet
from bot.store.database import Database
from tests.contracts.test_provider import (  # noqa: F401  collected here, with this module's provider
    test_a_machine_given_back_is_no_longer_listed_or_reached,
    test_a_rented_machine_is_listed_and_can_be_reached,
    test_an_id_that_is_none_of_ours_is_refused,
    test_giving_back_twice_or_what_was_never_rented_is_harmless,
    test_renting_twice_is_renting_once,
)
from tests.fakes.aleph import AlephDouble
from tests.fakes.aleph_world import ROOTFS

CHANNEL = "BAAL-contract"


@pytest.fixture
async def provider(monkeypatch, tmp_path):
    monkeypatch.setenv("ALEPH_CONFIG_HOME", str(tmp_path))
    wallet = Wallet(SecretStr("01" * 32), CHANNEL)
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/baal.sqlite")
    await database.open()
    async with AlephDouble() as aleph, httpx.AsyncClient() as http:
        aleph.world.credit(wallet.address, 2_000_000)
        network = Network(Addresses(aleph.url, f"{aleph.url}/crns.json", aleph.url, aleph.url), http)
        ordered = Ordered(rootfs=ROOTFS["debian12"], ssh_key="ssh-ed25519 AAAA")
        patience = Patience(process=5, place=5, forget=5, poll=0.01)
        yield AlephProvider(network, Ledger(database), wallet, ordered, channel=CHANNEL, patience=patience)
    await database.close()
