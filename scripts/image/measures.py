"""Measure the images: how large, how soon there, how much memory, how long until a change is out."""

import gzip
import json
import secrets
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import httpx
from docker.models.containers import Container

from bot.machines.container import confinement
from scripts.image import registry, source
from scripts.image.build import build
from scripts.image.commands import Refused, output, run
from scripts.image.push import push

MB = 1_000_000
STARTS = 3
START_SECONDS = 60
SETTLE_SECONDS = 20
SETTLED_BYTES = 200_000
ENVIRONMENT = {
    "AGENT_NAME": "Ada",
    "AGENT_JOB": "Be measured.",
    "AGENT_MODEL": "none",
    "AGENT_SECRET": secrets.token_urlsafe(24),
    "LLM_API_KEY": secrets.token_urlsafe(24),
    "TLS_MODE": "plain",
}


def measure(references: dict[str, str], tree: Path) -> dict[str, float]:
    """Everything of `limits.MEASURES` that can be measured here; `tree` is what the images were built of."""
    values: dict[str, float] = {}
    with _place() as place:
        for what, reference in references.items():
            layers = layer_bytes(reference, place)
            values[f"{what}_compressed"] = sum(layers) / MB
            values[f"{what}_layers"] = len(layers)
        if "agent" in references:
            values |= _running(references["agent"]) | _changed(tree, place)
    return values


@contextmanager
def _place() -> Iterator[str | None]:
    """A registry to push to, where there can be one."""
    if not registry.is_installed():
        yield None
        return
    with registry.loopback_registry() as place:
        yield place


def layer_bytes(reference: str, place: str | None) -> list[int]:
    """The compressed size of each layer: as pushed to that registry, or else as gzip makes them."""
    if place is None:
        return _gzipped(reference)
    with _tagged(reference, f"{place}/measured/{secrets.token_hex(4)}:now") as pushed:
        push(pushed)
        manifest = json.loads(output("docker", "manifest", "inspect", "--insecure", pushed))
    return [layer["size"] for layer in manifest["layers"]]
