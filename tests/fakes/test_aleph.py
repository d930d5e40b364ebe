"""The unmodified SDK against the double of the network, and what the network refuses."""

import asyncio
import json

import httpx
import pytest
from aleph.sdk.chains.ethereum import ETHAccount
from aleph.sdk.client import AuthenticatedAlephHttpClient
from aleph.sdk.client.vm_client import VmClient
from aleph.sdk.exceptions import ForgottenMessageError, InvalidMessageError
from aleph.sdk.types import PortFlags, Ports
from aleph_message.models import ItemHash, Payment, PaymentType
from aleph_message.models.execution.environment import HostRequirements, NodeRequirements
from aleph_message.status import MessageStatus

from tests.fakes.aleph import AlephDouble
from tests.fakes.aleph_world import ROOTFS, Entry, NoMachines, Status

DAY_OF_ONE = 342_000
CREDIT = Payment(type=PaymentType.credit)


@pytest.fixture(autouse=True)
def no_home(monkeypatch, tmp_path):
    """The SDK reads configuration from the home folder."""
    monkeypatch.setenv("ALEPH_CONFIG_HOME", str(tmp_path))


@pytest.fixture
async def aleph():
    async with AlephDouble(nodes=2) as double:
        yield double


@pytest.fixture
def account(aleph):
    owner = ETHAccount(private_key=b"\1" * 32)
    aleph.world.credit(owner.get_address(), 2_000_000)
    return owner


@pytest.fixture
async def client(aleph, account):
    async with AuthenticatedAlephHttpClient(account, api_server=aleph.url) as made:
        yield made


async def create(client, **changes):
    fields = {"rootfs": ROOTFS["debian12"], "rootfs_size": 20_480, "vcpus": 1, "memory": 2048, "payment": CREDIT}
    fields |= {"channel": "TEST", "sync": True, "ssh_keys": ["ssh-ed25519 AAAA"], "metadata": {"name": "m-1"}}
    return await client.create_instance(**(fields | changes))


def on(node):
    return HostRequirements(node=NodeRequirements(node_hash=node.hash))


async def until(fact):
    async with asyncio.timeout(30):
        while not fact():
            await asyncio.sleep(0.005)


async def test_an_instance_is_created_placed_listed_and_forgotten(aleph, client, account):
    node = list(aleph.world.nodes.values())[1]
    message, status = await create(client, requirements=on(node))
    assert status is MessageStatus.PROCESSED
    await until(lambda: message.item_hash in node.vms and node.vms[message.item_hash].ports)

    async with httpx.AsyncClient() as http:
        running = (await http.get(f"{node.address}/v2/about/executions/list")).json()[message.item_hash]
        assert running["networking"]["mapped_ports"]["22"]["host"] >= 24_000
        placed = (await http.get(f"{aleph.url}/api/v1/vms/{message.item_hash}")).json()
        assert (placed["allocated_node"], placed["status"]) == (node.hash, "dispatched")
        name = (await http.get(f"{aleph.url}/api/hash/{message.item_hash}")).json()
        assert name["active"]

    found = await client.get_message(item_hash=message.item_hash)
    assert found.content.metadata == {"name": "m-1"}
    assert (await client.get_program_price(message.item_hash)).cost == "3.958333333333333333"

    async with VmClient(account, node.address) as vm:
        assert await vm.erase_instance(message.item_hash) == (200, f"Erased VM with ref {message.item_hash}")
    await client.forget([message.item_hash], "done", channel="TEST", sync=True)
    assert await client.get_message_status(message.item_hash)
    with pytest.raises(ForgottenMessageError):
        await client.get_message(item_hash=message.item_hash)
    assert message.item_hash not in node.vms
    assert aleph.world.running() == []


async def test_the_balance_must_last_a_day_for_all(aleph, client, account):
    assert (await client.get_balances(account.get_address())).credit_balance == 2_000_000
    for number in range(5):
        await create(client, metadata={"name": f"m-{number}"})
    with pytest.raises(ValueError, match="Unknown error code 6"):
        await create(client, metadata={"name": "one too many"})
    assert len(aleph.world.running()) == 5


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"payment": None}, 202), ({"rootfs": "c" * 64}, 301)],
)
async def test_what_the_network_rejects(client, changes, code):
    with pytest.raises(ValueError, match=f"Unknown error code {code}"):
        await create(client, **changes)


async def test_a_stranger_may_neither_forget_nor_command(aleph, client, account):
    message, _ = await create(client)
    stranger = ETHAccount(private_key=b"\2" * 32)
    async with AuthenticatedAlephHttpClient(stranger, api_server=aleph.url) as other:
        with pytest.raises(InvalidMessageError):
            await other.forget([message.item_hash], "mine now", channel="TEST", sync=True)
    await until(lambda: any(message.item_hash in node.vms for node in aleph.world.nodes.values()))
    node = next(node for node in aleph.world.nodes.values() if message.item_hash in node.vms)
    async with VmClient(stranger, node.address) as vm:
        status, text = await vm.erase_instance(message.item_hash)
    assert (status, text) == (403, "Unauthorized sender")


async def test_a_forged_signature_is_rejected(aleph, client):
    signed, _ = await create(client)
    body = json.loads(signed.model_dump_json(include=client.BROADCAST_MESSAGE_FIELDS))
    body["item_content"] = body["item_content"].replace("m-1", "m-2")
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{aleph.url}/api/v0/messages", json={"sync": True, "message": body})
        assert answer.status_code == 422


