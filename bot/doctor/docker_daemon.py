"""Whether Docker answers, and has an image. By its HTTP API: its SDK waits in threads that nobody can end."""

from http import HTTPStatus
from urllib.parse import quote

import httpx

from bot.doctor.checks import Once
from bot.doctor.findings import Wrong
from bot.doctor.web import SECONDS, parsed, reason
from bot.settings import Settings


class Daemon:
    """The one of DOCKER_HOST."""

    def __init__(self, settings: Settings) -> None:
        self._host = settings.docker_host
        self._network = settings.docker_network
        self.version = Once(self._version)

    async def check(self) -> str:
        """It answers, and has the network that agents join."""
        version = await self.version.get()
        if self._network and not await self._has(f"networks/{quote(self._network, safe='')}"):
            raise Wrong(f"Docker has no network {self._network}: `docker network create` it, or correct DOCKER_NETWORK")
        return f"{version} at {self._shown}"

    async def has_image(self, reference: str) -> bool:
        """Whether an image is on this machine."""
        return await self._has(f"images/{quote(reference, safe='/:@')}/json")

    @property
    def _shown(self) -> str:
        return self._host.rpartition("@")[2]

    async def _version(self) -> str:
        answer = await self._get("version")
        version = parsed(answer).get("Version")
        if answer.status_code != HTTPStatus.OK or not version:
            raise Wrong(f"what answers at {self._shown} is not Docker: correct DOCKER_HOST")
        return str(version)

    async def _has(self, path: str) -> bool:
        answer = await self._get(path)
        if answer.status_code not in {HTTPStatus.OK, HTTPStatus.NOT_FOUND}:
            raise Wrong(f"Docker answers {answer.status_code}: look at its log (journalctl -u docker)")
        return answer.status_code == HTTPStatus.OK

    async def _get(self, path: str) -> httpx.Response:
        scheme, _, address = self._host.partition("://")
        if scheme not in {"unix", "tcp", "http"} or not address:
            raise Wrong("DOCKER_HOST is no address of Docker's: write unix:///var/run/docker.sock or tcp://host:port")
        transport = httpx.AsyncHTTPTransport(uds=address) if scheme == "unix" else None
        base = "http://docker" if scheme == "unix" else f"http://{address}"
        try:
            async with httpx.AsyncClient(transport=transport, timeout=SECONDS, trust_env=False) as http:
                return await http.get(f"{base}/{path}")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            remedy = "start it, correct DOCKER_HOST, or let this user open it (group docker)"
            raise Wrong(f"Docker at {self._shown} does not answer ({reason(error)}): {remedy}") from None
