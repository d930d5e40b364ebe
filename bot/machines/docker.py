"""Run an agent as a container, by Docker's own SDK: on this host's daemon, or on one behind a forwarded socket.

The SDK blocks, so every call is in a thread; also its constructor asks the daemon something.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.models.images import Image

from bot.errors import MachineError, NotStarted
from bot.machines import health
from bot.machines.container import FINGERPRINT, MACHINE, PORT, STOP_SECONDS, confinement, volumes
from bot.machines.engine import Inspection, RunState, Spec
from bot.machines.provider import Place

LOCAL = "unix:///var/run/docker.sock"
START_SECONDS = 60.0
POLL_SECONDS = 0.05
CALL_SECONDS = 60
MAX_VARIABLE_BYTES = 131_071
"""Of `NAME=value`: Linux starts no program with a longer one (MAX_ARG_STRLEN)."""
PORT_ATTEMPTS = 5


class DockerEngine:
    """One container per machine, found again by its name."""

    def __init__(self, host: str = LOCAL, network: str = "") -> None:
        """`host` as in DOCKER_HOST. With a `network`, agents join it and answer by name; else on a port of loopback."""
        self._host = host
        self._network = network
        self._client: docker.DockerClient | None = None
        self._connecting = threading.Lock()

    async def prepare(self, place: Place) -> None:
        """Nothing is needed here."""

    async def run(self, place: Place, spec: Spec) -> str:
        """Keep what runs already, replace what runs otherwise; the URL."""
        now = await self.inspect(place)
        if now.state is RunState.RUNNING and now.fingerprint == spec.fingerprint() and await health.answers(now.url):
            return str(now.url)
        _check(spec)
        await self._call(lambda client: _start(client, _name(place), spec, place, self._network))
        return await self._wait_healthy(place)

    async def inspect(self, place: Place) -> Inspection:
        """Ask the daemon."""
        return await self._call(lambda client: self._inspection(_find(client, _name(place))))

    async def logs(self, place: Place, lines: int = 50) -> str:
        """The end of what the container wrote."""
        return await self._call(lambda client: _log(_find(client, _name(place)), lines))

    async def remove(self, place: Place) -> None:
        """SIGTERM, and SIGKILL after 30 s; then the container goes and its volumes stay."""
        await self._call(lambda client: _remove(client, _name(place)))

    async def wipe(self, place: Place) -> None:
        """Remove it and its volumes."""
        await self.remove(place)
        await self._call(lambda client: _remove_volumes(client, _name(place)))

    async def close(self) -> None:
        """Let go of the connections to the daemon. What runs goes on."""
        if self._client is not None:
            await asyncio.to_thread(self._client.close)
            self._client = None

    async def _wait_healthy(self, place: Place) -> str:
        try:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    now = await self.inspect(place)
                    if await health.answers(now.url):
                        return str(now.url)
                    await self._call(lambda client: _refuse_if_dead(_find(client, _name(place))))
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as error:
            raise NotStarted(f"no answer in {START_SECONDS:.0f} s", log=await self.logs(place)) from error

    def _inspection(self, container: Container | None) -> Inspection:
        if container is None:
            return Inspection(RunState.ABSENT)
        state = RunState.RUNNING if container.status == "running" else RunState.STOPPED
        return Inspection(state, fingerprint=container.labels.get(FINGERPRINT), url=self._url(container))

    def _url(self, container: Container) -> str | None:
        if self._network:
            return f"http://{container.name}"
        published = container.attrs["HostConfig"]["PortBindings"] or {}
        return next((f"http://127.0.0.1:{place[0]['HostPort']}" for place in published.values()), None)

    async def _call[T](self, work: Callable[[docker.DockerClient], T]) -> T:
        return await asyncio.to_thread(self._work, work)

    def _work[T](self, work: Callable[[docker.DockerClient], T]) -> T:
        with _facts(self._host):
            with self._connecting:
                client = self._client = self._client or self._connect()
            return work(client)

    def _connect(self) -> docker.DockerClient:
        _knock(self._host)
        return docker.DockerClient(base_url=self._host, timeout=CALL_SECONDS, max_pool_size=64)


@contextmanager
def _facts(host: str) -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except APIError as error:
        raise MachineError(f"Docker refused: {error.explanation}") from error
    except (DockerException, requests.RequestException, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise MachineError(
            f"Docker at {host} does not answer ({reason}). "
            "Is it running, is DOCKER_HOST right, and may this user open it?"
        ) from error


def _knock(host: str) -> None:
    """Say in a few words that a socket is not there or shut; the SDK takes several lines, and leaves it open."""
    scheme, _, path = host.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(CALL_SECONDS)
            door.connect(path)


def _name(place: Place) -> str:
    return f"baal-{place.machine_id}"


def _check(spec: Spec) -> None:
    for name, value in spec.environment().items():
        if "\0" in value:
            raise NotStarted(f"{name} holds a NUL character, which no environment can carry")
        if len(f"{name}={value}".encode()) > MAX_VARIABLE_BYTES:
            raise NotStarted(f"{name} is longer than the {MAX_VARIABLE_BYTES} bytes that Linux can carry; shorten it")


def _find(client: docker.DockerClient, name: str) -> Container | None:
    try:
        return client.containers.get(name)
    except NotFound:
        return None


def _start(client: docker.DockerClient, name: str, spec: Spec, place: Place, network: str) -> None:
    image = _image(client, spec.release)
    port = _last_port(_find(client, name))
    for attempt in range(PORT_ATTEMPTS):
        _remove(client, name)
        container = client.containers.create(
            image, **_options(name, spec, place, image), **_door(network, port or _free_port())
        )
        try:
            container.start()
        except APIError as error:
            # Somebody else took the port in between.
            if "address already in use" not in str(error) and "already allocated" not in str(error):
                raise NotStarted(f"the container does not start: {error.explanation}") from error
            if attempt + 1 == PORT_ATTEMPTS:
                raise
            port = None
        else:
            return


def _image(client: docker.DockerClient, release: str) -> Image:
    with suppress(ImageNotFound):
        return client.images.get(release)
    if not _names_a_registry(release):
        # Docker would take it from Docker Hub, where such a name may be anybody's.
        raise NotStarted(
            f"the image {release} is not on this machine: `make image`, or name its registry in AGENT_IMAGE"
        )
    try:
        client.api.pull(release)
        return client.images.get(release)
    except (APIError, ImageNotFound) as error:
        reason = error.explanation
        raise NotStarted(f"the image {release} is not on this machine and cannot be pulled: {reason}") from error


def _names_a_registry(release: str) -> bool:
    """Whether the first part of a reference is a host, as Docker tells them apart (distribution/reference)."""
    host, slash, _ = release.partition("/")
    return bool(slash) and ("." in host or ":" in host or host == "localhost")


def _options(name: str, spec: Spec, place: Place, image: Image) -> dict[str, Any]:
    digests = image.attrs.get("RepoDigests") or []
    own = {"TLS_MODE": "plain", "AGENT_DIGEST": digests[0] if digests else str(image.id)}
    return confinement() | {
        "name": name,
        # A list through the API, not lines of a file: newlines and quotes arrive as they are.
        "environment": [f"{key}={value}" for key, value in (spec.environment() | own).items()],
        "labels": {MACHINE: place.machine_id, FINGERPRINT: spec.fingerprint()},
        "volumes": volumes(name),
        "restart_policy": {"Name": "unless-stopped"},
    }


def _door(network: str, port: int) -> dict[str, Any]:
    return {"network": network} if network else {"ports": {f"{PORT}/tcp": ("127.0.0.1", port)}}


def _last_port(container: Container | None) -> int | None:
    """A container keeps its port when it is replaced, so that nobody who knows its URL has to learn another."""
    if container is None:
        return None
    published = container.attrs["HostConfig"]["PortBindings"] or {}
    return next((int(place[0]["HostPort"]) for place in published.values()), None)


def _free_port() -> int:
    """Not one chosen by Docker: that changes whenever the container is restarted."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def _refuse_if_dead(container: Container | None) -> None:
    if container is None:
        raise NotStarted("the container is gone")
    if container.status != "running" or container.attrs["RestartCount"]:
        log = _log(container, 50)
        container.stop(timeout=STOP_SECONDS)  # or Docker starts it again for ever
        raise NotStarted("the agent ended at once", log=log)


def _log(container: Container | None, lines: int) -> str:
    return container.logs(tail=lines).decode(errors="replace").strip() if container else ""


def _remove(client: docker.DockerClient, name: str) -> None:
    container = _find(client, name)
    if container is None:
        return
    try:
        container.stop(timeout=STOP_SECONDS)
        container.remove(force=True)
    except NotFound:
        return  # somebody else did it at the same moment
    except APIError as error:
        if "already in progress" not in str(error):
            raise
        _wait_gone(client, name)


def _wait_gone(client: docker.DockerClient, name: str) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while _find(client, name) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _remove_volumes(client: docker.DockerClient, name: str) -> None:
    for volume in volumes(name):
        try:
            client.volumes.get(volume).remove(force=True)
        except NotFound:
            continue
