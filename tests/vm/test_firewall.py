"""What a container on a machine may reach, and who may reach it: each place is first shown to be there."""

import asyncio

import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120)]

WORLD = """
# Around the machine: an internet, a private network, a cloud's metadata and a resolver, all in a namespace of its own.
ip netns add world
ip link add to-world type veth peer name eth0 netns world
ip addr add 203.0.113.1/24 dev to-world
ip addr add 2001:db8:2::1/64 dev to-world nodad
ip link set to-world up
ip netns exec world ip link set eth0 up
for address in 203.0.113.10/24 2001:db8:2::10/64; do ip netns exec world ip addr add $address dev eth0; done
ip netns exec world ip route add default via 203.0.113.1
ip netns exec world ip -6 route add default via 2001:db8:2::1
for address in 10.99.0.1 10.99.0.53 172.20.0.1 192.168.77.1 100.100.100.200 169.254.169.254; do
  ip netns exec world ip addr add $address/32 dev eth0
  ip route add $address/32 via 203.0.113.10
done
ip netns exec world ip addr add fd00:77::1/128 dev eth0 nodad
ip -6 route add fd00:77::1/128 via 2001:db8:2::10
for port in 53 8000; do ip netns exec world busybox httpd -p "[::]:$port" -h /tmp; done

# An agent: published as agents are, and another one beside it.
tar -C "$(dirname "$(readlink -f "$(command -v busybox)")")" -c busybox | docker import - tiny >/dev/null
docker run -d --name agent -p 443:443 tiny /busybox httpd -f -p 443 >/dev/null
docker run -d --name other tiny /busybox httpd -f -p 443 >/dev/null

# A guest with IPv6 on the agents' network, where Docker gives none by itself.
sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.docker0.disable_ipv6=0
ip netns add guest
ip link add guest0 type veth peer name eth0 netns guest
ip link set guest0 master docker0 up
ip netns exec guest ip link set eth0 up
ip netns exec guest ip addr add 2001:db8:1::2/64 dev eth0 nodad
ip netns exec guest ip -6 route add default via 2001:db8:1::1

echo 'nameserver 10.99.0.53' >/etc/resolv.conf
baal-firewall
"""
DIAL = 'd() { if said=$($BOX nc -w 3 $1 $2 </dev/null 2>&1); then echo "$1 open"; else echo "$1 ${said##*: }"; fi; }'
OFF = """
for tables in iptables ip6tables; do
  $tables -D DOCKER-USER -i docker0 -j BAAL-OUT
  $tables -D INPUT -i docker0 -j BAAL-IN
done
iptables -D FORWARD -i docker0 -o docker0 -j DROP
"""
ANSWERS = "until docker version >/dev/null 2>&1; do sleep 0.1; done"
INTERNET, RESOLVER = "203.0.113.10", "10.99.0.53"
FORBIDDEN = ("10.99.0.1", "172.20.0.1", "192.168.77.1", "100.100.100.200", "169.254.169.254")
GATEWAY = "10.213.0.1"
REFUSED, OPEN = "Connection refused", "open"
INTERNET_6, FORBIDDEN_6, GATEWAY_6 = "2001:db8:2::10", "fd00:77::1", "2001:db8:1::1"


@pytest.fixture(scope="module")
def walled(machine):
    asyncio.run(machine.run(WORLD))
    return machine


async def from_agent(machine, *places):
    """What a container gets at each `address port`: `open`, or the error."""
    dials = "; ".join(f"d {place}" for place in places)
    return _told(await machine.run(f"docker exec -i agent /busybox sh <<'END'\nBOX=/busybox\n{DIAL}\n{dials}\nEND"))


async def from_guest(machine, *places):
    """The same over IPv6. Docker, where it is restarted, takes addresses away that it has not given."""
    dials = "; ".join(f"d {place}" for place in places)
    address = f"ip addr replace {GATEWAY_6}/64 dev docker0 nodad"
    return _told(await machine.run(f"{address}\nip netns exec guest sh <<'END'\nBOX=busybox\n{DIAL}\n{dials}\nEND"))


def _told(written):
    return dict(line.split(" ", 1) for line in written.splitlines())


