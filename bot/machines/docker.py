"""Run an agent as a container, by Docker's own SDK: on this host's daemon, or on a machine's through SSH."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.models.images import Image

from bot.errors import NotStarted
from bot.machines.container import FINGERPRINT, MACHINE, STOP_SECONDS, confinement, volumes
from bot.machines.daemon import LOCAL, ForwardedDaemon, LocalDaemon, NoDocker, Session
from bot.machines.engine import Inspection, RunState, Spec
from bot.machines.exposure import Exposure, Https, Plain, Trust
from bot.machines.images import Account, Images
from bot.machines.provider import Place
from bot.machines.shred import shred
from bot.machines.ssh import Shell, Ssh

BOOT_SECONDS = 360.0
POLL_SECONDS = 0.05
REMOTE_POLL_SECONDS = 0.3
MAX_VARIABLE_BYTES = 131_071
"""Of `NAME=value`: Linux starts no program with a longer one (MAX_ARG_STRLEN)."""
PORT_ATTEMPTS = 5
PORT_TAKEN = ("address already in use", "already allocated")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What machines that are not this host need: the key that opens them, what makes them ready, certificates."""

    ssh: Ssh
    bootstrap: Callable[[Shell], Awaitable[None]]
    trust: Trust
    daemon: ForwardedDaemon = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "daemon", ForwardedDaemon(self.ssh))


