"""A release is pulled by its digest from a registry beside the bot, through the SSH connection."""

import asyncio

import docker
import pytest
from docker.errors import APIError, NotFound

from scripts.image.registry import loopback_registry
from tests.vm.standins import DEBIAN_12, make_image

pytestmark = [pytest.mark.vm, pytest.mark.timeout(180)]


BUSYBOX = "/usr/bin/busybox"


@pytest.fixture(scope="module")
def release(docker_client):
    """A small image in a registry here: its name by digest."""
    make_image(DEBIAN_12)
    with loopback_registry() as place:
        name = f"{place}/tiny:v1"
        source = docker_client.containers.create(DEBIAN_12, name="baal-vm-test-source")
        try:
            archive, _ = source.get_archive(BUSYBOX)
            docker_client.api.import_image_from_data(b"".join(archive), repository=f"{place}/tiny", tag="v1")
            docker_client.images.push(f"{place}/tiny", tag="v1")
            yield docker_client.images.get(name).attrs["RepoDigests"][0]
        finally:
            source.remove(force=True)
            docker_client.images.remove(name, force=True)


def _pull(host, name):
    client = docker.DockerClient(base_url=host)
    try:
        client.api.pull(name)
        return client.containers.run(name, ["/busybox", "echo", "pulled"], remove=True).decode()
    finally:
        client.close()


async def test_a_release_is_pulled_by_digest_through_the_connection(machine, release):
    port = int(release.partition("/")[0].partition(":")[2])
    async with machine.shell() as shell, shell.docker() as host:
        with pytest.raises((APIError, NotFound), match="refused"):
            await asyncio.to_thread(_pull, host, release)
        await shell.offer(port)
        with machine.timed("pull"):
            assert await asyncio.to_thread(_pull, host, release) == "pulled\n"
        with pytest.raises((APIError, NotFound), match=r"manifest unknown|not found"):
            await asyncio.to_thread(_pull, host, f"{release[:-64]}{'0' * 64}")
