"""Containers for tests: the image built once for all, each container with a name of its own and gone afterwards."""

import fcntl
import io
import os
import secrets
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import docker
import httpx
from docker.models.containers import Container

from bot.machines.container import confinement

ROOT = Path(__file__).resolve().parent.parent
AGENT_IMAGE = os.environ.get("IMAGE_UNDER_TEST", "baal/agent:dev")
"""`make image-check` and `make release` name the one that they have built."""
BOT_IMAGE = "baal/bot:dev"
SECRET = "the-agents-own-secret-7f3a"
KEY = "LTAI_the_owners_key_91c2"
ENVIRONMENT = {
    "AGENT_NAME": "Ada",
    "AGENT_JOB": "Help with sums.",
    "AGENT_MODEL": "qwen3.6-35b-a3b",
    "AGENT_SECRET": SECRET,
    "LLM_API_KEY": KEY,
    "TLS_MODE": "plain",
}
AGENT, CADDY, TOOL = 10001, 10002, 10003
START_SECONDS = 30
_CROWD = Path(tempfile.gettempdir()) / "baal-tests-tools.lock"


def build(image: str, folder: Path) -> None:
    """`make image` for one of the two, once at a time: the test processes share one Docker."""
    if "IMAGE_UNDER_TEST" in os.environ:
        return
    with (folder / f"{image}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = ("make", "image", f"WHAT={image}")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def image_names(client: docker.DockerClient, start: str) -> list[str]:
    """Tags and digests that begin so. Not by `images.list`, which fails where another process removes one meanwhile."""
    listed = [[*(image["RepoTags"] or []), *(image["RepoDigests"] or [])] for image in client.api.images()]
    return [name for names in listed for name in names if name.startswith(start)]


@dataclass(frozen=True)
class Ran:
    """How a command in a container ended. `how` is the launcher's account of it."""

    code: int
    output: str
    how: str = ""


class Box:
    """One container of the agent image, as its engine runs it."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self._is_alone = False

    def url(self, port: int = 80, scheme: str = "http") -> str:
        """Where a port of it is published on loopback."""
        self.container.reload()
        published: Any = self.container.ports[f"{port}/tcp"]
        return f"{scheme}://127.0.0.1:{published[0]['HostPort']}"

    def run(self, *command: str, user: int = 0, environment: Mapping[str, str] | None = None) -> Ran:
        """A command beside the agent, as `docker exec` does it."""
        ran: Any = self.container.exec_run(list(command), user=str(user), environment=dict(environment or {}))
        return Ran(ran.exit_code, ran.output.decode(errors="replace"))

    def tool(self, *command: str, seconds: float = 20, folder: str = ".") -> Ran:
        """A tool call: the agent asks the launcher."""
        asked = ("python", "-m", "agent.sandbox", "--seconds", str(seconds), "--folder", folder, *command)
        with self.beside_others():
            ran: Any = self.container.exec_run(list(asked), user=str(AGENT), demux=True)
        output, how = ran.output
        return Ran(ran.exit_code, (output or b"").decode(errors="replace"), (how or b"").decode(errors="replace"))

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        """Tools run here at the same time as those of other test processes."""
        if self._is_alone:
            yield
        else:
            with _CROWD.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH)
                yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No tools run anywhere else: Linux counts a user's processes over all containers of a host."""
        with _CROWD.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._is_alone = True
            try:
                yield
            finally:
                self._is_alone = False

    def logs(self) -> str:
        """Everything it wrote."""
        return self.container.logs().decode(errors="replace")

    def end(self) -> int:
        """Wait for its end; the exit code."""
        return int(self.container.wait(timeout=START_SECONDS)["StatusCode"])

    def is_running(self) -> bool:
        """Now."""
        self.container.reload()
        return bool(self.container.status == "running")

    def wait_healthy(self, client: httpx.Client | None = None, url: str | None = None) -> httpx.Response:
        """Until it answers through Caddy."""
        client = client or httpx.Client()
        with client:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    response = client.get(f"{url or self.url()}/health")
                    if response.status_code == httpx.codes.OK:
                        return response
                except httpx.TransportError:
                    assert self.is_running(), self.logs()
                assert time.monotonic() < deadline, self.logs()


class Boxes:
    """Makes containers, and removes them with their volumes."""

    def __init__(self, client: docker.DockerClient) -> None:
        self.client = client
        self._made: list[Container] = []

    def create(self, environment: Mapping[str, str | None] | None = None, **options: Any) -> Box:
        """A container that has not started yet. A variable that is None is left out."""
        variables = {name: value for name, value in {**ENVIRONMENT, **(environment or {})}.items() if value is not None}
        settings = {
            **confinement(),
            "name": f"baal-test-{secrets.token_hex(4)}",
            "environment": [f"{name}={value}" for name, value in variables.items()],
            "ports": {"80/tcp": ("127.0.0.1", None), "443/tcp": ("127.0.0.1", None)},
            "restart_policy": None,
            **options,
        }
        container = self.client.containers.create(settings.pop("image", AGENT_IMAGE), **settings)
        self._made.append(container)
        return Box(container)

    def start(self, environment: Mapping[str, str | None] | None = None, **options: Any) -> Box:
        """A running container."""
        box = self.create(environment, **options)
        box.container.start()
        return box

    def remove(self) -> None:
        """All of them."""
        for container in self._made:
            with suppress(docker.errors.NotFound):  # a test removed it itself
                container.remove(force=True, v=True)


def gateway(client: docker.DockerClient, network: str = "bridge") -> str:
    """This host's address on a network of containers; only they reach it."""
    config = client.networks.get(network).attrs["IPAM"]["Config"][0]
    return str(config.get("Gateway") or next(ip_network(config["Subnet"]).hosts()))


def put(container: Container, folder: str, files: Mapping[str, bytes], *, user: int, mode: int = 0o400) -> None:
    """Files into a container (also one that has not started) with an owner."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(data), mode, user, user
            archive.addfile(entry, io.BytesIO(data))
    container.put_archive(folder, buffer.getvalue())


def boxes_of(client: docker.DockerClient) -> Iterator[Boxes]:
    """For fixtures."""
    boxes = Boxes(client)
    try:
        yield boxes
    finally:
        boxes.remove()
