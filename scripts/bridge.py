"""How containers reach servers of this host."""

import asyncio
import socket
from contextlib import closing
from urllib.parse import urlsplit

import docker

from scripts.image.commands import Refused
from scripts.servers import LOOPBACK, Host
from scripts.thinking import Model
from tests.containers import gateway


async def for_containers() -> Host:
    """This host as containers of its Docker see it."""
    return await asyncio.to_thread(_for_containers)


def _for_containers() -> Host:
    with closing(docker.from_env()) as client:
        address = gateway(client)
    try:
        with socket.create_server((address, 0)):
            return Host(address, address)
    except OSError:  # Docker has a virtual machine of its own, which passes calls on
        return Host(LOOPBACK, "host.docker.internal")


def reachable(model: Model) -> Model:
    """`Refused` for a server on this machine's loopback: in a container that is the container."""
    host = urlsplit(model.base_url).hostname or ""
    if host in {"localhost", "::1"} or host.startswith("127."):
        raise Refused(
            f"a container cannot reach {model.base_url}: let it listen on Docker's bridge, and name that address"
        )
    return model