class DockerEngine:
    """One container per machine, found again by its name."""

    def __init__(
        self,
        host: str = LOCAL,
        network: str = "",
        *,
        account: Account | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """`host` as in DOCKER_HOST. With a `network`, agents join it and answer by name; else on a port of loopback.

        `account` is for the registry of releases; `elsewhere` is for places that are not this host.
        """
        self._local = LocalDaemon(host)
        self._plain = Plain(network)
        self._images = Images(account)
        self._elsewhere = elsewhere

    async def prepare(self, place: Place) -> None:
        """A machine elsewhere: wait until it has booted, and put Docker on it. Here nothing is needed."""
        if place.remote is None:
            return
        remote, elsewhere = place.remote, self._away(place)
        await elsewhere.ssh.wait(remote.target, remote.pin, seconds=BOOT_SECONDS)
        async with elsewhere.ssh.shell(remote.target, remote.pin) as shell:
            await elsewhere.bootstrap(shell)

    async def warm(self, place: Place, release: str) -> None:
        """Have the image pulled. Others stay: on a server of several machines they may be another's."""
        async with self._session(place) as docker:
            await self._images.have(docker, release)

    async def run(self, place: Place, spec: Spec) -> str:
        """Keep what runs already, replace what runs otherwise; the URL."""
        name, exposure = _name(place), await self._exposure(place)
        async with self._session(place) as docker:
            now = await docker.call(lambda client: _find(client, name))
            if now and _is_as_wanted(now, spec, exposure) and (url := await exposure.answering(now)):
                return url
            _check(spec)
            image = await self._images.have(docker, spec.release)
            await docker.call(lambda client: _start(client, place, spec, exposure, image))
            url = await self._wait_healthy(docker, place, exposure)
            if place.remote:
                await self._images.forget_older(docker, spec.release, image)
            return url

    async def inspect(self, place: Place) -> Inspection:
        """Ask the daemon."""
        try:
            async with self._session(place) as docker:
                container = await docker.call(lambda client: _find(client, _name(place)))
        except NoDocker:
            return Inspection(RunState.ABSENT)
        if container is None:
            return Inspection(RunState.ABSENT)
        state = RunState.RUNNING if container.status == "running" else RunState.STOPPED
        url = await (await self._exposure(place)).url(container)
        return Inspection(state, fingerprint=container.labels.get(FINGERPRINT), url=url)

    async def logs(self, place: Place, lines: int = 50) -> str:
        """The end of what the container wrote."""
        try:
            async with self._session(place) as docker:
                return await docker.call(lambda client: _log(_find(client, _name(place)), lines))
        except NoDocker:
            return ""

    async def remove(self, place: Place) -> None:
        """SIGTERM, and SIGKILL after 30 s; then the container goes and its volumes stay."""
        try:
            async with self._session(place) as docker:
                await docker.call(lambda client: _remove(client, _name(place)))
        except NoDocker:
            return  # then it never was there

    async def wipe(self, place: Place) -> None:
        """Remove it and its volumes; on a machine elsewhere, what was in them is overwritten first."""
        name = _name(place)
        try:
            async with self._session(place) as docker:
                await shred(docker, name)
                await docker.call(lambda client: _remove(client, name))
                await docker.call(lambda client: _remove_volumes(client, name))
        except NoDocker:
            return

    async def close(self) -> None:
        """Let go of the connections to the daemon. What runs goes on."""
        await self._local.close()

    def _away(self, place: Place) -> Elsewhere:
        if self._elsewhere is None:
            raise NotStarted(f"{place.machine_id} is elsewhere, and this engine was given no key for it")
        return self._elsewhere

    def _session(self, place: Place) -> AbstractAsyncContextManager[Session]:
        daemon = self._away(place).daemon if place.remote else self._local
        return daemon.session(place)

    async def _exposure(self, place: Place) -> Exposure:
        return await Https.of(place, self._away(place).trust) if place.remote else self._plain

    async def _wait_healthy(self, docker: Session, place: Place, exposure: Exposure) -> str:
        name, seconds = _name(place), exposure.start_seconds
        try:
            async with asyncio.timeout(seconds):
                while True:
                    container = await docker.call(lambda client: _find(client, name))
                    if container and (url := await exposure.answering(container)):
                        return url
                    await docker.call(lambda client: _refuse_if_dead(_find(client, name)))
                    await asyncio.sleep(REMOTE_POLL_SECONDS if place.remote else POLL_SECONDS)
        except TimeoutError as error:
            log = await docker.call(lambda client: _log(_find(client, name), 50))
            raise NotStarted(f"no answer in {seconds:.0f} s", log=log) from error


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


def _is_as_wanted(container: Container, spec: Spec, exposure: Exposure) -> bool:
    is_same = container.labels.get(FINGERPRINT) == spec.fingerprint()
    return is_same and container.status == "running" and exposure.fits(container)


def _start(client: docker.DockerClient, place: Place, spec: Spec, exposure: Exposure, image: Image) -> None:
    name = _name(place)
    before = _find(client, name)
    for attempts_left in reversed(range(PORT_ATTEMPTS)):
        _remove(client, name)
        options = _options(name, spec, place, image, exposure)
        container = client.containers.create(image, **options, **exposure.publish(before))
        exposure.furnish(container)
        try:
            container.start()
        except APIError as error:
            # Somebody else took the port in between.
            is_taken = any(words in str(error) for words in PORT_TAKEN)
            if not (is_taken and exposure.may_move and attempts_left):
                raise NotStarted(_reason(error, place, is_taken=is_taken)) from error
            before = None
        else:
            return


def _reason(error: APIError, place: Place, *, is_taken: bool) -> str:
    if is_taken and place.remote:
        return f"port {place.remote.port} of the machine is taken by something else: end that"
    return f"the container does not start: {error.explanation}"


def _options(name: str, spec: Spec, place: Place, image: Image, exposure: Exposure) -> dict[str, Any]:
    digests = image.attrs.get("RepoDigests") or []
    own = exposure.environment() | {"AGENT_DIGEST": digests[0] if digests else str(image.id)}
    return confinement() | {
        "name": name,
        # A list through the API, not lines of a file: newlines and quotes arrive as they are.
        "environment": [f"{key}={value}" for key, value in (spec.environment() | own).items()],
        "labels": {MACHINE: place.machine_id, FINGERPRINT: spec.fingerprint()} | exposure.labels(),
        "volumes": volumes(name),
        "restart_policy": {"Name": "unless-stopped"},
    }


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
