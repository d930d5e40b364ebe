"""How an agent's container is exposed: plain on this host, by HTTPS on a machine elsewhere."""

import asyncio
import io
import ssl
import tarfile
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import urlsplit

from docker.models.containers import Container

from bot.errors import NotStarted
from bot.machines import health
from bot.machines.certs import Authority
from bot.machines.container import PORT
from bot.machines.ports import free_port, last_port
from bot.machines.provider import HTTPS_PORT, Place, Remote, certificate_name, remote_of

START_SECONDS = 60.0
CERTIFY_SECONDS = 120.0
"""More, where a public authority has to be asked first."""

CERTIFIED = "baal.certified"
"""Label of a container: the names for which it can prove who it is, and how."""
CADDY_USER = 10_002
CADDY_FOLDER = "/caddy"


class Exposure(Protocol):
    """Of one agent."""

    may_move: bool
    """Whether another port will do when one is taken."""
    start_seconds: float
    """How long it may take until it answers."""

    def environment(self) -> dict[str, str]:
        """What the container is told of it."""

    def labels(self) -> dict[str, str]:
        """By which `fits` knows it again."""

    def publish(self, before: Container | None) -> dict[str, Any]:
        """Options of `containers.create`; `before` is what ran until now."""

    def furnish(self, container: Container) -> None:
        """Put in what it needs, before it starts."""

    def fits(self, container: Container) -> bool:
        """Whether this one was exposed as is wanted now."""

    async def url(self, container: Container) -> str | None:
        """Where it answers, or (on this host) would."""

    async def answering(self, container: Container) -> str | None:
        """Where its agent answers now; None if it does not."""


class Plain:
    """Unencrypted: on a port of loopback, or in a Docker network that the bot is itself in."""

    def __init__(self, network: str) -> None:
        self._network = network
        self.may_move = not network
        self.start_seconds = START_SECONDS

    def environment(self) -> dict[str, str]:
        """No TLS."""
        return {"TLS_MODE": "plain"}

    def labels(self) -> dict[str, str]:
        """None."""
        return {}

    def publish(self, before: Container | None) -> dict[str, Any]:
        """The same port again, so that nobody who knows its URL has to learn another."""
        if self._network:
            return {"network": self._network}
        return {"ports": {f"{PORT}/tcp": ("127.0.0.1", last_port(before) or free_port())}}

    def furnish(self, container: Container) -> None:
        """It needs nothing."""

    def fits(self, container: Container) -> bool:
        """Always."""
        del container
        return True

    async def url(self, container: Container) -> str | None:
        """By its name, or by its port; also while it does not run."""
        if self._network:
            return f"http://{container.name}"
        port = last_port(container)
        return f"http://127.0.0.1:{port}" if port else None

    async def answering(self, container: Container) -> str | None:
        """Ask it."""
        url = await self.url(container)
        return url if await health.answers(url) else None


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose certificates agents elsewhere have: our own authority's, or (None) a public one's."""

    authority: Authority | None
    email: str = ""
    """For a public one."""
    context: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        made = self.authority.context() if self.authority else ssl.create_default_context()
        object.__setattr__(self, "context", made)


class Https:
    """By HTTPS on the machine's own port, on all of its addresses."""

    may_move = False

    def __init__(self, machine_id: str, remote: Remote, urls: list[str], trust: Trust) -> None:
        self._port = remote.port
        self._urls = urls
        self._trust = trust
        self._name = certificate_name(machine_id)
        self._hosts = host_names(urls)
        self.start_seconds = START_SECONDS if trust.authority else CERTIFY_SECONDS

    @classmethod
    async def of(cls, place: Place, trust: Trust) -> "Https":
        """As the place is reached now."""
        remote = remote_of(place)
        return cls(place.machine_id, remote, await remote.urls(), trust)

    def environment(self) -> dict[str, str]:
        """Our own certificate, or the host name to get one for."""
        if self._trust.authority:
            return {"TLS_MODE": "files"}
        if not self._hosts:
            raise NotStarted("no public authority certifies a machine without a host name: set AGENT_TLS=files")
        return {"TLS_MODE": "acme", "SITE_HOST": self._hosts[0], "ACME_EMAIL": self._trust.email}

    def labels(self) -> dict[str, str]:
        """What it is certified for."""
        return {CERTIFIED: " ".join([self._mode, *self._names])}

    def publish(self, before: Container | None) -> dict[str, Any]:
        """Without an address: on every one, IPv4 and IPv6."""
        del before
        return {"ports": {f"{HTTPS_PORT}/tcp": self._port}}

    def furnish(self, container: Container) -> None:
        """A fresh certificate with its key, which only the container's web server may read."""
        if self._trust.authority:
            leaf = self._trust.authority.leaf(self._names)
            files = {"cert.pem": leaf.certificate, "key.pem": leaf.key.get_secret_value()}
            container.put_archive(CADDY_FOLDER, _archive(files))

    def fits(self, container: Container) -> bool:
        """On the same port, and certified for every name that it has now."""
        mode, *names = (container.labels.get(CERTIFIED) or "").split() or [""]
        return mode == self._mode and set(self._names) <= set(names) and last_port(container) == self._port

    async def url(self, container: Container) -> str | None:
        """The same: which of several it is can only be asked."""
        return await self.answering(container)

    async def answering(self, container: Container) -> str | None:
        """The first that answers, under TLS and certified."""
        if container.status != "running":
            return None
        asked = [asyncio.create_task(self._answers(url)) for url in self._urls]
        try:
            # In their order, and no longer than it takes: a way that leads nowhere is silent for seconds.
            for url, answer in zip(self._urls, asked, strict=True):
                if await answer:
                    return url
            return None
        finally:
            for answer in asked:
                answer.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _answers(self, url: str) -> bool:
        return await health.answers(url, tls=self._trust.context, name=self._name)

    @property
    def _mode(self) -> str:
        return "files" if self._trust.authority else "acme"

    @property
    def _names(self) -> list[str]:
        return [self._name, *self._hosts] if self._trust.authority else self._hosts[:1]


def host_names(urls: list[str]) -> list[str]:
    """The hosts among them that are names, in their order."""
    hosts = [urlsplit(url).hostname or "" for url in urls]
    return list(dict.fromkeys(host for host in hosts if host and not is_address(host)))


def is_address(host: str) -> bool:
    """Whether it is an IP address, and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _archive(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.uid, entry.gid = 0o400, CADDY_USER, CADDY_USER
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()
