"""One compute node (CRN) on a port of its own, as aleph-vm's supervisor answers."""

import asyncio
import json
from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from tests.fakes.aleph_auth import Denied, require_wallet
from tests.fakes.aleph_world import Entry, Node, Status, Vm, World, pinned, price

HOUR = 3600
ALIEN = "a" * 64


def _reply(status: int, body: Any) -> Response[Any]:
    media_type = "text/plain" if isinstance(body, str) else "application/json"
    return Response(body, status_code=status, media_type=media_type)


@get("/v2/about/executions/list")
async def executions(world: NamedDependency[World], node: NamedDependency[Node]) -> dict[str, Any]:
    """Every machine that runs or starts."""
    told = {vm.item_hash: _execution(world, vm) for vm in node.vms.values() if not vm.stopped}
    if node.faults.alien:
        told[ALIEN] = {"networking": {}, "status": _times(0), "running": False, "vm_type": "instance"}
    return told


@get("/about/executions/list")
async def executions_v1(node: NamedDependency[Node]) -> dict[str, Any]:
    """Those that run, without ports."""
    networks = {"ipv4": "172.16.4.0/24", "ipv6": "2001:db8::/124"}
    return {vm.item_hash: {"networking": networks} for vm in node.vms.values() if vm.ports and not vm.stopped}


@post("/control/allocation/notify", status_code=200)
async def notify(
    request: Request[Any, Any, Any], world: NamedDependency[World], node: NamedDependency[Node]
) -> Response[Any]:
    """Start an instance, if it is here that it belongs. Anybody may ask."""
    fault = node.faults.notify
    if fault == "hang":
        await asyncio.Event().wait()
    if fault == "500":
        return _reply(500, {"error": "boom", "error_type": "RuntimeError"})
    if fault == "503":
        return _reply(503, {"error": "This CRN cannot host the requested instance at this time."})
    item_hash = json.loads(await request.body()).get("instance", "")
    entry = world.entries.get(item_hash)
    if entry is None or entry.status is not Status.PROCESSED or fault == "404":
        return _reply(404, {"error": "Message not found"})
    refused = _refuse(world, node, entry)
    if refused:
        return refused
    await world.boot(entry, node)
    return _reply(200, {"success": True, "successful": [item_hash], "failing": [], "errors": {}})


def _refuse(world: World, node: Node, entry: Entry) -> Response[Any] | None:
    if entry.type != "INSTANCE":
        return _reply(400, {"error": "Message is not an instance"})
    if pinned(entry.content) not in (None, node.hash):
        return _reply(400, {"error": "Instance is allocated to a different node"})
    if world.balance(entry.sender) < price(entry.content) * HOUR:
        return _reply(402, {"error": "Insufficient credits for this instance"})
    return None


@post("/control/reserve_resources", status_code=200)
async def reserve(request: Request[Any, Any, Any], node: NamedDependency[Node]) -> Response[Any]:
    """Hold room for an instance."""
    _wallet(request, node)
    if node.faults.reserve == "503":
        return _reply(503, {"error": "Insufficient resources"})
    content = json.loads(await request.body())
    if "resources" not in content:
        return _reply(400, {"error": "Body is not an instance content"})
    return _reply(200, {"status": "reserved", "expires": "2026-11-21T10:05:00Z"})


@post("/control/machine/{item_hash:str}/update", status_code=200)
async def update(item_hash: FromPath[str], node: NamedDependency[Node]) -> Response[Any]:
    """Read the aggregate of ports again."""
    if item_hash not in node.vms:
        return _reply(404, {"error": f"No virtual machine with ref {item_hash}"})
    if node.vms[item_hash].ports is None:
        return _reply(200, {"status": "ok", "msg": "VM not starting yet"})
    return _reply(200, {})


@post("/control/machine/{item_hash:str}/{operation:str}", status_code=200)
async def operate(
    item_hash: FromPath[str],
    operation: FromPath[str],
    request: Request[Any, Any, Any],
    world: NamedDependency[World],
    node: NamedDependency[Node],
) -> Response[Any]:
    """Stop, reboot or erase a machine, for its owner."""
    wallet = _wallet(request, node)
    if operation not in {"stop", "reboot", "erase", "reinstall"}:
        return _reply(404, "404: Not Found")
    if operation == "erase" and node.faults.erase == "500":
        return _reply(500, {"error": "boom", "error_type": "RuntimeError"})
    vm, entry = node.vms.get(item_hash), world.entries.get(item_hash)
    if vm is None or entry is None:
        return _reply(404, {"error": f"No virtual machine with ref {item_hash}"})
    if entry.sender.lower() != wallet.lower():
        return _reply(403, "Unauthorized sender")
    if operation in {"stop", "erase"}:
        vm.stopped = True
        await world.machines.stop(item_hash)
    words = {"stop": "Stopped", "reboot": "Rebooted", "erase": "Erased", "reinstall": "Reinstalled"}[operation]
    return _reply(200, f"{words} VM with ref {item_hash}")


ROUTES = [executions, executions_v1, notify, reserve, update, operate]


def _wallet(request: Request[Any, Any, Any], node: Node) -> str:
    try:
        return require_wallet(request.headers, method=request.method, path=request.url.path, domain=node.domain)
    except (KeyError, ValueError, TypeError) as error:
        raise Denied(400, "Invalid X-SignedPubKey fields") from error


def denied(_: Request[Any, Any, Any], error: Denied) -> Response[Any]:
    """What a node answers to who may not."""
    return _reply(error.status, {"error": error.text})


def _execution(world: World, vm: Vm) -> dict[str, Any]:
    is_up = vm.ports is not None
    networking: dict[str, Any] = {}
    if is_up:
        mapped = {} if vm.node.faults.no_port else world.mapped_ports(vm)
        ports = {str(port): {"host": host, "tcp": True, "udp": False} for port, host in mapped.items()}
        networking = {
            "ipv4_network": "172.16.4.0/24",
            "host_ipv4": "127.0.0.1",
            "ipv6_network": "2001:db8::/124",
            "ipv6_ip": "2001:db8::1",
            "ipv4_ip": "172.16.4.2",
            "mapped_ports": ports,
        }
    return {
        "networking": networking,
        "status": _times(vm.started_at),
        "running": is_up,
        "awaiting_confidential_init": False,
        "vm_type": "instance",
    }


def _times(at: float) -> dict[str, Any]:
    begun = ("defined_at", "preparing_at", "prepared_at", "starting_at", "started_at")
    return dict.fromkeys(begun, at) | dict.fromkeys(("stopping_at", "stopped_at"))
