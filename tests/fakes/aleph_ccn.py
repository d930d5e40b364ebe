"""The network's public addresses on one port: message node (CCN), list of nodes, scheduler, gateway."""

import asyncio
import json
from dataclasses import replace
from typing import Any

from aleph_message import parse_message
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from pydantic import ValidationError

from tests.fakes.aleph_rules import take
from tests.fakes.aleph_world import ROOTFS, ZONE, Entry, Node, Status, World, price, subdomain

PAGE = 200
TIME = "2026-11-21T10:00:00Z"
HTTP = {Status.PROCESSED: 200, Status.REJECTED: 422}


def _reply(status: int, body: Any) -> Response[Any]:
    return Response(body, status_code=status, media_type="application/json")


@post("/api/v0/messages")
async def broadcast(request: Request[Any, Any, Any], world: NamedDependency[World]) -> Response[Any]:
    """Take a message."""
    if world.faults.messages_fail:
        return _reply(500, {"publication_status": {"status": "error", "failed": ["p2p", "ipfs"]}})
    body = json.loads(await request.body())
    entry = take(world, body["message"])
    if world.faults.answer_lost:
        await asyncio.Event().wait()
    is_late = not body.get("sync") or world.faults.sync_timeout or entry.status is Status.PENDING
    status = Status.PENDING if is_late and entry.status is not Status.REJECTED else entry.status
    answer: dict[str, Any] = {"publication_status": {"status": "success", "failed": []}, "message_status": status}
    return _reply(202 if status is Status.PENDING else HTTP.get(entry.status, 200), answer)


@get("/api/v0/messages/{item_hash:str}")
async def message(item_hash: FromPath[str], world: NamedDependency[World]) -> Response[Any]:
    """One message and what became of it."""
    if item_hash in ROOTFS.values():
        store = {"type": "STORE", "item_hash": item_hash}
        return _reply(200, {"status": "processed", "item_hash": item_hash, "reception_time": TIME, "message": store})
    entry = world.entries.get(item_hash)
    if entry and entry.type == "INSTANCE" and world.faults.says_removed:
        world.faults.says_removed -= 1
        return _reply(200, _told(replace(entry, status=Status.REMOVED, reason="credit_insufficient")))
    return _reply(200, _told(entry)) if entry else _reply(404, {"detail": "Not found"})


@get("/api/v0/messages/{item_hash:str}/status")
async def status_of(item_hash: FromPath[str], world: NamedDependency[World]) -> Response[Any]:
    """Only its status."""
    entry = world.entries.get(item_hash)
    if entry is None:
        return _reply(404, {"detail": "Not found"})
    return _reply(200, {name: _told(entry)[name] for name in ("status", "item_hash", "reception_time")})


@get("/api/v0/messages.json")
async def messages(request: Request[Any, Any, Any], world: NamedDependency[World]) -> dict[str, Any]:
    """A page of messages; by default those that are processed or about to be removed."""
    wanted = {name: _list(request, name) for name in ("hashes", "addresses", "msgTypes", "channels")}
    statuses = _list(request, "msgStatuses") or {"processed", "removing"}
    page = int(request.query_params.get("page", 1))
    size = min(int(request.query_params.get("pagination", PAGE)), PAGE)
    found = [entry for entry in world.entries.values() if entry.status in statuses and _matches(entry, wanted)]
    return {
        "messages": [_message(entry) for entry in found[(page - 1) * size : page * size]],
        "pagination_page": page,
        "pagination_total": len(found),
        "pagination_per_page": size,
        "pagination_item": "messages",
    }


@get("/api/v0/aggregates/{file:str}")
async def aggregates(
    file: FromPath[str], request: Request[Any, Any, Any], world: NamedDependency[World]
) -> Response[Any]:
    """What an address has put together."""
    if world.faults.aggregates_fail:
        return _reply(500, {"detail": "Internal Server Error"})
    address = file.removesuffix(".json")
    kept = world.aggregates.get(address, {})
    keys = _list(request, "keys")
    found = {key: value for key, value in kept.items() if not keys or key in keys}
    return _reply(200, {"address": address, "data": found}) if found else _reply(404, {"detail": "No aggregate found"})


