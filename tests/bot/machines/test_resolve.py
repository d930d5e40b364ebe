"""A name becomes a release by digest, once; or it is said why not."""

import httpx
import pytest
from docker.errors import ImageNotFound
from pydantic import SecretStr

from bot.errors import MachineError
from bot.machines.daemon import Session
from bot.machines.registry import Registry
from bot.machines.resolve import NoRelease, Resolver, expand
from bot.settings import Settings
from tests.fakes.registry import DIGEST, Door, RegistryDouble

ID, PUSHED = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
RUNS = f"registry.example:5000/me/agent:1@{ID}"


class Image:
    def __init__(self, *digests):
        self.id = ID
        self.attrs = {"RepoDigests": list(digests)}


class Daemon:
    """As much of Docker's client as is asked."""

    def __init__(self, **images):
        self.images = self
        self._here = {f"baal/agent:{tag}": image for tag, image in images.items()}

    def get(self, name):
        if name not in self._here:
            raise ImageNotFound(name)
        return self._here[name]


def settings(**values):
    return Settings(
        _env_file=None,
        telegram_bot_token="1:a",
        bot_encryption_key="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        **({"engine": "docker"} | values),
    )


@pytest.fixture
async def resolve():
    async with httpx.AsyncClient() as http:

        async def ask(said, *, current=RUNS, here=None, **values):
            chosen = settings(**values)
            session = here and Session(lambda: here, lambda error: MachineError(str(error)))
            registry = Registry(http, chosen.registry_user, chosen.registry_password)
            return await Resolver(chosen, registry, session).release(said, current)

        yield ask


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (":2", "registry.example:5000/me/agent:2"),
        (f"@{PUSHED}", f"registry.example:5000/me/agent@{PUSHED}"),
        (" other/agent:2 ", "other/agent:2"),
    ],
)
def test_a_tag_alone_is_of_the_image_that_agents_run(said, name):
    assert expand(said, RUNS) == name


async def test_a_tag_becomes_the_digest_that_the_registry_has_now(resolve):
    async with RegistryDouble() as registry:
        assert await resolve(f"{registry.host}/me/agent:1") == f"{registry.host}/me/agent:1@{DIGEST}"
        assert await resolve(":1", current=f"{registry.host}/me/agent:0") == f"{registry.host}/me/agent:1@{DIGEST}"


async def test_what_the_registry_does_not_have_is_said(resolve):
    async with RegistryDouble() as registry:
        with pytest.raises(NoRelease, match=r"has no .*/me/agent:9: `make push` it, or correct the name"):
            await resolve(f"{registry.host}/me/agent:9")


async def test_a_registry_that_is_away_or_shut_is_said(resolve):
    with pytest.raises(NoRelease, match="does not answer as a registry"):
        await resolve("127.0.0.1:1/me/agent:1")
    async with RegistryDouble(Door.BASIC, user="me", password="right") as registry:
        with pytest.raises(NoRelease, match="REGISTRY_USER and REGISTRY_PASSWORD"):
            await resolve(f"{registry.host}/me/agent:1")
        pinned = await resolve(f"{registry.host}/me/agent:1", registry_user="me", registry_password=SecretStr("right"))
    assert pinned.endswith(DIGEST)


async def test_an_image_of_this_machine_is_its_id_or_what_it_was_pushed_as(resolve):
    here = Daemon(built=Image(), pushed=Image(f"other/agent@{ID}", f"baal/agent@{PUSHED}"))

    assert await resolve("baal/agent:built", here=here) == ID
    assert await resolve("baal/agent:pushed", here=here) == f"baal/agent:pushed@{PUSHED}"


async def test_an_image_that_is_not_on_this_machine_is_never_pulled(resolve):
    with pytest.raises(NoRelease, match=r"1\.5\.0 is not on this machine: .* write a colon before it"):
        await resolve("1.5.0", here=Daemon())


async def test_other_machines_need_a_registry(resolve):
    with pytest.raises(NoRelease, match="names no registry that machines could pull it from"):
        await resolve("baal/agent:1", provider="hosts")


@pytest.mark.parametrize("said", ["Not An Image", "registry.example/agent@sha256:12"])
async def test_what_is_no_name_is_said(resolve, said):
    with pytest.raises(NoRelease, match="is not the name of an image"):
        await resolve(said)
    with pytest.raises(NoRelease, match="no image is named"):
        await resolve(" ")


async def test_without_containers_a_release_is_a_label(resolve):
    assert await resolve("anything at all", engine="process") == "anything at all"
    assert await resolve(":2", engine="process", current="baal/agent:dev") == "baal/agent:2"
