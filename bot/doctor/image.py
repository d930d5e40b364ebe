"""Whether what agents run is there: on this machine's Docker, or in the registry that machines pull it from."""

import asyncio

import httpx

from bot.doctor.checks import Check
from bot.doctor.docker_daemon import Daemon
from bot.doctor.findings import Skipped, Wrong
from bot.machines.registry import BadReference, NoSuchImage, NotAdmitted, Reference, Registry, RegistryAway, parse
from bot.settings import EngineName, ProviderName, Settings


def checks(settings: Settings, http: httpx.AsyncClient) -> list[Check]:
    """Docker on this machine, where agents run on it, and the image."""
    registry = Registry(http, settings.registry_user, settings.registry_password)
    image = _Image(settings, registry, Daemon(settings))
    needs = ("provider", "engine", "docker_host")
    names = ("agent_image", "registry_user", "registry_password")
    return [Check("docker", image.docker, needs), Check("image", image.image, (*needs, *names))]


class _Image:
    def __init__(self, settings: Settings, registry: Registry, daemon: Daemon) -> None:
        self._settings = settings
        self._registry = registry
        self._daemon = daemon

    async def docker(self) -> str:
        """This machine's daemon, if agents run here."""
        if self._settings.engine is not EngineName.DOCKER:
            raise Skipped("not needed with ENGINE=process")
        if self._settings.provider is not ProviderName.LOCAL:
            raise Skipped(f"not needed here with PROVIDER={self._settings.provider}")
        return await self._daemon.check()

    async def image(self) -> str:
        """Here already, or to be pulled."""
        if self._settings.engine is not EngineName.DOCKER:
            raise Skipped("not needed with ENGINE=process")
        name = self._settings.agent_image
        try:
            reference = parse(name)
        except BadReference as error:
            raise Wrong(f"AGENT_IMAGE {error}") from None
        if self._settings.provider is ProviderName.LOCAL:
            await self._daemon.version.given("Docker does not answer")
            if await self._daemon.has_image(name):
                return f"{name} is on this machine"
        if not reference.host:
            raise Wrong(self._is_nowhere())
        return await self._in_registry(reference)

    def _is_nowhere(self) -> str:
        name, provider = self._settings.agent_image, self._settings.provider
        if provider is ProviderName.LOCAL:
            return f"{name} is not on this machine: `make image`, or name its registry in AGENT_IMAGE"
        return f"{name} names no registry to pull it from: `make push REGISTRY=…` and set AGENT_IMAGE as it says"

    async def _in_registry(self, reference: Reference) -> str:
        try:
            digest = await self._registry.resolve(reference)
        except NoSuchImage:
            raise Wrong(await self._missing(reference)) from None
        except NotAdmitted:
            remedy = "correct" if self._settings.registry_user else "set"
            raise Wrong(f"{reference.host} does not let us in: {remedy} REGISTRY_USER and REGISTRY_PASSWORD") from None
        except RegistryAway as error:
            remedy = "start it, or correct AGENT_IMAGE"
            raise Wrong(f"{reference.host} does not answer as a registry ({error}): {remedy}") from None
        if reference.digest:
            return f"{reference} is in its registry"
        return f"there; better pinned: AGENT_IMAGE={reference.pinned(digest)}"

    async def _missing(self, reference: Reference) -> str:
        """What to do; where only the digest is wrong, which one is right."""
        remedy = "`make push` it, or correct AGENT_IMAGE"
        if not (reference.digest and reference.tag):
            return f"{reference.host} has no {reference}: {remedy}"
        tagged = Reference(reference.host, reference.repository, reference.tag)
        try:
            async with asyncio.timeout(3):
                now = await self._registry.resolve(tagged)
        except (NoSuchImage, NotAdmitted, RegistryAway, TimeoutError):
            return f"{reference.host} has no {reference}: {remedy}"
        return f"{reference.host} has no such digest; {reference.tag} is there as AGENT_IMAGE={tagged.pinned(now)}"
