"""A server that its owner has already set up: what they chose stays, and their containers go on."""

import asyncio
import json

import pytest

from bot.errors import NotPrepared
from bot.machines.bootstrap import bootstrap

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120)]

SETTINGS = "/etc/docker/daemon.json"
THEIRS = {"labels": ["whose=mine"], "icc": True, "log-opts": {"max-size": "99m"}, "max-concurrent-uploads": 2}
BRIDGE = "10.213.0.1/24"
TINY = """
tar -C "$(dirname "$(readlink -f "$(command -v busybox)")")" -c busybox | docker import - tiny >/dev/null
"""
LOSE = """
rm -f /var/lib/baal/prepared
docker rm -f theirs >/dev/null 2>&1 || true
"""


@pytest.fixture(scope="module")
def server(machine):
    asyncio.run(machine.run(TINY))
    return machine


async def has(server, settings):
    """It is set up so, and knows nothing of us."""
    await server.run(f"{LOSE}\ncat >{SETTINGS} <<'END'\n{settings}\nEND\nservice docker restart")
    await server.run(
        "until curl -sf -o /dev/null --unix-socket /var/run/docker.sock http://x/_ping; do sleep 0.1; done"
    )


async def settings_of(server):
    return json.loads(await server.run(f"cat {SETTINGS}"))


async def test_what_they_chose_stays_and_what_is_missing_comes(server):
    await has(server, json.dumps(THEIRS | {"bip": BRIDGE}))
    await server.run("docker run -d --name theirs tiny /busybox sleep 1000")
    started = await server.run("docker inspect -f '{{.State.StartedAt}}' theirs")
    await server.bootstrap("their server")
    merged = await settings_of(server)
    assert merged == {
        "labels": ["whose=mine"],
        "max-concurrent-uploads": 2,
        "icc": False,
        "log-opts": {"max-size": "99m", "max-file": "3"},
        "log-driver": "json-file",
        "live-restore": True,
        "bip": BRIDGE,
        "default-address-pools": [{"base": "10.213.0.0/16", "size": 24}],
    }
    assert await server.run("docker inspect -f '{{.State.StartedAt}}' theirs") == started
    assert json.loads(await server.run(f"cat {SETTINGS}.before-baal")) == THEIRS | {"bip": BRIDGE}
    assert await server.run("docker info -f '{{.LiveRestoreEnabled}} {{.Labels}}'") == "true [whose=mine]\n"


async def test_a_daemon_whose_settings_are_right_is_not_restarted(server):
    await server.bootstrap()
    daemon = await server.run("pgrep -x dockerd")
    await server.run("rm /var/lib/baal/prepared")
    await server.bootstrap()
    assert await server.run("pgrep -x dockerd") == daemon


async def test_a_docker_that_nobody_has_used_gets_ours_and_moves_its_network(server):
    await has(server, '{"bip": "172.29.0.1/24"}')
    await server.run(f"rm {SETTINGS}")
    await server.bootstrap()
    assert (await settings_of(server))["icc"] is False
    assert BRIDGE in await server.run("ip -4 address show docker0")


async def test_the_first_network_stays_where_containers_know_it(server):
    await has(server, '{"bip": "172.29.0.1/24"}')
    await server.run(f"docker create --name theirs tiny /busybox true; rm {SETTINGS}")
    await server.bootstrap()
    assert "bip" not in await settings_of(server)


async def test_settings_that_nobody_can_read_are_left_and_named(server):
    await server.bootstrap()
    await server.run(f"rm /var/lib/baal/prepared; cp {SETTINGS} /root/; echo '{{ broken' >{SETTINGS}")
    async with server.shell() as shell:
        with pytest.raises(NotPrepared) as failed:
            await bootstrap(shell)
    assert f"{SETTINGS} is not JSON that can be read: correct it" in failed.value.log
    assert await server.run(f"cat {SETTINGS}; cp /root/daemon.json {SETTINGS}") == "{ broken\n"


async def test_settings_with_which_docker_does_not_start_are_taken_back(server):
    # Given on the command line too, which Docker refuses; only our own part does that.
    theirs = '{"labels": ["whose=mine"]}'
    await has(server, theirs)
    await server.run("echo 'DOCKER_OPTS=--log-driver=local' >/etc/default/docker; service docker restart")
    try:
        async with server.shell() as shell:
            with pytest.raises(NotPrepared) as failed:
                await bootstrap(shell)
        assert f"{SETTINGS} is as it was" in failed.value.log
        assert "log-driver" in failed.value.log
        assert await server.run(f"cat {SETTINGS}; docker version -f up") == f"{theirs}\nup\n"
    finally:
        await server.run("rm /etc/default/docker; service docker restart")


async def test_a_server_in_a_swarm_keeps_its_swarm(server):
    await has(server, '{"live-restore": false}')
    await server.run("docker swarm init --advertise-addr lo >/dev/null")
    await server.run(f"echo '{{}}' >{SETTINGS}; service docker restart")
    try:
        await server.bootstrap()
        assert "live-restore" not in await settings_of(server)
        assert await server.run("docker info -f '{{.Swarm.LocalNodeState}}'") == "active\n"
    finally:
        await server.run("docker swarm leave --force >/dev/null")
