"""Build the provider from the operator's settings. Only here is the SDK imported: it costs 2 s and 50 MB."""

import asyncio
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from bot.errors import BadSettings
from bot.machines.aleph.ledger import Ledger
from bot.machines.aleph.network import Addresses, Network
from bot.machines.aleph.nodes import Size
from bot.settings import Settings
from bot.store.database import Database

if TYPE_CHECKING:
    from bot.machines.aleph.endings import Wipe
    from bot.machines.aleph.provider import AlephProvider


async def open_aleph(
    settings: Settings, database: Database, http: httpx.AsyncClient, *, public_key: str, wipe: "Wipe"
) -> "AlephProvider":
    """The provider; `public_key` opens its machines. `BadSettings` says what is missing or wrong."""
    if not settings.aleph_private_key.get_secret_value().strip():
        raise BadSettings(
            "ALEPH_PRIVATE_KEY is not set. PROVIDER=aleph pays for machines with the credits of a wallet: write the "
            "private key of an Ethereum wallet that has Aleph credits and nothing else"
        )
    await asyncio.to_thread(_load, settings.data_dir)
    from bot.machines.aleph.provider import AlephProvider, Ordered  # noqa: PLC0415
    from bot.machines.aleph.wallet import Wallet  # noqa: PLC0415

    size = Size(settings.aleph_vcpus, settings.aleph_memory, settings.aleph_disk)
    return AlephProvider(
        Network(addresses(settings), http),
        Ledger(database),
        Wallet(settings.aleph_private_key, settings.aleph_channel),
        Ordered(rootfs=settings.aleph_rootfs, ssh_key=public_key, size=size),
        channel=settings.aleph_channel,
        wipe=wipe,
    )


def addresses(settings: Settings) -> Addresses:
    """Where the network is."""
    return Addresses(
        api=settings.aleph_api_url.rstrip("/"),
        nodes=settings.aleph_crn_list_url,
        scheduler=settings.aleph_scheduler_url.rstrip("/"),
        gateway=settings.aleph_gateway_url.rstrip("/"),
    )


def _load(data_dir: Path) -> None:
    """Import it beside the loop. It reads accounts from a folder at the first import: an empty one, not the user's."""
    os.environ["ALEPH_CONFIG_HOME"] = str(data_dir.resolve() / "aleph")
    importlib.import_module("bot.machines.aleph.provider")