@get("/api/v0/addresses/{address:str}/balance")
async def balance(address: FromPath[str], world: NamedDependency[World]) -> Response[Any]:
    """Credits of an address."""
    if world.faults.balance_fails:
        return _reply(500, {"detail": "Internal Server Error"})
    body = {"address": address, "balance": "0", "details": {}, "locked_amount": "0"}
    return _reply(200, body | {"credit_balance": world.balance(address)})


@post("/api/v0/price/estimate")
async def estimate(request: Request[Any, Any, Any], world: NamedDependency[World]) -> Response[Any]:
    """What an instance would cost."""
    body = json.loads(await request.body())
    try:
        parse_message(body["message"])
    except (ValidationError, KeyError) as error:
        return _reply(422, {"detail": str(error)})
    if world.faults.estimate == "fails":
        return _reply(500, {"detail": "Internal Server Error"})
    told = _price(json.loads(body["message"]["item_content"]))
    return _reply(200, told | ({"cost": world.faults.estimate} if world.faults.estimate else {}))


@get("/api/v0/price/{item_hash:str}")
async def price_of(item_hash: FromPath[str], world: NamedDependency[World]) -> Response[Any]:
    """What an instance costs."""
    entry = world.entries.get(item_hash)
    if entry is None:
        return _reply(404, {"detail": "Message not found"})
    return (
        _reply(410, {"detail": "Forgotten"}) if entry.status is Status.FORGOTTEN else _reply(200, _price(entry.content))
    )


@get("/crns.json")
async def crns(world: NamedDependency[World]) -> Response[Any]:
    """The list of compute nodes."""
    if world.faults.list_fails:
        return _reply(502, {"detail": "Bad Gateway"})
    return _reply(200, {"last_refresh": "2026-11-21T10:00:00", "crns": [_crn(node) for node in world.nodes.values()]})


@get("/api/v0/allocation/{item_hash:str}")
async def allocation(item_hash: FromPath[str], world: NamedDependency[World]) -> Response[Any]:
    """Where the scheduler has placed a machine (v0)."""
    node = world.nodes.get(world.placed.get(item_hash, ""))
    if node is None:
        return _reply(404, {"detail": "VM not found"})
    told = {"node_id": node.hash, "url": node.address, "ipv6": None, "supports_ipv6": True}
    period = {"start_timestamp": TIME, "duration_seconds": 3600.0}
    return _reply(200, {"vm_hash": item_hash, "vm_type": "instance", "vm_ipv6": None, "node": told, "period": period})


@get("/api/v1/vms/{item_hash:str}")
async def scheduled(item_hash: FromPath[str], world: NamedDependency[World]) -> Response[Any]:
    """Where the scheduler has placed a machine (v1)."""
    if world.faults.scheduler_fails:
        return _reply(503, {"detail": "Service Unavailable"})
    entry = world.entries.get(item_hash)
    return _reply(200, _scheduled(world, entry)) if entry and entry.type == "INSTANCE" else _reply(404, {})


@get("/api/v1/vms")
async def all_scheduled(request: Request[Any, Any, Any], world: NamedDependency[World]) -> dict[str, Any]:
    """The machines of an owner."""
    owner = request.query_params.get("owner")
    found = [_scheduled(world, entry) for entry in world.instances(owner)]
    return {"items": found, "pagination": {"page": 1, "page_size": PAGE, "total_items": len(found), "total_pages": 1}}


@get("/api/v1/nodes/{node_hash:str}")
async def scheduler_node(node_hash: FromPath[str], world: NamedDependency[World]) -> Response[Any]:
    """A node as the scheduler knows it."""
    node = world.nodes.get(node_hash)
    if node is None:
        return _reply(404, {"detail": "Node not found"})
    status = "unreachable" if node.faults.down else "active"
    return _reply(200, {"node_hash": node.hash, "address": node.address, "status": status})


