"""What the CCN does with a message: what it checks, in which order, and its error codes (pyaleph message_status.py)."""

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from aleph_message import parse_message
from eth_account import Account
from eth_account.messages import encode_defunct
from pydantic import ValidationError

from tests.fakes.aleph_world import ROOTFS, Entry, Status, World, price

FORMAT, SIGNATURE, PERMISSION, CREDIT = 0, 1, 2, 6
PAYMENT_METHOD, ROOTFS_UNKNOWN = 202, 301
FORGET_TARGET = 501
DAY = 86_400
RETRY_SECONDS = 0.5
MAX_INLINE = 200_000


@dataclass
class Wrong(Exception):
    """The message is rejected."""

    code: int
    errors: list[Any]


def take(world: World, message: dict[str, Any]) -> Entry:
    """Check a message and act on it; the same one again changes nothing unless it was rejected (it is retried then)."""
    entry = Entry(message, {}, Status.PENDING, world.time())
    world.posts.append(entry.hash)
    known = world.entries.get(entry.hash)
    try:
        _check_envelope(message)
        if known and known.status is not Status.REJECTED:
            return known
        entry.content = json.loads(message["item_content"])
        _act(world, entry)
    except Wrong as wrong:
        entry.status, entry.error_code, entry.details = Status.REJECTED, wrong.code, {"errors": wrong.errors}
        if known:
            return entry
    world.entries[entry.hash] = entry
    return entry


def _check_envelope(message: dict[str, Any]) -> None:
    try:
        parse_message(message | {"content": json.loads(message["item_content"])})
    except (ValidationError, ValueError, KeyError) as error:
        raise Wrong(FORMAT, [str(error)]) from error
    if not isinstance(message["time"], int | float):
        raise Wrong(FORMAT, ["time is not a number"])
    if hashlib.sha256(message["item_content"].encode()).hexdigest() != message["item_hash"]:
        raise Wrong(FORMAT, ["item_hash is not the SHA-256 of item_content"])
    signed = "\n".join([message["chain"], message["sender"], message["type"], message["item_hash"]])
    try:
        signer = Account.recover_message(encode_defunct(text=signed), signature=message["signature"])
    except Exception as error:
        raise Wrong(SIGNATURE, ["invalid signature"]) from error
    if signer != message["sender"]:
        raise Wrong(SIGNATURE, ["signed by another address"])


def _act(world: World, entry: Entry) -> None:
    if entry.content.get("address") != entry.sender:
        raise Wrong(PERMISSION, ["content.address is not the sender"])
    {"INSTANCE": _instance, "FORGET": _forget, "AGGREGATE": _aggregate}[entry.type](world, entry)


def _instance(world: World, entry: Entry) -> None:
    content = entry.content
    if world.faults.reject:
        raise Wrong(world.faults.reject, ["refused"])
    if (content.get("payment") or {}).get("type") != "credit":
        raise Wrong(PAYMENT_METHOD, ["Only credit payments are accepted since 2026-03-11"])
    reference = content["rootfs"]["parent"]["ref"]
    if reference not in ROOTFS.values():
        raise Wrong(ROOTFS_UNKNOWN, [reference])
    require_day(world, entry.sender, content)
    if world.faults.process_after:
        world.spawn(_process_later(world, entry))
    else:
        world.process(entry)


def require_day(world: World, address: str, content: dict[str, Any]) -> None:
    """The 24-hour rule: what runs and the new one must be paid for a day."""
    per_second = price(content) + sum(price(running.content) for running in world.running(address))
    required, balance = per_second * DAY, world.balance(address)
    if required > balance:
        error = {"required_credits": str(required), "account_credits": str(balance), "min_runtime_days": 1}
        raise Wrong(CREDIT, [error])


async def _process_later(world: World, entry: Entry) -> None:
    await asyncio.sleep(world.faults.process_after)
    world.process(entry)


def _forget(world: World, entry: Entry) -> None:
    for item_hash in entry.content["hashes"]:
        target = world.entries.get(item_hash)
        if target is None or target.status not in {Status.PROCESSED, Status.REMOVING}:
            world.spawn(_not_found_later(entry, item_hash))
            return  # pending: the target is looked for again and again
        if target.sender != entry.sender:
            raise Wrong(PERMISSION, [f"cannot forget {item_hash}"])
        target.forgotten_by.append(entry.hash)
        world.end(target, Status.FORGOTTEN)
    entry.status = Status.PROCESSED


async def _not_found_later(entry: Entry, item_hash: str) -> None:
    await asyncio.sleep(RETRY_SECONDS)
    entry.status, entry.error_code, entry.details = Status.REJECTED, FORGET_TARGET, {"errors": [item_hash]}


def _aggregate(world: World, entry: Entry) -> None:
    kept = world.aggregates.setdefault(entry.sender, {}).setdefault(entry.content["key"], {})
    kept.update(entry.content["content"])
    entry.status = Status.PROCESSED
