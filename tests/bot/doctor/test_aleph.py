"""Renting from Aleph, against the double of its network."""

import re

import httpx
import pytest
from pydantic import SecretStr

from bot.machines.aleph.network import Addresses, Network
from bot.machines.aleph.nodes import Size
from bot.machines.aleph.wallet import Order, Wallet
from tests.bot.doctor.conftest import NOBODY
from tests.fakes.aleph_world import ROOTFS, Status
from tests.fakes.registry import DIGEST

KEY = "0x" + "01" * 32
ADDRESS = Wallet(SecretStr(KEY), "x").address
DEBIAN = "b6ff5c3a8205…"
UNREACHED = "look whether this host reaches it, and correct {} if it is wrong"


@pytest.fixture(autouse=True)
def rented(doctor, aleph, registry):
    """Everything as Aleph needs it."""
    aleph.world.credit(ADDRESS, 2_000_000)
    doctor.set(
        PROVIDER="aleph",
        ENGINE="docker",
        AGENT_IMAGE=f"{registry.host}/me/agent:1@{DIGEST}",
        ALEPH_PRIVATE_KEY=KEY,
        ALEPH_API_URL=aleph.url,
        ALEPH_CRN_LIST_URL=f"{aleph.url}/crns.json",
        ALEPH_SCHEDULER_URL=aleph.url,
        ALEPH_GATEWAY_URL=aleph.url,
    )


def host(aleph):
    return aleph.url.removeprefix("http://")


async def test_all_is_well(doctor, aleph):
    await doctor()

    assert doctor.wrong == []
    assert doctor["wallet"] == f"✓ {ADDRESS}"
    assert doctor["message node"] == f"✓ {host(aleph)} answers"
    assert doctor["credits"] == "✓ 2,000,000, 140 hours of what runs (0) and one more"
    assert doctor["rootfs"] == f"✓ {DEBIAN} is there"
    assert doctor["nodes"] == "✓ 3 of 3 can take a machine of 1 vCPU, 2048 MiB, 20480 MiB of disk"
    assert doctor["scheduler"] == f"✓ {host(aleph)} answers"
    assert doctor["gateway"] == f"✓ {host(aleph)} answers"
    assert doctor["ssh key"].startswith("✓ ssh-ed25519 AAAA")
    assert doctor.all("servers") == []
    assert doctor.is_well


@pytest.mark.parametrize("key", ["0x12", "not hexadecimal at all, but secret", "ff" * 32])
async def test_a_wallet_key_that_is_none(doctor, key):
    doctor.set(ALEPH_PRIVATE_KEY=key)
    table = await doctor()

    assert doctor["wallet"] == "✗ ALEPH_PRIVATE_KEY is not a private key of Ethereum (64 hexadecimal digits)"
    assert doctor["credits"] == "· not checked: there is no wallet"
    assert key not in table


async def test_no_wallet_key(doctor):
    doctor.set(ALEPH_PRIVATE_KEY="")
    await doctor()

    assert doctor["wallet"] == "✗ ALEPH_PRIVATE_KEY is not set: write the private key of the wallet that pays"


async def test_credits_that_do_not_last_for_a_day(doctor, aleph):
    aleph.world.deposits.clear()
    aleph.world.credit(ADDRESS, 341_000)
    await doctor()

    assert doctor["credits"] == (
        "✗ 341,000, 1,000 too few: the network wants what runs (0) and one more paid for 24 hours; "
        f"top up {ADDRESS} at https://app.aleph.cloud"
    )
    assert doctor.wrong == ["credits"]


async def test_what_runs_counts_whatever_its_channel(doctor, aleph):
    aleph.world.deposits.clear()
    aleph.world.credit(ADDRESS, 800_000)
    order = Order("m-0123456789abcdef", next(iter(aleph.world.nodes)), ROOTFS["debian12"], Size(), "ssh-ed25519 AAAA")
    await _broadcast(aleph, await Wallet(SecretStr(KEY), "ANOTHER").instance(order))
    await doctor()

    advice = f"top up {ADDRESS} at https://app.aleph.cloud soon"
    assert re.fullmatch(
        rf"✓ (800,000|799,9\d\d), 28 hours of what runs \(1\) and one more: {advice}", doctor["credits"]
    )


async def _broadcast(aleph, message):
    async with httpx.AsyncClient() as http:
        await Network(Addresses(aleph.url, "", "", ""), http).broadcast(message)
    (entry,) = aleph.world.running()
    assert entry.status is Status.PROCESSED


async def test_a_larger_machine_costs_more(doctor):
    doctor.set(ALEPH_MEMORY="8192", ALEPH_VCPUS="2", ALEPH_DISK="81920")
    await doctor()

    assert doctor["credits"].startswith("✓ 2,000,000, 35 hours of ")


