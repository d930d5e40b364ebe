import asyncio

import pytest

from bot.machines import ssh
from tests.vm.machine import machine_of
from tests.vm.standins import DEBIAN_12, DEBIAN_13, PREPARED_12, PREPARED_13, StandIns


@pytest.fixture(scope="session", autouse=True)
def often():
    """These machines boot within a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssh, "POLL_SECONDS", 0.2)
        yield


@pytest.fixture(scope="module", params=[DEBIAN_12, DEBIAN_13], ids=["debian12", "debian13"])
def fresh(request, docker_client):
    """A machine as it is rented, without Docker. One for all tests of a module."""
    with machine_of(docker_client, request.param) as machine:
        yield machine


@pytest.fixture(params=[DEBIAN_12, DEBIAN_13], ids=["debian12", "debian13"])
def another(request, docker_client):
    """As fresh, for one test alone."""
    with machine_of(docker_client, request.param) as machine:
        yield machine


@pytest.fixture(scope="module", params=[PREPARED_12, PREPARED_13], ids=["debian12", "debian13"])
def machine(request, docker_client):
    """A machine that is ready for agents. One for all tests of a module."""
    with machine_of(docker_client, request.param) as machine:
        asyncio.run(machine.bootstrap())
        yield machine


@pytest.fixture
async def standins(docker_client):
    """Machines for the network's double, with Docker in them."""
    made = StandIns(docker_client, PREPARED_12)
    yield made
    await made.close()
