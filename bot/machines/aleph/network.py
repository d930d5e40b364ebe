"""Read the network's public addresses, and hand it signed messages.

As raw JSON: the SDK's models refuse a whole list for one odd entry (aleph.sdk 2.4: `crn.get_vm` fails when any other
machine of the node has `networking: {}`).
"""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx

from bot.errors import MachineError

SYNC_SECONDS = 60
READ_SECONDS = 15
PROBE_SECONDS = 5
REJECTED = 422
NOT_FOUND = 404
GONE = 410


class NetworkAway(MachineError):
    """An address of the network does not answer, or answers nonsense: nothing is known, ask again."""

    code = "not-reached"


class InstanceStatus(StrEnum):
    """What became of a message, as the message node tells it."""

    UNKNOWN = "unknown"
    PENDING = "pending"
    PROCESSED = "processed"
    REJECTED = "rejected"
    REMOVING = "removing"
    REMOVED = "removed"
    FORGOTTEN = "forgotten"


ENDED = frozenset({InstanceStatus.REJECTED, InstanceStatus.REMOVED, InstanceStatus.FORGOTTEN})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the network says of a message; `error_code` and `details` of one it rejected (pyaleph message_status.py)."""

    status: InstanceStatus
    error_code: int | None = None
    details: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Where an instance's ports are: `host` is its node's, `ssh_port` the one its port 22 is mapped to."""

    host: str
    ssh_port: int
    ipv6: str | None


@dataclass(frozen=True, slots=True)
class Addresses:
    """Base URLs, without a slash at the end; `nodes` is that of the list itself."""

    api: str
    nodes: str
    scheduler: str
    gateway: str


class Network:
    """One client for all of it."""

    def __init__(self, addresses: Addresses, http: httpx.AsyncClient) -> None:
        self._at = addresses
        self._http = http

    async def broadcast(self, message: dict[str, Any]) -> Verdict:
        """Hand a signed message over; the same one again is harmless. `PENDING` when its fate is not known yet."""
        body = {"sync": True, "message": message}
        try:
            answer = await self._http.post(f"{self._at.api}/api/v0/messages", json=body, timeout=SYNC_SECONDS)
        except httpx.HTTPError as error:
            raise NetworkAway(f"broadcast: {type(error).__name__}") from error
        if answer.status_code == REJECTED:
            return await self.verdict(str(message["item_hash"]))
        if answer.status_code >= 400:  # noqa: PLR2004  refusals of HTTP
            raise NetworkAway(f"broadcast: HTTP {answer.status_code}")
        is_processed = answer.status_code == httpx.codes.OK
        return Verdict(InstanceStatus.PROCESSED if is_processed else InstanceStatus.PENDING)

    async def verdict(self, item_hash: str) -> Verdict:
        """What became of a message."""
        found = await self._read(f"{self._at.api}/api/v0/messages/{item_hash}", absent={})
        try:
            status = InstanceStatus(found.get("status", InstanceStatus.UNKNOWN))
        except ValueError as error:
            raise NetworkAway(f"message status {found.get('status')!r}") from error
        return Verdict(status, found.get("error_code"), found.get("details"))

    async def balance(self, address: str) -> int:
        """Whole credits of an address (1 USD = 1,000,000)."""
        found = await self._read(f"{self._at.api}/api/v0/addresses/{address}/balance", absent={})
        return int(found.get("credit_balance", 0))

    async def cost(self, item_hash: str) -> float:
        """Credits per second of an instance; 0 for one that costs nothing any more."""
        found = await self._read(f"{self._at.api}/api/v0/price/{item_hash}", absent={"cost": 0})
        return float(found["cost"])

    async def own_instances(self, address: str, channel: str = "") -> dict[str, dict[str, Any]]:
        """Our instances (of one channel, or all) that the network knows and that are not ended: hash → content."""
        found: dict[str, dict[str, Any]] = {}
        page = 1
        while True:
            query = {"addresses": address, "channels": channel, "msgTypes": "INSTANCE", "page": str(page)}
            query |= {"pagination": "200", "msgStatuses": "pending,processed,removing"}
            asked = {name: value for name, value in query.items() if value}
            listed = await self._read(f"{self._at.api}/api/v0/messages.json", asked)
            messages = listed.get("messages", [])
            found |= {each["item_hash"]: each.get("content") or {} for each in messages}
            if not messages or len(found) >= int(listed.get("pagination_total", 0)):
                return found
            page += 1

    async def nodes(self) -> list[dict[str, Any]]:
        """Every compute node, as the list tells it; any field may be missing."""
        listed = await self._read(self._at.nodes, {"filter_inactive": "true"})
        return [each for each in listed.get("crns", []) if isinstance(each, dict)]

    async def executions(self, node_url: str, *, seconds: float = READ_SECONDS) -> dict[str, Any]:
        """What runs or starts on a node."""
        return await self._read(f"{node_url.rstrip('/')}/v2/about/executions/list", seconds=seconds)

    async def address(self, node_url: str, item_hash: str) -> Address | None:
        """Where an instance is reached; None until its port 22 is mapped: before that, 22 is the node's own sshd."""
        found = (await self.executions(node_url)).get(item_hash) or {}
        networking = found.get("networking") or {}
        port = ((networking.get("mapped_ports") or {}).get("22") or {}).get("host")
        host = networking.get("host_ipv4")
        return Address(str(host), int(port), networking.get("ipv6_ip")) if host and port else None

    async def placed_on(self, item_hash: str) -> str | None:
        """URL of the node that the scheduler has given an instance to."""
        found = await self._read(f"{self._at.scheduler}/api/v1/vms/{item_hash}", absent={})
        node = found.get("allocated_node")
        if not node:
            return None
        told = await self._read(f"{self._at.scheduler}/api/v1/nodes/{node}", absent={})
        return str(told["address"]) if told.get("address") else None

    async def public_name(self, item_hash: str) -> tuple[str, bool]:
        """The instance's name at the gateway, empty if there is none, and whether it works already."""
        found = await self._read(f"{self._at.gateway}/api/hash/{item_hash}", absent={})
        return str(found.get("url", "")), bool(found.get("active"))

    async def _read(
        self,
        url: str,
        query: dict[str, str] | None = None,
        *,
        absent: dict[str, Any] | None = None,
        seconds: float = READ_SECONDS,
    ) -> dict[str, Any]:
        """GET an object; `absent` is what 404 and 410 mean, if they mean something."""
        try:
            async with asyncio.timeout(seconds):
                answer = await self._http.get(url, params=query)
            if answer.status_code in {NOT_FOUND, GONE} and absent is not None:
                return absent
            found = answer.raise_for_status().json()
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            raise NetworkAway(f"{httpx.URL(url).host}: {type(error).__name__}") from error
        if not isinstance(found, dict):
            raise NetworkAway(f"{httpx.URL(url).host}: not an object")
        return found
