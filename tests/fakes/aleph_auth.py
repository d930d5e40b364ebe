"""How a node knows who commands it: a key signed by the wallet, and each operation signed by that key.

The checks, their order and their words are those of aleph-vm (views/authentication.py).
"""

import json
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from eth_account import Account
from eth_account.messages import encode_defunct

CLOCK_DRIFT = timedelta(minutes=2)


@dataclass
class Denied(Exception):
    """The node refuses: an HTTP status and its words."""

    status: int
    text: str


def require_wallet(headers: Any, *, method: str, path: str, domain: str) -> str:
    """The address whose wallet signed the key that signed this operation."""
    public = _json(headers, "x-signedpubkey", "Missing X-SignedPubKey header", "Invalid X-SignedPubKey format")
    operation = _json(headers, "x-signedoperation", "Missing X-SignedOperation header", "Invalid X-SignedOperation")
    key = json.loads(bytes.fromhex(public["payload"]))
    if _time(key["expires"]) < datetime.now(UTC):
        raise Denied(401, "Token expired")
    signer = Account.recover_message(encode_defunct(hexstr=public["payload"]), signature=public["signature"])
    if signer.lower() != public["sender"].lower() or signer.lower() != key["address"].lower():
        raise Denied(401, "Invalid signature")
    signed = bytes.fromhex(operation["payload"])
    said = json.loads(signed)
    if abs(_time(said["time"]) - datetime.now(UTC)) > CLOCK_DRIFT:
        raise Denied(400, "Invalid X-SignedOperation time")
    if key["domain"] != domain or said["domain"] != domain:
        raise Denied(401, "Invalid domain")
    if said["path"] != path:
        raise Denied(401, "Invalid path")
    if said["method"] != method:
        raise Denied(401, "Invalid method")
    _verify(key["pubkey"], signed, bytes.fromhex(operation["signature"]))
    return str(signer)


def _verify(public: dict[str, Any], payload: bytes, signature: bytes) -> None:
    try:
        numbers = ec.EllipticCurvePublicNumbers(_number(public["x"]), _number(public["y"]), ec.SECP256R1())
        half = len(signature) // 2
        pair = (int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
        numbers.public_key().verify(encode_dss_signature(*pair), payload, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError, KeyError) as error:
        raise Denied(401, "Signature could not verified") from error


def _number(text: str) -> int:
    return int.from_bytes(urlsafe_b64decode(text + "=="))


def _json(headers: Any, name: str, missing: str, wrong: str) -> dict[str, Any]:
    value = headers.get(name)
    if value is None:
        raise Denied(400, missing)
    try:
        parsed = json.loads(value)
    except ValueError as error:
        raise Denied(400, wrong) from error
    if not isinstance(parsed, dict):
        raise Denied(400, wrong)
    return parsed


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)
