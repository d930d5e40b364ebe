"""Read the network's public addresses, and hand it signed messages.

As raw JSON: the SDK's models refuse a whole list for one odd entry (aleph.sdk 2.4: `crn.get_vm` fails when any other
machine of the node has `networking: {}`).
"""

import asyncio
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx

from bot.errors import MachineError
from bot.machines.aleph.names import ZONE

SYNC_SECONDS = 60
READ_SECONDS = 15
MAX_BYTES = 32 * 1024 * 1024
"""Of an answer: nodes are strangers."""
OWN_SSH_PORT = 22
PORTS_KEY = "port-forwarding"
NO_SIGNATURE = "0x" + "0" * 130
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
    """Where an instance is reached: `host` is its node's, the ports are those that its 22 and 443 are mapped to."""

    host: str
    ssh_port: int
    ipv6: str | None = None
    https_port: int | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """The node that the scheduler has given an instance to."""

    hash: str
    url: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """Base URLs, without a slash at the end; `nodes` is that of the list itself, `zone` the gateway's domain."""

    api: str
    nodes: str
    scheduler: str
    gateway: str
    zone: str = ZONE


class Network:
    """One client for all of it."""

    def __init__(self, addresses: Addresses, http: httpx.AsyncClient) -> None:
        self._at = addresses
        self._http = http

    @property
    def zone(self) -> str:
        """The gateway's domain."""
        return self._at.zone

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
        return int(_number(found.get("credit_balance", 0)))

    async def cost(self, item_hash: str) -> float:
        """Credits per second of an instance; 0 for one that costs nothing any more."""
        found = await self._read(f"{self._at.api}/api/v0/price/{item_hash}", absent={"cost": 0})
        return _number(found.get("cost"))

    async def estimate(self, message: dict[str, Any]) -> float | None:
        """Credits per second that an instance would cost; None if the network does not say."""
        # Without its signature: nobody shall be able to order what is not in our books yet.
        draft = {**message, "content": json.loads(message["item_content"]), "signature": NO_SIGNATURE}
        try:
            found = await self._ask("POST", f"{self._at.api}/api/v0/price/estimate", json={"message": draft})
            return _number(found.get("cost"))
        except NetworkAway:
            return None

    async def ports(self, address: str) -> dict[str, Any]:
        """What ports are forwarded for the instances of an address: hash → ports, or None for what was removed."""
        url = f"{self._at.api}/api/v0/aggregates/{address}.json"
        found = await self._read(url, {"keys": PORTS_KEY}, absent={})
        return (found.get("data") or {}).get(PORTS_KEY) or {}

    async def update(self, node_url: str, item_hash: str) -> None:
        """Have a node look again which ports it should forward."""
        await self._ask("POST", f"{node_url.rstrip('/')}/control/machine/{item_hash}/update")

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
        networking = _object(_object((await self.executions(node_url)).get(item_hash)).get("networking"))
        host, ssh_port = networking.get("host_ipv4"), _mapped(networking, "22")
        if not host or ssh_port is None or ssh_port == OWN_SSH_PORT:
            return None
        return Address(str(host), ssh_port, networking.get("ipv6_ip"), _mapped(networking, "443"))

    async def placed_on(self, item_hash: str) -> Placement | None:
        """The node that the scheduler has given an instance to."""
        found = await self._read(f"{self._at.scheduler}/api/v1/vms/{item_hash}", absent={})
        node = found.get("allocated_node")
        if not node:
            return None
        told = await self._read(f"{self._at.scheduler}/api/v1/nodes/{node}", absent={})
        return Placement(str(node), str(told["address"])) if told.get("address") else None

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
        return await self._ask("GET", url, absent=absent, seconds=seconds, params=query)

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        absent: dict[str, Any] | None = None,
        seconds: float = READ_SECONDS,
        **more: Any,
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(seconds), self._http.stream(method, url, **more) as answer:
                if answer.status_code in {NOT_FOUND, GONE} and absent is not None:
                    return absent
                found = json.loads(await _body(answer.raise_for_status()))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            raise NetworkAway(f"{_host(url)}: {type(error).__name__}") from error
        if not isinstance(found, dict):
            raise NetworkAway(f"{_host(url)}: not an object")
        return found


async def _body(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > MAX_BYTES:
            raise ValueError(f"an answer of more than {MAX_BYTES} bytes")
    return bytes(body)


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _mapped(networking: dict[str, Any], port: str) -> int | None:
    found = _object(_object(networking.get("mapped_ports")).get(port)).get("host")
    return found if isinstance(found, int) else None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise NetworkAway(f"not an amount: {value!r}") from error


def _object(value: Any) -> dict[str, Any]:
    """What a node says need not be what it should be."""
    return value if isinstance(value, dict) else {}
