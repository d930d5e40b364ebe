"""Overwrite what an agent leaves on a machine that is somebody else's disk."""

import logging
import shlex
from pathlib import PurePosixPath

import docker
from docker.errors import NotFound

from bot.log import line
from bot.machines.container import STOP_SECONDS, volumes
from bot.machines.daemon import Session
from bot.machines.ssh import CommandFailed

log = logging.getLogger(__name__)

SECONDS = 60


async def shred(docker: Session, container: str) -> None:
    """Stop it, and overwrite its volumes, its log and its configuration, which holds its keys.

    Best effort within a minute: what is in them is removed afterwards in any case. On this host nothing is overwritten.
    """
    if docker.shell is None:
        return
    folders = await docker.call(lambda client: _folders(client, container))
    if not folders:
        return
    words = " ".join(map(shlex.quote, folders))
    script = f"timeout {SECONDS} find {words} -xdev -type f -exec shred --iterations=1 {{}} +"
    try:
        await docker.shell.run("overwriting an agent's data", script, seconds=SECONDS + 10)
    except CommandFailed as error:
        log.warning(line("not all was overwritten before it was removed", container=container, why=error))


def _folders(client: docker.DockerClient, name: str) -> list[str]:
    return [*_of_container(client, name), *_of_volumes(client, name)]


def _of_container(client: docker.DockerClient, name: str) -> list[str]:
    try:
        container = client.containers.get(name)
        container.stop(timeout=STOP_SECONDS)
    except NotFound:
        return []
    # Docker says where the container's folder is only by files in it.
    inside = container.attrs.get("LogPath") or container.attrs.get("ResolvConfPath")
    return [str(PurePosixPath(inside).parent)] if inside else []


def _of_volumes(client: docker.DockerClient, name: str) -> list[str]:
    found = []
    for volume in volumes(name):
        try:
            found.append(str(client.volumes.get(volume).attrs["Mountpoint"]))
        except NotFound:
            continue
    return found
