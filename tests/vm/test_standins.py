"""An instance of the network's double is a machine that lets its owner in where the node says."""

import asyncio
import secrets
from contextlib import AsyncExitStack

import httpx
import pytest
from aleph.sdk.chains.ethereum import ETHAccount
from aleph.sdk.client import AuthenticatedAlephHttpClient
from aleph.sdk.types import PortFlags, Ports
from aleph_message.models import Payment, PaymentType

from bot.machines.provider import Target
from bot.machines.ssh import Ssh
from scripts.servers import start_server
from tests.fakes.aleph import AlephDouble
from tests.fakes.aleph_world import ROOTFS
from tests.vm.machine import new_ssh
from tests.vm.standins import PREPARED_12, StandIns, names, remove_all

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120)]


async def order(aleph, ssh: Ssh) -> str:
    owner = ETHAccount(private_key=b"\1" * 32)
    aleph.world.credit(owner.get_address(), 2_000_000)
    payment = Payment(type=PaymentType.credit)
    async with AuthenticatedAlephHttpClient(owner, api_server=aleph.url) as client:
        message, _ = await client.create_instance(
            rootfs=ROOTFS["debian12"], rootfs_size=20_480, payment=payment, sync=True, ssh_keys=[ssh.public_key]
        )
        await client.port_forwarder.create_ports(message.item_hash, Ports(ports={443: PortFlags(tcp=True, udp=False)}))
    return str(message.item_hash)


async def mapped(aleph, item_hash):
    async with asyncio.timeout(30):
        while item_hash not in aleph.world.booted:
            await asyncio.sleep(0.05)
    node = next(node for node in aleph.world.nodes.values() if item_hash in node.vms)
    async with httpx.AsyncClient() as http:
        listed = (await http.get(f"{node.address}/v2/about/executions/list")).json()
    return {port: told["host"] for port, told in listed[item_hash]["networking"]["mapped_ports"].items()}


async def test_an_instance_is_a_machine_with_its_own_ports(standins, monkeypatch, tmp_path):
    monkeypatch.setenv("ALEPH_CONFIG_HOME", str(tmp_path))
    ssh = new_ssh()
    async with AlephDouble(machines=standins) as aleph:
        item_hash = await order(aleph, ssh)
        ports = await mapped(aleph, item_hash)
        assert set(ports) == {"22", "443"}

        async def find():
            return Target("127.0.0.1", ports["22"])

        async def pin(_key):
            return

        await ssh.wait(find, pin, seconds=30)
        async with ssh.shell(find, pin) as shell:
            await shell.run("a page", "busybox httpd -p 443 -h /etc", seconds=10)
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://127.0.0.1:{ports['443']}/hostname")).text.strip() == item_hash[:16]


async def test_the_double_as_a_process_begins_and_ends_without_machines(docker_client, tmp_path):
    prefix = f"baal-vm-test-{secrets.token_hex(3)}-"
    machines = StandIns(docker_client, PREPARED_12, prefix)
    try:
        await machines.start(secrets.token_hex(32), [])
        async with AsyncExitStack() as stack:
            options = ("--machines", "stand-ins", "--prefix", prefix)
            await start_server(stack, "tests.fakes.aleph", *options, log=tmp_path / "log")
            assert names(docker_client, prefix) == [], "what a killed one has left"
            await machines.start(secrets.token_hex(32), [])

        assert names(docker_client, prefix) == []
        assert docker_client.volumes.list(filters={"name": prefix}) == []
    finally:
        remove_all(docker_client, prefix)
