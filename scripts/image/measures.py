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
from typing import IO, Any

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


def _gzipped(reference: str) -> list[int]:
    with tempfile.TemporaryDirectory(prefix="baal-layers-") as folder:
        run("docker", "save", "--output", f"{folder}/image.tar", reference)
        with tarfile.open(f"{folder}/image.tar") as archive:
            names = json.load(_member(archive, "manifest.json"))[0]["Layers"]
            return [len(gzip.compress(_member(archive, name).read(), compresslevel=6)) for name in names]


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    if found is None:
        raise Refused(f"a saved image without {name}")
    return found


COUNT = (
    "cd /sys/fs/cgroup; if [ -f memory.current ]; then cat memory.current memory.stat; "
    "else cat memory/memory.usage_in_bytes memory/memory.stat; fi"
)
"""Bytes in use, then the details, by cgroup version 2 or 1."""


@contextmanager
def _tagged(reference: str, name: str) -> Iterator[str]:
    run("docker", "tag", reference, name)
    try:
        yield name
    finally:
        output("docker", "image", "rm", name)


def _running(reference: str) -> dict[str, float]:
    client = docker.from_env()
    starts = []
    try:
        for _ in range(STARTS):
            with _container(client, reference) as (container, seconds):
                starts.append(seconds)
                memory = _settled_memory(container) if len(starts) == STARTS else 0
    finally:
        client.close()
    return {"start": min(starts), "idle_memory": memory / MB}


@contextmanager
def _container(client: docker.DockerClient, reference: str) -> Iterator[tuple[Container, float]]:
    """A running agent, and the seconds from asking for it to its first answer."""
    options: dict[str, Any] = {
        **confinement(),
        "name": f"baal-measured-{secrets.token_hex(4)}",
        "environment": ENVIRONMENT,
        "ports": {"80/tcp": ("127.0.0.1", None)},
    }
    begun = time.monotonic()
    container = client.containers.create(reference, **options)
    try:
        container.start()
        _wait_for_answer(container, begun + START_SECONDS)
        yield container, time.monotonic() - begun
    finally:
        container.remove(force=True, v=True)


def _wait_for_answer(container: Container, deadline: float) -> None:
    container.reload()
    url = f"http://127.0.0.1:{container.attrs['NetworkSettings']['Ports']['80/tcp'][0]['HostPort']}/health"
    with httpx.Client() as client:
        while not _answers(client, url):
            container.reload()
            if container.status == "exited" or time.monotonic() > deadline:
                raise Refused(f"the agent does not answer: {container.logs(tail=1).decode().strip()}")
            time.sleep(0.01)


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).is_success
    except httpx.TransportError:
        return False


def _settled_memory(container: Container) -> int:
    """Bytes of the container's cgroup without file cache that may go, once they hold still."""
    deadline = time.monotonic() + SETTLE_SECONDS
    before, now = 0, _memory(container)
    while abs(now - before) > SETTLED_BYTES and time.monotonic() < deadline:
        before, now = now, _memory(container)  # Docker takes its time for each, a second or two
    return now


def _memory(container: Container) -> int:
    """As the container sees it itself: Docker's own count ends on hosts whose cgroups somebody else has mounted too."""
    ran: Any = container.exec_run(["sh", "-c", COUNT])
    used, *lines = ran.output.decode().splitlines()
    details = {name: int(value) for name, value in (line.split() for line in lines)}
    return int(used) - details.get("total_inactive_file", details["inactive_file"])


def _changed(tree: Path, place: str | None) -> dict[str, float]:
    """What one changed line of code costs."""
    repository = f"{place or 'baal'}/measured-{secrets.token_hex(4)}"
    before, after = f"{repository}:before", f"{repository}:after"
    with source.copied(tree) as context:
        build("agent", before, context=context, revision="measured")
        _change_code(context)
        begun = time.monotonic()
        build("agent", after, context=context, revision="measured")
        values = {"rebuild": time.monotonic() - begun}
    try:
        if place:
            push(before)
            begun = time.monotonic()
            push(after)
            values["push"] = time.monotonic() - begun
        return values | {"changed_layers": len(_layers(after) - _layers(before))}
    finally:
        output("docker", "image", "rm", before, after)


def _change_code(context: Path) -> None:
    with (context / "agent" / "app.py").open("a") as code:
        code.write(f'\nMEASURED = "{secrets.token_hex(4)}"\n')


def _layers(reference: str) -> set[str]:
    return set(json.loads(output("docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", reference)))