async def own_addresses(machine):
    """Of the machine, and of the other agent on it."""
    other = "docker inspect -f '{{.NetworkSettings.IPAddress}}' other"
    return (await machine.run(f"ip -4 -o addr show eth0 | sed 's/.*inet //; s,/.*,,'; {other}")).split()


async def everywhere(machine):
    """What an agent gets at every place of this world."""
    own, other = await own_addresses(machine)
    places = [f"{INTERNET} 8000", f"{RESOLVER} 53", *(f"{address} 8000" for address in FORBIDDEN)]
    got = await from_agent(machine, *places, f"{GATEWAY} 22", f"{own} 22", f"{other} 443")
    return got | await from_guest(machine, *(f"{INTERNET_6} 8000", f"{FORBIDDEN_6} 8000", f"{GATEWAY_6} 22"))


async def walls(machine):
    """How it is to be."""
    refused = dict.fromkeys([*FORBIDDEN, FORBIDDEN_6, GATEWAY, GATEWAY_6, *await own_addresses(machine)], REFUSED)
    return refused | dict.fromkeys([INTERNET, RESOLVER, INTERNET_6], OPEN)


async def test_without_it_every_place_could_be_reached(walled):
    await walled.run(OFF)
    got = await everywhere(walled)
    await walled.run("baal-firewall; service docker restart; baal-firewall check")
    assert set(got.values()) == {OPEN}
    assert await everywhere(walled) == await walls(walled)


async def test_an_agent_reaches_the_internet_and_its_resolver_alone(walled):
    assert await everywhere(walled) == await walls(walled)
    assert await from_agent(walled, f"{RESOLVER} 8000") == {RESOLVER: REFUSED}


async def test_a_published_agent_is_reached_in_both_families(walled):
    await walled.run("service docker restart; baal-firewall")
    curl = "curl -sS -m 5 --retry 20 --retry-delay 1 --retry-connrefused -g -o /dev/null -w '%{http_code}'"
    for url in ("http://203.0.113.1:443/busybox", "http://[2001:db8:2::1]:443/busybox"):
        said = await walled.run(f"ip netns exec world {curl} '{url}' 2>/dev/null")
        assert said == "200"


@pytest.mark.parametrize(
    "loss",
    [
        "iptables -F; ip6tables -F; service docker restart",
        "iptables -F DOCKER-USER; ip6tables -F INPUT",
        "iptables -F BAAL-OUT",
        "iptables -I FORWARD 1 -j ACCEPT; iptables -D FORWARD -j DOCKER-USER; iptables -D FORWARD -j ACCEPT",
    ],
)
async def test_rules_that_were_lost_come_back(walled, loss):
    await walled.run(f"{loss}\n! baal-firewall check")
    await walled.bootstrap()
    await walled.run("baal-firewall check")
    assert await everywhere(walled) == await walls(walled)


async def test_applied_again_and_after_docker_started_again_nothing_is_doubled(walled):
    ours = "(iptables -S; ip6tables -S) | grep -E 'BAAL|DOCKER-USER'"
    await walled.run("baal-firewall")
    before = await walled.run(ours)
    await walled.run("baal-firewall; service docker restart; baal-firewall")
    assert sorted((await walled.run(ours)).splitlines()) == sorted(before.splitlines())
    assert before.count("-j BAAL-OUT") == before.count("-j BAAL-IN") == 2


async def test_a_model_server_at_a_private_address_is_opened_alone_and_closed_again(walled):
    allowed = [(FORBIDDEN[0], 8000), (FORBIDDEN_6, 8000), (GATEWAY, 22)]
    await walled.bootstrap(allow=allowed)
    opened = await walls(walled) | dict.fromkeys((address for address, _port in allowed), OPEN)
    assert await everywhere(walled) == opened
    assert await from_agent(walled, f"{FORBIDDEN[0]} 53") == {FORBIDDEN[0]: REFUSED}

    await walled.run(
        f"iptables -F; ip6tables -F; service docker restart; {ANSWERS}; baal-firewall; baal-firewall check"
    )
    assert await everywhere(walled) == opened

    await walled.bootstrap(allow=[(FORBIDDEN[1], 8000), (FORBIDDEN_6, 53), (GATEWAY, 23)])
    assert await everywhere(walled) == await walls(walled) | {FORBIDDEN[1]: OPEN}

    await walled.bootstrap()
    assert await everywhere(walled) == await walls(walled)