async def test_no_message_node(doctor):
    doctor.set(ALEPH_API_URL=NOBODY)
    await doctor()

    assert doctor["message node"] == (
        f"✗ 127.0.0.1:1 does not answer (connection refused): {UNREACHED.format('ALEPH_API_URL')}"
    )
    assert doctor["credits"] == doctor["rootfs"] == "· not checked: the message node does not answer"
    assert doctor.wrong == ["message node"]


@pytest.mark.parametrize(
    ("name", "setting"),
    [("message node", "ALEPH_API_URL"), ("scheduler", "ALEPH_SCHEDULER_URL"), ("gateway", "ALEPH_GATEWAY_URL")],
)
async def test_something_else_at_an_address(doctor, telegram, name, setting):
    doctor.set(**{setting: f"{telegram.url}/?"})
    await doctor()

    where = telegram.url.removeprefix("http://")
    assert doctor[name].startswith(f"✗ {where} does not answer as one (HTTP ")
    assert doctor[name].endswith(f"): try again later, or correct {setting}")


async def test_credits_that_cannot_be_read(doctor, aleph):
    aleph.world.faults.balance_fails = True
    await doctor()

    assert doctor["credits"] == f"✗ {host(aleph)} does not tell them: try again later"


@pytest.mark.parametrize("status", [Status.FORGOTTEN, Status.REMOVING])
async def test_a_root_file_system_that_is_gone(doctor, aleph, status):
    order = Order("m-0123456789abcdef", next(iter(aleph.world.nodes)), ROOTFS["debian12"], Size(), "ssh-ed25519 AAAA")
    message = await Wallet(SecretStr(KEY), "ANOTHER").instance(order)
    await _broadcast(aleph, message)
    aleph.world.end(aleph.world.entries[message["item_hash"]], status)
    doctor.set(ALEPH_ROOTFS=message["item_hash"])
    await doctor()

    short = f"{message['item_hash'][:12]}…"
    assert doctor["rootfs"] == f"✗ {short} is {status} there: leave ALEPH_ROOTFS out for Debian 12, or correct it"


async def test_a_root_file_system_that_nobody_knows(doctor):
    doctor.set(ALEPH_ROOTFS="f" * 64)
    await doctor()

    assert doctor["rootfs"] == (
        "✗ ffffffffffff… is unknown to the network: leave ALEPH_ROOTFS out for Debian 12, or correct it"
    )


async def test_no_node_has_room(doctor):
    doctor.set(ALEPH_VCPUS="64")
    await doctor()

    assert doctor["nodes"] == (
        "✗ none of 3 can take a machine of 64 vCPU, 2048 MiB, 20480 MiB of disk: "
        "ask for less (ALEPH_VCPUS, ALEPH_MEMORY, ALEPH_DISK), or wait"
    )


async def test_some_nodes_are_not_fit(doctor, aleph):
    first, second, _ = aleph.world.nodes.values()
    first.ipv6, second.version = False, "1.2.0"
    await doctor()

    assert doctor["nodes"].startswith("✓ 1 of 3 can take ")


async def test_the_list_of_nodes_is_away(doctor, aleph):
    aleph.world.faults.list_fails = True
    await doctor()
    assert doctor["nodes"] == (
        f"✗ what {host(aleph)} answers is no list of nodes: try again later, or correct ALEPH_CRN_LIST_URL"
    )

    doctor.set(ALEPH_CRN_LIST_URL=NOBODY)
    await doctor()
    assert doctor["nodes"].startswith("✗ 127.0.0.1:1 does not answer (connection refused): ")


@pytest.mark.parametrize(("name", "setting"), [("scheduler", "ALEPH_SCHEDULER_URL"), ("gateway", "ALEPH_GATEWAY_URL")])
async def test_scheduler_and_gateway(doctor, name, setting):
    doctor.set(**{setting: NOBODY})
    await doctor()

    assert doctor[name] == f"✗ 127.0.0.1:1 does not answer (connection refused): {UNREACHED.format(setting)}"
    assert doctor.wrong == [name]


async def test_the_bots_clock_is_compared_with_the_networks(doctor, aleph, telegram):
    doctor.set(TELEGRAM_API_BASE=NOBODY)
    await doctor()

    assert doctor["clock"] == f"✓ as {host(aleph)}'s"


async def test_processes_are_for_this_host_alone(doctor):
    doctor.set(ENGINE="process")
    await doctor()

    assert doctor["settings"] == ("✗ PROVIDER=aleph runs agents in containers: set ENGINE=docker")