async def test_money_runs_from_processing_to_forgetting(aleph, client, account):
    message, _ = await create(client)
    aleph.world.skew = 3600
    assert aleph.world.spent(account.get_address()) == pytest.approx(14_250, rel=0.01)
    await client.forget([ItemHash(message.item_hash)], "done", channel="TEST", sync=True)
    spent = aleph.world.spent(account.get_address())
    aleph.world.skew = 7200
    assert aleph.world.spent(account.get_address()) == spent


async def test_a_node_starts_only_what_belongs_to_it(aleph, client, account):
    aleph.world.faults.auto_dispatch = False
    first, second = aleph.world.nodes.values()
    message, _ = await create(client, requirements=on(first))
    async with VmClient(account, second.address) as vm:
        status, text = await vm.start_instance(message.item_hash)
    assert (status, json.loads(text)) == (400, {"error": "Instance is allocated to a different node"})
    async with VmClient(account, first.address) as vm:
        status, text = await vm.start_instance(message.item_hash)
    assert (status, json.loads(text)["successful"]) == (200, [message.item_hash])


async def test_a_sync_call_that_takes_too_long_is_pending(aleph, client):
    aleph.world.faults.sync_timeout = True
    _, status = await create(client)
    assert status is MessageStatus.PENDING
    assert len(aleph.world.running()) == 1


async def test_forgetting_what_is_not_there_is_pending_and_refused_later(aleph, client):
    message, status = await client.forget([ItemHash("e" * 64)], "gone", channel="TEST", sync=True)
    assert status is MessageStatus.PENDING
    await until(lambda: aleph.world.entries[message.item_hash].error_code == 501)


async def test_one_that_is_about_to_be_removed_can_be_forgotten(aleph, client):
    message, _ = await create(client)
    aleph.world.removing(message.item_hash)
    assert len(aleph.world.running()) == 1
    await client.forget([ItemHash(message.item_hash)], "done", channel="TEST", sync=True)
    assert aleph.world.running() == []


async def test_ports_are_mapped_when_the_node_reads_the_list_and_lost_when_it_cannot(aleph, client):
    message, _ = await create(client)
    node = next(iter(aleph.world.nodes.values()))
    await until(lambda: message.item_hash in node.vms and node.vms[message.item_hash].ports)
    ports = {message.item_hash: {"ports": {"443": {"tcp": True, "udp": False}}}}
    await client.create_aggregate("port-forwarding", ports, channel="TEST", sync=True)

    async with httpx.AsyncClient() as http:

        async def mapped():
            assert (await http.post(f"{node.address}/control/machine/{message.item_hash}/update")).status_code == 200
            listed = (await http.get(f"{node.address}/v2/about/executions/list")).json()
            return sorted(listed[message.item_hash]["networking"]["mapped_ports"])

        assert await mapped() == ["22", "443"]
        aleph.world.faults.aggregates_fail = True
        assert await mapped() == []


@pytest.mark.parametrize("wrong", ["expires", "domain"])
async def test_a_nodes_key_that_expired_or_names_another_node_commands_nothing(aleph, account, wrong):
    node = next(iter(aleph.world.nodes.values()))
    async with VmClient(account, node.address) as vm:
        vm.pubkey_payload[wrong] = {"expires": "2020-01-01T00:00:00Z", "domain": "node.example"}[wrong]
        status, text = await vm.erase_instance(ItemHash("d" * 64))
    assert (status, json.loads(text)["error"]) == (401, {"expires": "Token expired", "domain": "Invalid domain"}[wrong])


async def test_a_node_that_is_down_cuts_the_connection(aleph, client, account):
    node = next(iter(aleph.world.nodes.values()))
    node.faults.down = True
    async with VmClient(account, node.address) as vm:
        status, _ = await vm.erase_instance(ItemHash("d" * 64))
    assert status is None


async def test_a_port_is_mapped_when_its_owner_asks_and_keeps_its_place(aleph, client, account):
    message, _ = await create(client)
    await until(lambda: message.item_hash in aleph.world.booted)
    assert set(await mapped(aleph, message)) == {"22"}
    await client.port_forwarder.create_ports(message.item_hash, Ports(ports={443: PortFlags(tcp=True, udp=False)}))
    first = await mapped(aleph, message)
    assert set(first) == {"22", "443"}
    assert first["443"]["host"] >= 24_000
    assert await mapped(aleph, message) == first
    await client.create_aggregate("port-forwarding", {message.item_hash: None})
    assert set(await mapped(aleph, message)) == {"22"}


async def mapped(aleph, message):
    node = next(node for node in aleph.world.nodes.values() if message.item_hash in node.vms)
    async with httpx.AsyncClient() as http:
        listed = (await http.get(f"{node.address}/v2/about/executions/list")).json()
    return listed[message.item_hash]["networking"]["mapped_ports"]


class Counted(NoMachines):
    """Which are started and stopped, in order."""

    def __init__(self):
        self.seen = []

    async def start(self, item_hash, keys):
        self.seen.append("start")
        return await super().start(item_hash, keys)

    async def stop(self, item_hash):
        self.seen.append("stop")


async def test_one_that_is_placed_elsewhere_while_it_boots_starts_only_there():
    machines = Counted()
    async with AlephDouble(2, machines) as aleph:
        world = aleph.world
        first, second = world.nodes.values()
        entry = Entry({"item_hash": "a" * 64, "sender": "0x1", "type": "INSTANCE"}, {}, Status.PROCESSED, world.time())
        world.entries[entry.hash] = entry
        first.faults.boot_after = 0.2
        booting = asyncio.create_task(world.boot(entry, first))
        await until(lambda: entry.hash in first.vms)

        world.move(entry.hash, second)
        await booting

        assert machines.seen == ["stop", "start"]
        assert second.vms[entry.hash].ports
