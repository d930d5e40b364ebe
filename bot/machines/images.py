"""Have an image on a machine: pull it, and let the ones that it replaces go."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any

import docker
import requests
from docker.auth import encode_header
from docker.errors import APIError, ImageNotFound
from docker.models.images import Image
from docker.utils import parse_repository_tag
from pydantic import SecretStr

from bot.errors import MachineError, NotStarted
from bot.log import line
from bot.machines.daemon import CALL_SECONDS, Session
from bot.machines.ssh import NotOffered, Shell

log = logging.getLogger(__name__)

SILENCE_SECONDS = 300
"""A pull may take its time, as long as something comes."""
OFFER_SECONDS = 300.0
"""Another agent of the same machine may be pulling through the same port."""
OFFER_POLL_SECONDS = 1.0
DENIED = ("unauthorized", "denied", "no basic auth", "authentication required", "forbidden")
MISSING = ("manifest unknown", "not found", "name unknown", "no such image", "repository name not known")


@dataclass(frozen=True, slots=True)
class Account:
    """Of a private registry."""

    user: str = ""
    password: SecretStr = field(default=SecretStr(""))

    def header(self) -> dict[str, str]:
        """For one request; Docker keeps none of it."""
        login = {"username": self.user, "password": self.password.get_secret_value()} if self.user else {}
        return {"X-Registry-Auth": encode_header(login).decode()}


class Images:
    """Images by the name that they have in a registry."""

    def __init__(self, account: Account | None = None) -> None:
        self._account = account or Account()

    async def have(self, docker: Session, release: str) -> Image:
        """The image, pulled if it is not there; `NotStarted` says why it cannot be and what to do."""
        found = await docker.call(lambda client: _find(client, release))
        if found is not None:
            return found
        if not registry_of(release):
            # Docker would take it from Docker Hub, where such a name may be anybody's.
            raise NotStarted(_nameless(release, is_here=docker.shell is None))
        begun = time.monotonic()
        async with _offered(docker, release):
            pulled = await docker.call(lambda client: _pull(client, release, self._account))
        log.info(line("image pulled", release=release, seconds=round(time.monotonic() - begun, 1)))
        return pulled

    async def forget_older(self, docker: Session, release: str, current: Image) -> None:
        """Remove other images of the same repository that no container uses. Best effort.

        One that no registry is named for stays: nobody could bring it back.
        """
        if not registry_of(release):
            return
        try:
            await docker.call(lambda client: _forget_older(client, release, str(current.id)))
        except MachineError as error:
            log.warning(line("older images stay", release=release, why=error))


def registry_of(release: str) -> str:
    """The first part of a reference if it is a host, as Docker tells them apart (distribution/reference); else ''."""
    host, slash, _ = release.partition("/")
    return host if slash and ("." in host or ":" in host or host == "localhost") else ""


def loopback_port(release: str) -> int | None:
    """The port of a registry that runs beside the bot; None if it is elsewhere."""
    host, _, port = registry_of(release).rpartition(":")
    return int(port) if port.isdigit() and _is_loopback(host) else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _nameless(release: str, *, is_here: bool) -> str:
    todo = (
        "`make image`, or name its registry in AGENT_IMAGE"
        if is_here
        else "`make push REGISTRY=…` puts it into a registry; write what it prints into AGENT_IMAGE"
    )
    return f"the image {release} is not on this machine: {todo}"


@asynccontextmanager
async def _offered(docker: Session, release: str) -> AsyncIterator[None]:
    """While inside, the machine reaches the bot's own registry by the same name as the bot."""
    port = loopback_port(release)
    if docker.shell is None or port is None:
        yield
        return
    async with await _offer(docker.shell, port):
        yield


async def _offer(shell: Shell, port: int) -> Any:
    deadline = time.monotonic() + OFFER_SECONDS
    while True:
        try:
            return await shell.offer(port)
        except NotOffered as error:
            if time.monotonic() > deadline:
                raise NotStarted(
                    f"the registry at port {port} beside the bot cannot be offered to the machine, where that port is "
                    "taken or forwarding is off (AllowTcpForwarding): push the image to a registry it can reach itself"
                ) from error
        await asyncio.sleep(OFFER_POLL_SECONDS)


def _find(client: docker.DockerClient, release: str) -> Image | None:
    try:
        return client.images.get(release)
    except ImageNotFound:
        return None


def _pull(client: docker.DockerClient, release: str, account: Account) -> Image:
    try:
        for said in _pulling(client, release, account):
            if "error" in said:
                raise NotStarted(_complaint(release, str(said["error"])))
        return client.images.get(release)
    except ImageNotFound as error:
        raise NotStarted(_complaint(release, str(error.explanation))) from error


def _pulling(client: docker.DockerClient, release: str, account: Account) -> Iterator[dict[str, Any]]:
    """What the daemon tells while it pulls. The SDK's own call has no timeout, or one for all of it."""
    repository, tag = parse_repository_tag(release)
    with client.api.post(
        f"{client.api.base_url}/v{client.api.api_version}/images/create",
        params={"fromImage": repository, "tag": tag or "latest"},
        headers=account.header(),
        stream=True,
        timeout=(CALL_SECONDS, SILENCE_SECONDS),
    ) as response:
        if response.status_code != HTTPStatus.OK:
            yield {"error": _message(response)}
            return
        for told in response.iter_lines():
            if told.strip():
                yield json.loads(told)


def _message(response: requests.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:500]


def _complaint(release: str, reason: str) -> str:
    words, registry = reason.lower(), registry_of(release)
    if any(word in words for word in DENIED):
        todo = f"{registry} wants an account that may pull it: set REGISTRY_USER and REGISTRY_PASSWORD"
    elif any(word in words for word in MISSING):
        todo = f"{registry} has no such image or digest: set AGENT_IMAGE to what `make push` printed"
    else:
        todo = f"does {registry} run, and can the machine reach it?"
    return f"the image {release} is not on this machine and cannot be pulled: {reason}. {todo}"


def _forget_older(client: docker.DockerClient, release: str, current: str) -> None:
    repository = _repository(release)
    used = {container["ImageID"] for container in client.api.containers(all=True)}
    for image in client.api.images():
        if image["Id"] in used | {current}:
            continue
        for name in [*(image.get("RepoTags") or []), *(image.get("RepoDigests") or [])]:
            if _repository(name) == repository:
                # Not by force: what a container has begun to use meanwhile stays. The last tag takes the digest along.
                with suppress(APIError):
                    client.api.remove_image(name)


def _repository(reference: str) -> str:
    """Without tag and digest."""
    return str(parse_repository_tag(reference.partition("@")[0])[0])
