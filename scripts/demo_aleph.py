"""The demo's agents on machines rented from a simulated Aleph network: the whole way, on this host alone.

The network is its double; a machine is a container with a real sshd and a real Docker in it, and a registry beside
the bot has the agent's image. What the wallet pays with is worth nothing.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
from contextlib import AsyncExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import docker
from eth_account import Account

from scripts.bridge import for_containers
from scripts.demo_docker import IMAGE, have_image, is_there
from scripts.demo_sites import WALLS, Spawn
from scripts.image.commands import Refused, daemon_problem, output, run
from scripts.image.registry import PROGRAM, is_installed
from scripts.image.source import ROOT
from scripts.servers import Host
from tests.vm.standins import PREPARED_12, names, remove_all

CREDITS = 10_000_000
"""Enough for five machines to run for days, which is what the bot wants to see."""
BUILDER = "mmdebstrap"


class AlephSite:
    """A network, a wallet and a registry of its own."""

    deploy_seconds = 300.0

    def __init__(self, folder: Path) -> None:
        # Of each demo its own, so that clearing up after one that was killed ends nobody else's machines.
        self._prefix = f"baal-demo-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}-"

    def words(self, *, unconfined: bool) -> str:
        """What they are told to is done inside."""
        del unconfined
        return WALLS.format(where="on a machine of its own")

    async def host(self) -> Host:
        """Docker's bridge: machines are on it, and what runs on them comes from their addresses."""
        if problems := await asyncio.to_thread(_problems):
            raise Refused("\n".join(f"PROVIDER=aleph-sim {problem}" for problem in problems))
        return await for_containers()

    async def open(self, stack: AsyncExitStack, spawn: Spawn) -> dict[str, str]:
        """Images, registry, network and wallet."""
        del stack
        await asyncio.to_thread(_have_images)
        registry = urlsplit(await spawn("scripts.image.registry")).netloc
        key = secrets.token_hex(32)
        credit = f"{Account.from_key(key).address}={CREDITS}"
        options = ("--machines", "stand-ins", "--prefix", self._prefix, "--credit", credit)
        network = await spawn("tests.fakes.aleph", *options)
        return _settings(key, network) | {"AGENT_IMAGE": await asyncio.to_thread(_pushed, registry)}

    async def clear(self) -> None:
        """By their names."""
        await asyncio.to_thread(self._clear)

    async def left(self) -> list[str]:
        """What the network has not ended."""
        return await asyncio.to_thread(self._left)

    def _clear(self) -> None:
        with closing(docker.from_env()) as client:
            remove_all(client, self._prefix)

    def _left(self) -> list[str]:
        with closing(docker.from_env()) as client:
            return names(client, self._prefix)


def _problems() -> list[str]:
    """What is missing on this machine."""
    if problem := daemon_problem():
        return [problem]
    missing = [] if is_installed() else [f"needs {PROGRAM}: apt-get install {PROGRAM}"]
    if not is_there(PREPARED_12):
        if not shutil.which(BUILDER):
            missing.append(f"needs {BUILDER}, to make its machines' image: apt-get install {BUILDER}")
        if os.geteuid() != 0:
            missing.append(f"needs root once, to make its machines' image: sudo scripts/standin/vm {PREPARED_12}")
    return missing


def _have_images() -> None:
    have_image()
    if not is_there(PREPARED_12):
        print("Making the image of the machines, a Debian with Docker: some minutes, once.", flush=True)
    run(str(ROOT / "scripts" / "standin" / "vm"), PREPARED_12)


def _pushed(registry: str) -> str:
    """The image by its digest in the registry beside the bot."""
    name = f"{registry}/{IMAGE}"
    print("Pushing the agents' image to a registry here, from which machines pull it.", flush=True)
    output("docker", "tag", IMAGE, name)
    try:
        output("docker", "push", "--quiet", name)
        digests = output("docker", "image", "inspect", "--format", '{{join .RepoDigests "\\n"}}', name)
        return next(digest for digest in digests.splitlines() if digest.startswith(registry))
    finally:
        output("docker", "rmi", name)  # the registry has it, and its address is another next time


def _settings(key: str, network: str) -> dict[str, str]:
    return {
        "PROVIDER": "aleph",
        "ENGINE": "docker",
        "AGENT_TLS": "files",
        "SSH_KEY_FILE": "",
        "ALEPH_PRIVATE_KEY": key,
        "ALEPH_CHANNEL": "BAAL-demo",
        "ALEPH_API_URL": network,
        "ALEPH_CRN_LIST_URL": f"{network}/crns.json",
        "ALEPH_SCHEDULER_URL": network,
        "ALEPH_GATEWAY_URL": network,
    }