@get("/api/hash/{item_hash:str}")
async def gateway(item_hash: FromPath[str], world: NamedDependency[World]) -> Response[Any]:
    """The public name of a machine."""
    if world.faults.gateway_fails:
        return _reply(502, {"error": "Bad Gateway"})
    entry = world.entries.get(item_hash)
    if entry is None or entry.type != "INSTANCE":
        return _reply(404, {"error": "Instance not found"})
    booted = world.booted.get(item_hash)
    is_active = booted is not None and entry.ended is None and world.time() >= booted + world.faults.gateway_after
    name = world.faults.gateway_says or subdomain(item_hash)
    body = {"instance_hash": item_hash, "subdomain": name, "url": f"{name}.{ZONE}", "ipv6": "2001:db8::1"}
    return _reply(200, body | {"active": is_active})


@get("/instances/list")
async def gateway_instances() -> list[Any]:
    """What the gateway serves, which is nobody's business here."""
    return []


ROUTES = [
    broadcast, message, status_of, messages, aggregates, balance, estimate, price_of,
    crns, allocation, scheduled, all_scheduled, scheduler_node, gateway, gateway_instances,
]  # fmt: skip


def _list(request: Request[Any, Any, Any], name: str) -> set[str]:
    return set(filter(None, request.query_params.get(name, "").split(",")))


def _matches(entry: Entry, wanted: dict[str, set[str]]) -> bool:
    told = {"hashes": entry.hash, "addresses": entry.sender, "msgTypes": entry.type}
    told["channels"] = str(entry.message.get("channel"))
    return all(not values or told[name] in values for name, values in wanted.items())


def _message(entry: Entry) -> dict[str, Any]:
    kept = {name: value for name, value in entry.message.items() if value is not None}
    return kept | {"content": entry.content, "time": float(entry.message["time"]), "confirmed": False, "size": 1}


def _told(entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = {"status": entry.status, "item_hash": entry.hash, "reception_time": TIME}
    if entry.status is Status.REJECTED:
        told |= {"error_code": entry.error_code, "details": entry.details}
    if entry.status is Status.FORGOTTEN:
        told |= {"forgotten_by": entry.forgotten_by}
    if entry.reason:
        told |= {"reason": entry.reason}
    return told | {"message": None if entry.status is Status.FORGOTTEN else _message(entry)}


def _price(content: dict[str, Any]) -> dict[str, Any]:
    cost = price(content)
    told = {"required_tokens": float(cost), "payment_type": "credit", "cost": f"{cost:.18f}", "detail": []}
    return told | {"charged_address": content["address"]}


def _scheduled(world: World, entry: Entry) -> dict[str, Any]:
    seen = [node.hash for node in world.nodes.values() if entry.hash in node.vms]
    placed = world.placed.get(entry.hash)
    status = "removed" if entry.ended else "duplicated" if len(seen) > 1 else "dispatched" if seen else "scheduled"
    return {
        "vm_hash": entry.hash,
        "vm_type": "instance",
        "owner": entry.sender,
        "allocated_node": placed,
        "status": status if placed or entry.ended else "unscheduled",
        "scheduling_status": "ok",
        "migration_target": None,
        "observed_nodes": seen,
    }


def _crn(node: Node) -> dict[str, Any]:
    period = {"start_timestamp": TIME, "duration_seconds": 60.0}
    usage = {
        "cpu": {
            "count": node.cpus,
            "load_average": {"load1": node.load, "load5": node.load, "load15": node.load},
            "core_frequencies": {"min": 2000.0, "max": 3000.0},
        },
        "mem": {"total_kB": node.memory_kb, "available_kB": node.memory_kb // 2},
        "disk": {"total_kB": node.disk_kb, "available_kB": node.disk_kb // 2},
        "period": period,
        "properties": {"cpu": {"architecture": "x86_64", "vendor": "GenuineIntel", "features": []}},
        "gpu": {"devices": [], "available_devices": []},
        "active": True,
    }
    return {
        "hash": node.hash,
        "name": node.name,
        "address": node.address,
        "score": node.score,
        "version": node.version,
        "payment_receiver_address": None,
        "gpu_support": False,
        "confidential_support": False,
        "qemu_support": node.qemu,
        "ipv6_check": {"host": node.ipv6, "vm": node.ipv6},
        "system_usage": usage if node.active else None,
        "compatible_gpus": [],
        "compatible_available_gpus": [],
        "terms_and_conditions": node.terms,
    }
