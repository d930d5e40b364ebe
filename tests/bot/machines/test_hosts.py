"""Own servers: what is written down of them, and what it takes to leave them. The agents on them: tests/contracts."""

import asyncio

import pytest

from bot.errors import BadSettings, NoCapacity, NotReached
from bot.machines.berths import FIRST_PORT, LAST_PORT, MOST, Berths
from bot.machines.hosts import HostsProvider, Server, read_servers
from bot.machines.provider import remote_of

A, B = Server("a.example.org"), Server("2001:db8::1", 2222, "baal")
KEY = "ssh-ed25519 AAAA"


def machine(number):
    return f"m-{number:016x}"


class WipedEngine:
    """Remembers what it wiped; fails as long as it is told to."""

    def __init__(self):
        self.wiped = []
        self.error = None

    async def wipe(self, place):
        if self.error:
            raise self.error
        self.wiped.append(place.machine_id)


@pytest.fixture
def berths(database):
    return Berths(database)


@pytest.fixture
def engine():
    return WipedEngine()


@pytest.fixture
def provider(berths, engine):
    return HostsProvider([A, B], berths, engine)


@pytest.mark.parametrize(
    ("entry", "server"),
    [
        ("a.example.org", A),
        ("root@A.example.org:22", A),
        ("baal@[2001:DB8:0::1]:2222", B),
        ("10.0.0.7:2200", Server("10.0.0.7", 2200)),
        ("deploy@host", Server("host", 22, "deploy")),
    ],
)
def test_an_entry_says_who_logs_in_where(entry, server):
    assert read_servers([entry]) == [server]


@pytest.mark.parametrize(
    "entry", ["root@", "a b", "2001:db8::1", "[zz]", "[::1", "a:0", "a:65536", "a:x", "ssh://a", "a@b@c", "-a", "[1:2]"]
)
def test_an_entry_that_is_wrong_is_named(entry):
    with pytest.raises(BadSettings) as refused:
        read_servers(["fine.example.org", entry])
    assert f"SSH_HOSTS: {entry!r}" in str(refused.value)


def test_a_server_that_is_named_twice_is_refused():
    with pytest.raises(BadSettings, match="names a:22 twice"):
        read_servers(["root@a", "b", "other@a:22"])


async def test_machines_are_spread_over_the_servers(provider, berths):
    for number in range(6):
        await provider.rent(machine(number))
    found = [await berths.find(machine(number)) for number in range(6)]
    assert [sum(berth.server == name for berth in found) for name in (A.name, B.name)] == [3, 3]
    assert len({(berth.server, berth.port) for berth in found}) == 6
    assert all(FIRST_PORT <= berth.port <= LAST_PORT for berth in found)


async def test_many_that_come_at_once_have_a_place_of_their_own(provider, berths):
    await asyncio.gather(*(provider.rent(machine(number % 8)) for number in range(16)))
    found = [await berths.find(machine(number)) for number in range(8)]
    assert len({(berth.server, berth.port) for berth in found}) == 8


async def test_full_servers_take_no_more_until_one_leaves(provider):
    for number in range(2 * MOST):
        await provider.rent(machine(number))
    with pytest.raises(NoCapacity, match="add one to SSH_HOSTS"):
        await provider.rent(machine(99))
    await provider.rent(machine(3))  # it has its place
    await provider.give_back(machine(3))
    await provider.rent(machine(99))


async def test_without_servers_there_is_no_place(berths, engine):
    with pytest.raises(NoCapacity, match="write them into SSH_HOSTS"):
        await HostsProvider([], berths, engine).rent(machine(1))


async def test_a_place_says_how_its_server_is_reached_and_where_its_agent_answers(berths, engine):
    provider = HostsProvider([B], berths, engine)
    await provider.rent(machine(1))
    berth = await berths.find(machine(1))

    remote = remote_of(await provider.reach(machine(1)))

    target = await remote.target()
    assert (target.host, target.port, target.user, target.host_key) == ("2001:db8::1", 2222, "baal", None)
    assert await remote.urls() == [f"https://[2001:db8::1]:{berth.port}"]
    assert remote.port == berth.port


async def test_the_first_host_key_is_kept_for_all_machines_of_a_server(berths, engine):
    provider = HostsProvider([A], berths, engine)
    for number in (1, 2):
        await provider.rent(machine(number))
    first, second = [remote_of(await provider.reach(machine(number))) for number in (1, 2)]

    await first.pin(KEY)
    await second.pin("ssh-ed25519 BBBB")

    assert [(await remote.target()).host_key for remote in (first, second)] == [KEY, KEY]


async def test_a_machine_stays_in_the_books_until_it_is_wiped(provider, berths, engine):
    await provider.rent(machine(1))
    await remote_of(await provider.reach(machine(1))).pin(KEY)
    engine.error = NotReached("asleep")
    with pytest.raises(NotReached, match="asleep"):
        await provider.give_back(machine(1))
    assert await provider.listed() == [machine(1)]

    engine.error = None
    await provider.give_back(machine(1))

    assert (await provider.listed(), engine.wiped) == ([], [machine(1)])


async def test_nothing_has_to_be_wiped_where_nobody_ever_logged_in(provider, engine):
    await provider.rent(machine(1))
    engine.error = NotReached("no such server")
    await provider.give_back(machine(1))
    assert await provider.listed() == []


async def test_a_server_that_was_taken_out_of_the_settings_is_asked_back(provider, berths, engine):
    await provider.rent(machine(1))
    await remote_of(await provider.reach(machine(1))).pin(KEY)
    server = (await berths.find(machine(1))).server
    later = HostsProvider([kept for kept in (A, B) if kept.name != server], berths, engine)

    for call in (later.give_back, later.reach):
        with pytest.raises(NotReached, match="no longer in SSH_HOSTS: put it back"):
            await call(machine(1))
    assert await later.listed() == [machine(1)]


async def test_another_user_of_the_same_server_finds_its_machines(provider, berths, engine):
    await provider.rent(machine(1))
    later = HostsProvider([Server(A.host, user="new"), Server(B.host, B.port, "new")], berths, engine)
    assert (await remote_of(await later.reach(machine(1))).target()).user == "new"
