"""Sign for the network, by its SDK. Imported only where machines come from Aleph: it costs 2 s and 50 MB."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from aleph.sdk.chains.ethereum import ETHAccount
from aleph.sdk.client import AuthenticatedAlephHttpClient
from aleph.sdk.client.vm_client import VmClient
from aleph.sdk.utils import make_instance_content
from aleph_message.models import AggregateContent, ForgetContent, ItemHash, MessageType, Payment, PaymentType
from aleph_message.models.execution.environment import HostRequirements, NodeRequirements
from pydantic import SecretStr

from bot.errors import BadSettings
from bot.machines.aleph.network import PORTS_KEY
from bot.machines.aleph.nodes import Size

Command = Callable[[VmClient], Awaitable[tuple[int | None, str]]]

NODE_SECONDS = 15
MADE_BY = "baal"
FIELDS = {"sender", "chain", "signature", "type", "item_hash", "item_type", "item_content", "time", "channel"}


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of the network: an instance on a node, opened by an SSH key, under a name of ours."""

    machine_id: str
    node_hash: str
    rootfs: str
    size: Size
    ssh_key: str


class Wallet:
    """The operator's wallet; `channel` keeps what this deployment makes apart from everything else of that wallet."""

    def __init__(self, private_key: SecretStr, channel: str) -> None:
        self._account = _account(private_key)
        self._channel = channel

    @property
    def address(self) -> str:
        """Who pays."""
        return str(self._account.get_address())

    async def instance(self, order: Order) -> dict[str, Any]:
        """Sign an instance; nothing is sent."""
        content = make_instance_content(
            address=self.address,
            rootfs=order.rootfs,
            rootfs_size=order.size.disk,
            vcpus=order.size.vcpus,
            memory=order.size.memory,
            payment=Payment(type=PaymentType.credit),  # the SDK's default, holding tokens, is rejected since 2026-03
            ssh_keys=[order.ssh_key],
            metadata={"name": order.machine_id, "made_by": MADE_BY},
            requirements=HostRequirements(node=NodeRequirements(node_hash=order.node_hash)),
        )
        return await self._signed(MessageType.instance, content.model_dump(exclude_none=True))

    async def forget(self, item_hash: str, reason: str) -> dict[str, Any]:
        """Sign that an instance shall be forgotten."""
        content = ForgetContent(hashes=[ItemHash(item_hash)], reason=reason, address=self.address, time=time.time())
        return await self._signed(MessageType.forget, content.model_dump(exclude_none=True))

    async def ports(self, item_hash: str, port: int | None) -> dict[str, Any]:
        """Sign that a TCP port of an instance shall be reachable at its node; None: none any more."""
        ports = {"ports": {str(port): {"tcp": True, "udp": False}}} if port else None
        content = AggregateContent(key=PORTS_KEY, content={item_hash: ports}, address=self.address, time=time.time())
        return await self._signed(MessageType.aggregate, content.model_dump())  # its None is the message

    async def reserve(self, node_url: str, content: dict[str, Any]) -> int | None:
        """Have a node hold room for an instance; the HTTP status of its answer, None if there is none."""
        return await self._operate(node_url, lambda node: node.reserve_resources(content))

    async def erase(self, node_url: str, item_hash: str) -> bool:
        """Have the node end an instance and its volumes; whether it says so. It keeps the root disk."""
        return await self._operate(node_url, lambda node: node.erase_instance(ItemHash(item_hash))) in {200, 404}

    async def _operate(self, node_url: str, command: Command) -> int | None:
        # A client of its own each time: its signed key names one node, and expires.
        try:
            async with asyncio.timeout(NODE_SECONDS), VmClient(self._account, node_url) as node:
                status, _ = await command(node)
        except (aiohttp.ClientError, OSError, ValueError):
            return None
        return status

    async def _signed(self, kind: MessageType, content: dict[str, Any]) -> dict[str, Any]:
        async with AuthenticatedAlephHttpClient(self._account, api_server="http://unused.invalid") as signer:
            message = await signer.generate_signed_message(message_type=kind, content=content, channel=self._channel)
        # In numbers, as the network wants it; pydantic would write a date.
        return {**message.model_dump(mode="json", include=FIELDS), "time": message.time.timestamp()}


def _account(private_key: SecretStr) -> ETHAccount:
    text = private_key.get_secret_value().strip().removeprefix("0x")
    try:
        return ETHAccount(private_key=bytes.fromhex(text))
    except Exception:  # noqa: BLE001  whatever the libraries raise may quote the key
        raise BadSettings("ALEPH_PRIVATE_KEY is not a private key of Ethereum (64 hexadecimal digits)") from None


MakeWallet = Callable[[SecretStr, str], Wallet]
