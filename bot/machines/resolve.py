"""Which release an image's name means now, by digest: looked up once, so that all agents get the same."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from docker import DockerClient
from docker.errors import ImageNotFound

from bot.errors import MachineError
from bot.machines.daemon import LocalDaemon, Session
from bot.machines.provider import Place
from bot.machines.registry import BadReference, NoSuchImage, NotAdmitted, Reference, Registry, RegistryAway, parse
from bot.settings import EngineName, ProviderName, Settings


class NoRelease(MachineError):
    """A name stands for no image that agents can run; the text says why and what to do."""


def expand(said: str, current: str) -> str:
    """`:1.5.0` and `@sha256:…` are of the repository that agents run now; anything else is a name already."""
    said = said.strip()
    if not said.startswith((":", "@")):
        return said
    try:
        now = parse(current)
    except BadReference:
        raise NoRelease(f"{said} is a tag of nothing: agents run {current}, which names no repository") from None
    return f"{Reference(now.host, now.repository)}{said}"


@asynccontextmanager
async def this_machine(settings: Settings) -> AsyncIterator[Session | None]:
    """Its Docker; None where no agents run on it."""
    if settings.engine is EngineName.PROCESS or settings.provider is not ProviderName.LOCAL:
        yield None
        return
    daemon = LocalDaemon(settings.docker_host)
    try:
        async with daemon.session(Place("")) as here:
            yield here
    finally:
        await daemon.close()


class Resolver:
    """`here` is this machine's Docker, where agents run on it."""

    def __init__(self, settings: Settings, registry: Registry, here: Session | None) -> None:
        self._settings = settings
        self._registry = registry
        self._here = here

    async def release(self, said: str, current: str) -> str:
        """`name:tag@sha256:…`; of an image that is on this machine only, its id. `NoRelease`.

        With ENGINE=process a release is a label, and taken as it is.
        """
        name = expand(said, current)
        if not name:
            raise NoRelease("no image is named: write registry/name:tag, or :tag of the one that agents run")
        if self._settings.engine is EngineName.PROCESS:
            return name
        try:
            reference = parse(name)
        except BadReference as error:
            raise NoRelease(f"{name} {error}") from None
        return await self._pinned(reference) if reference.host else await self._local(reference)

    async def _pinned(self, reference: Reference) -> str:
        host = reference.host
        try:
            return str(reference.pinned(await self._registry.resolve(reference)))
        except NoSuchImage:
            raise NoRelease(f"{host} has no {reference}: `make push` it, or correct the name") from None
        except NotAdmitted:
            raise NoRelease(f"{host} does not let us in: set or correct REGISTRY_USER and REGISTRY_PASSWORD") from None
        except RegistryAway as error:
            raise NoRelease(f"{host} does not answer as a registry ({error}): start it, or correct the name") from None

    async def _local(self, reference: Reference) -> str:
        """Never pulled: without a registry in its name it could be anybody's of Docker Hub."""
        if self._settings.provider is not ProviderName.LOCAL or self._here is None:
            raise NoRelease(
                f"{reference} names no registry that machines could pull it from: write registry/name:tag, "
                "or :tag of the image that agents run"
            )
        found = await self._here.call(lambda client: _find(client, reference))
        if not found:
            raise NoRelease(
                f"{reference} is not on this machine: `make image`, or name its registry; "
                "for a tag of the image that agents run, write a colon before it"
            )
        return found


def _find(client: DockerClient, reference: Reference) -> str:
    """Its digest in a registry, if it ever was in one; else its id, which is as much of this one image alone."""
    try:
        image = client.images.get(str(reference))
    except ImageNotFound:
        return ""
    pushed = [parse(name).digest for name in image.attrs.get("RepoDigests") or [] if _is_of(name, reference)]
    return str(reference.pinned(pushed[0])) if pushed else str(image.id)


def _is_of(name: str, reference: Reference) -> bool:
    return name.partition("@")[0] == reference.repository
