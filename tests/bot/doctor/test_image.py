"""Docker on this machine, and the image of the agents."""

import pytest
from litestar import Litestar, get

from tests.bot.doctor.conftest import NOBODY
from tests.fakes.libertai_serving import Serving
from tests.fakes.registry import DIGEST, Door, RegistryDouble

OTHER = "sha256:" + "0" * 64
HERE = "baal/agent:here"


@pytest.fixture
async def daemon(doctor):
    """A Docker daemon by TCP with one image and one network."""

    @get("/version")
    async def version() -> dict[str, str]:
        return {"Version": "29.1.0"}

    @get("/images/baal/agent:here/json")
    async def image() -> dict[str, str]:
        return {"Id": "sha256:1"}

    @get("/networks/agents")
    async def network() -> dict[str, str]:
        return {"Name": "agents"}

    serving = Serving(Litestar([version, image, network], openapi_config=None, logging_config=None))
    await serving.start()
    doctor.set(ENGINE="docker", DOCKER_HOST=serving.url.replace("http", "tcp"), AGENT_IMAGE=HERE)
    yield serving
    await serving.stop()


async def test_processes_need_neither(doctor):
    await doctor()

    assert doctor["docker"] == doctor["image"] == "· not needed with ENGINE=process"


async def test_docker_with_the_image(doctor, daemon):
    await doctor()

    assert doctor["docker"] == f"✓ 29.1.0 at {daemon.url.replace('http', 'tcp')}"
    assert doctor["image"] == f"✓ {HERE} is on this machine"
    assert doctor.is_well


async def test_no_docker(doctor, tmp_path):
    doctor.set(ENGINE="docker", DOCKER_HOST=f"unix://{tmp_path}/docker.sock")
    await doctor()

    assert doctor["docker"] == (
        f"✗ Docker at unix://{tmp_path}/docker.sock does not answer (no such file): "
        "start it, correct DOCKER_HOST, or let this user open it (group docker)"
    )
    assert doctor["image"] == "· not checked: Docker does not answer"


@pytest.mark.parametrize("host", ["ssh://root@example.org", "docker.sock", "unix://"])
async def test_a_docker_host_that_is_no_address(doctor, host):
    doctor.set(ENGINE="docker", DOCKER_HOST=host)
    await doctor()

    assert doctor["docker"] == (
        "✗ DOCKER_HOST is no address of Docker's: write unix:///var/run/docker.sock or tcp://host:port"
    )


async def test_something_else_than_docker(doctor, telegram):
    where = telegram.url.replace("http", "tcp")
    doctor.set(ENGINE="docker", DOCKER_HOST=where)
    await doctor()

    assert doctor["docker"] == f"✗ what answers at {where} is not Docker: correct DOCKER_HOST"


async def test_a_network_that_is_not_there(doctor, daemon):
    doctor.set(DOCKER_NETWORK="agents")
    await doctor()
    assert doctor["docker"].startswith("✓")

    doctor.set(DOCKER_NETWORK="nets")
    await doctor()
    assert doctor["docker"] == ("✗ Docker has no network nets: `docker network create` it, or correct DOCKER_NETWORK")


async def test_an_image_that_is_nowhere(doctor, daemon):
    doctor.set(AGENT_IMAGE="baal/agent:gone")
    await doctor()

    assert doctor["image"] == (
        "✗ baal/agent:gone is not on this machine: `make image`, or name its registry in AGENT_IMAGE"
    )


async def test_a_name_that_is_none(doctor, daemon):
    doctor.set(AGENT_IMAGE="https://ghcr.io/Me/Agent")
    await doctor()

    assert doctor["image"] == "✗ AGENT_IMAGE is not the name of an image: write registry/name:tag@sha256:…"


async def test_an_image_to_be_pulled_by_digest(doctor, daemon, registry):
    name = f"{registry.host}/me/agent:1@{DIGEST}"
    doctor.set(AGENT_IMAGE=name)
    await doctor()

    assert doctor["image"] == f"✓ {name} is in its registry"


async def test_a_tag_is_better_pinned(doctor, daemon, registry):
    doctor.set(AGENT_IMAGE=f"{registry.host}/me/agent:1")
    await doctor()

    assert doctor["image"] == f"✓ there; better pinned: AGENT_IMAGE={registry.host}/me/agent:1@{DIGEST}"


async def test_a_wrong_digest_is_told_the_right_one(doctor, daemon, registry):
    doctor.set(AGENT_IMAGE=f"{registry.host}/me/agent:1@{OTHER}")
    await doctor()

    right = f"AGENT_IMAGE={registry.host}/me/agent:1@{DIGEST}"
    assert doctor["image"] == f"✗ {registry.host} has no such digest; 1 is there as {right}"


@pytest.mark.parametrize("name", ["me/agent:9", "me/other:1", f"me/agent@{OTHER}", f"me/agent:9@{OTHER}"])
async def test_an_image_that_the_registry_lacks(doctor, daemon, registry, name):
    doctor.set(AGENT_IMAGE=f"{registry.host}/{name}")
    await doctor()

    whole = f"{registry.host}/{name}"
    assert doctor["image"] == f"✗ {registry.host} has no {whole}: `make push` it, or correct AGENT_IMAGE"


@pytest.mark.parametrize("door", [Door.BASIC, Door.BEARER])
async def test_a_private_registry(doctor, daemon, door):
    async with RegistryDouble(door, user="ada", password="registry-password") as registry:
        doctor.set(AGENT_IMAGE=f"{registry.host}/me/agent:1@{DIGEST}")
        await doctor()
        assert doctor["image"] == (f"✗ {registry.host} does not let us in: set REGISTRY_USER and REGISTRY_PASSWORD")

        doctor.set(REGISTRY_USER="ada", REGISTRY_PASSWORD="wrong-password")
        await doctor()
        assert doctor["image"] == (f"✗ {registry.host} does not let us in: correct REGISTRY_USER and REGISTRY_PASSWORD")

        doctor.set(REGISTRY_PASSWORD="registry-password")
        await doctor()
        assert doctor["image"].startswith("✓")


async def test_a_registry_that_is_away_or_broken(doctor, daemon, registry):
    doctor.set(AGENT_IMAGE="127.0.0.1:1/me/agent:1")
    await doctor()
    assert doctor["image"] == (
        "✗ 127.0.0.1:1 does not answer as a registry (127.0.0.1:1: ConnectError): start it, or correct AGENT_IMAGE"
    )

    registry.answers = 503
    doctor.set(AGENT_IMAGE=f"{registry.host}/me/agent:1")
    await doctor()
    assert doctor["image"].startswith(f"✗ {registry.host} does not answer as a registry ({registry.host}: HTTP 503): ")


async def test_other_machines_need_a_registry(doctor, aleph):
    doctor.set(PROVIDER="aleph", ENGINE="docker", AGENT_IMAGE="baal/agent:dev", ALEPH_API_URL=NOBODY)
    await doctor()

    assert doctor["docker"] == "· not needed here with PROVIDER=aleph"
    assert doctor["image"] == (
        "✗ baal/agent:dev names no registry to pull it from: `make push REGISTRY=…` and set AGENT_IMAGE as it says"
    )


@pytest.mark.image
async def test_a_real_daemon(doctor, docker_client):
    doctor.set(ENGINE="docker", AGENT_IMAGE="baal/agent:surely-not-here")
    await doctor()

    assert doctor["docker"] == f"✓ {docker_client.version()['Version']} at unix:///var/run/docker.sock"
    assert doctor["image"].startswith("✗ baal/agent:surely-not-here is not on this machine: ")
