"""What only the docker engine can get wrong."""

import asyncio
import dataclasses
import secrets
import socket

import pytest
from pydantic import SecretStr

from bot.errors import MachineError, NotStarted
from bot.machines.docker import DockerEngine
from bot.machines.engine import Spec
from bot.machines.provider import Place
from tests.containers import AGENT_IMAGE

pytestmark = pytest.mark.image
SPEC = Spec(
    release=AGENT_IMAGE,
    name="Ada",
    job="Plans meals.",
    model="scripted",
    secret=SecretStr("a-secret-of-thirty-two-characters"),
    llm_base_url="http://127.0.0.1:9/v1",
    llm_api_key=SecretStr("LTAI_key_that_must_stay_secret"),
)


@pytest.fixture
async def engine(agent_image):
    made = DockerEngine()
    yield made
    await made.close()


@pytest.fixture
async def place(engine):
    made = Place(machine_id=f"m-{secrets.token_hex(8)}", path="")
    yield made
    await engine.wipe(made)


def container(docker_client, place):
    return docker_client.containers.get(f"baal-{place.machine_id}")


@pytest.mark.parametrize(
    "job",
    [
        "$HOME ${AGENT_SECRET} `id` $(id)",
        "one\nAGENT_SECRET=x\nthree\r\nfour",
        "\"double\" 'single' \\back\\slash",
        "x" * 90_000,
        "مساعد 🧑‍🚀",
    ],
    ids=range(5),
)
async def test_a_hostile_job_is_one_variable(engine, place, docker_client, job):
    await engine.run(place, dataclasses.replace(SPEC, job=job))
    variables = container(docker_client, place).attrs["Config"]["Env"]
    assert f"AGENT_JOB={job}" in variables
    assert [value for value in variables if value.startswith("AGENT_SECRET=")] == [
        f"AGENT_SECRET={SPEC.secret.get_secret_value()}"
    ]


@pytest.mark.parametrize(
    ("job", "says"), [("x" * 131_072, "AGENT_JOB is longer"), ("a\0b", "AGENT_JOB holds a NUL character")]
)
async def test_what_no_environment_can_carry_is_refused_before_docker_is_asked(engine, place, docker_client, job, says):
    with pytest.raises(NotStarted, match=says):
        await engine.run(place, dataclasses.replace(SPEC, job=job))
    assert not docker_client.containers.list(all=True, filters={"name": place.machine_id})


async def test_the_agent_is_told_its_digest(engine, place, docker_client):
    await engine.run(place, SPEC)
    variables = container(docker_client, place).attrs["Config"]["Env"]
    assert f"AGENT_DIGEST={docker_client.images.get(AGENT_IMAGE).id}" in variables


async def test_an_image_that_is_nowhere_is_named(engine, place):
    with pytest.raises(
        NotStarted, match=r"the image 127\.0\.0\.1:9/baal/none:1 is not on this machine and cannot be pulled"
    ):
        await engine.run(place, dataclasses.replace(SPEC, release="127.0.0.1:9/baal/none:1"))


async def test_a_machine_is_not_warm_without_its_image(engine, place):
    with pytest.raises(NotStarted, match=r"the image 127\.0\.0\.1:9/baal/none:1 is not on this machine and cannot be"):
        await engine.warm(place, "127.0.0.1:9/baal/none:1")


async def test_an_image_without_a_registry_is_never_taken_from_strangers(engine, place):
    with pytest.raises(NotStarted, match=r"the image baal/none:dev is not on this machine: `make image`"):
        await engine.run(place, dataclasses.replace(SPEC, release="baal/none:dev"))


async def test_an_agent_that_ends_at_once_is_not_started_for_ever(engine, place, docker_client):
    with pytest.raises(NotStarted) as caught:
        await engine.run(place, dataclasses.replace(SPEC, secret=SecretStr("short")))
    assert "AGENT_SECRET" in caught.value.log
    assert container(docker_client, place).status == "exited"


async def test_two_bots_at_once_leave_one_agent(engine, place, docker_client):
    other = DockerEngine()
    done = await asyncio.gather(engine.run(place, SPEC), other.run(place, SPEC), return_exceptions=True)
    await other.close()
    assert any(isinstance(url, str) for url in done), done
    assert len(docker_client.containers.list(filters={"name": place.machine_id})) == 1
    assert await engine.run(place, SPEC)


async def test_a_port_that_was_taken_meanwhile_is_given_up(engine, place, docker_client):
    url = await engine.run(place, SPEC)
    await asyncio.to_thread(container(docker_client, place).stop)
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))):
        assert await engine.run(place, SPEC) != url


async def test_an_unreachable_daemon_is_named_with_what_to_do(tmp_path):
    engine = DockerEngine(f"unix://{tmp_path}/none.sock")
    words = r"does not answer \(No such file or directory\)\. Is it running, is DOCKER_HOST right"
    with pytest.raises(MachineError, match=words):
        await engine.inspect(Place(machine_id="m-0123456789abcdef", path=""))


async def test_the_container_is_confined(engine, place, docker_client):
    await engine.run(place, SPEC)
    host = container(docker_client, place).attrs["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert set(host["CapAdd"]) == {"SETUID", "SETGID", "KILL"}
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["PidsLimit"], host["Memory"]) == (256, 1 << 30)
    assert not host["Privileged"]
    assert all("docker.sock" not in bind for bind in host["Binds"])
    assert host["PortBindings"]["80/tcp"][0]["HostIp"] == "127.0.0.1"
