"""A fresh machine becomes ready for agents: real SSH, real apt, a real Docker."""

import asyncio

import docker
import pytest

from bot.errors import NotPrepared
from bot.machines.bootstrap import bootstrap

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

HOLD = """
python3 - <<'END' >/dev/null 2>&1 &
import fcntl, time
locks = [open(name, "w") for name in ("/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock")]
for lock in locks:
    fcntl.lockf(lock, fcntl.LOCK_EX)
open("/run/locks-are-held", "w").close()
time.sleep(5)
END
until [ -e /run/locks-are-held ]; do sleep 0.05; done
"""
"""What a machine's own first boot does."""
NO_MIRROR = """
cp /etc/apt/sources.list /root/
echo 'deb http://127.0.0.1:9/debian stable main' >/etc/apt/sources.list
"""
BREAK_OFF = """
until [ "$(dpkg-query -W -f '${db:Status-Status}' docker.io 2>/dev/null)" = half-installed ]; do :; done
kill -9 $(pgrep -f '^bash -s' | grep -vx $$) $(pgrep -x 'apt-get|dpkg')
"""


@pytest.fixture(scope="module")
def ready(fresh):
    """It was prepared, while its own first boot still held apt's locks; and once more."""

    async def prepare():
        await fresh.run(HOLD)
        await fresh.bootstrap()
        await fresh.bootstrap("again")

    asyncio.run(prepare())
    return fresh


async def test_docker_answers_on_networks_that_are_not_the_nodes(ready):
    async with ready.shell() as shell, shell.docker() as host:
        version, bridge = await asyncio.to_thread(_ask, host)
    assert version
    assert bridge == "10.213.0.0/24"


def _ask(host):
    client = docker.DockerClient(base_url=host)
    try:
        return client.version()["Version"], client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Subnet"]
    finally:
        client.close()


async def test_apts_locks_were_waited_for_and_the_second_time_took_a_moment(ready):
    assert ready.steps["bootstrap"] > 5
    assert ready.steps["again"] < ready.steps["bootstrap"] / 5


async def test_a_machine_that_boots_again_is_still_ready(ready):
    before = await ready.run("cat /etc/docker/daemon.json /var/lib/baal/prepared")
    await ready.reboot()
    await ready.run("until [ -S /var/run/docker.sock ]; do sleep 0.1; done; baal-firewall check")
    await ready.bootstrap("after a reboot")
    assert ready.steps["after a reboot"] < ready.steps["bootstrap"] / 5
    assert await ready.run("cat /etc/docker/daemon.json /var/lib/baal/prepared") == before


async def test_whatever_breaks_it_off_the_next_time_completes_it(another):
    await another.run(NO_MIRROR)
    async with another.shell() as shell:
        with pytest.raises(NotPrepared) as failed:
            await bootstrap(shell)
    assert "Unable to locate package docker.io" in failed.value.log

    await another.run("cp /root/sources.list /etc/apt/")
    async with another.shell() as shell:
        broken = asyncio.create_task(bootstrap(shell))
        await another.run(BREAK_OFF)
        with pytest.raises(NotPrepared):
            await broken
    assert "half-installed" in await another.run("dpkg-query -W -f '${db:Status-Status}' docker.io")
    await another.bootstrap("completed")
    assert await another.run("dpkg-query -W -f '${db:Status-Status}' docker.io") == "installed"
    assert "true" in await another.run("curl -sf --unix-socket /var/run/docker.sock http://x/_ping && echo true")
