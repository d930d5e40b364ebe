"""The provider `hosts`: own servers, opened by SSH, with several machines on each."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

from bot.errors import BadSettings, MachineError, NotReached
from bot.machines.berths import Berths
from bot.machines.engine import Engine
from bot.machines.provider import MACHINE_ID, Place, Remote, Target
from bot.store.models import Berth

ENTRY = re.compile(
    r"(?:(?P<user>[a-z_][a-z0-9_-]*)@)?"
    r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<host>[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?))"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)
USER, SSH_PORT, LAST_PORT = "root", 22, 65_535


@dataclass(frozen=True, slots=True)
class Server:
    """An entry of SSH_HOSTS. `host` is a name, or an address without brackets."""

    host: str
    port: int = SSH_PORT
    user: str = USER

    @property
    def name(self) -> str:
        """What tells it from others, whoever logs in."""
        return f"{in_url(self.host)}:{self.port}"


def in_url(host: str) -> str:
    """As a URL has it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def read_servers(entries: Sequence[str]) -> list[Server]:
    """`user@host:port` each; `BadSettings` names the entry that is wrong."""
    servers = [_read(entry) for entry in entries]
    for server in servers:
        if sum(server.name == other.name for other in servers) > 1:
            raise BadSettings(f"SSH_HOSTS names {server.name} twice; leave one of them out")
    return servers


def _read(entry: str) -> Server:
    found = ENTRY.fullmatch(entry)
    if found is None:
        raise BadSettings(
            f"SSH_HOSTS: {entry!r} is not user@host:port (an IPv6 address in brackets: root@[2001:db8::1])"
        )
    port = int(found["port"] or SSH_PORT)
    if not 0 < port <= LAST_PORT:
        raise BadSettings(f"SSH_HOSTS: {entry!r} has no port between 1 and {LAST_PORT}")
    return Server(_host(entry, found["host"], found["address"]), port, found["user"] or USER)


def _host(entry: str, host: str | None, address: str | None) -> str:
    if host is not None:
        return host.lower()
    try:
        return str(IPv6Address(address or ""))
    except ValueError:
        raise BadSettings(f"SSH_HOSTS: {entry!r} has no IPv6 address in its brackets") from None


class HostsProvider:
    """A machine is a place on a server: a port, and whatever has the machine's name in its Docker."""

    name = "hosts"

    def __init__(self, servers: Sequence[Server], berths: Berths, engine: Engine) -> None:
        self._servers = {server.name: server for server in servers}
        self._berths = berths
        self._engine = engine

    async def rent(self, machine_id: str) -> None:
        """Write down a server and a port for it."""
        _check(machine_id)
        await self._berths.take(machine_id, list(self._servers))

    async def reach(self, machine_id: str) -> Place:
        """How its server is reached; whether it is up is seen when it is prepared."""
        _check(machine_id)
        berth = await self._berths.find(machine_id)
        if berth is None:
            raise NotReached(f"{machine_id} is on no server")
        return self._place(berth, self._server(berth))

    async def give_back(self, machine_id: str) -> None:
        """Remove everything of it from its server; it stays in the books until that has worked."""
        _check(machine_id)
        berth = await self._berths.find(machine_id)
        if berth is None:
            return
        # Without a host key, nobody of ours has ever logged in there.
        if await self._berths.host_key(berth.server):
            await self._engine.wipe(self._place(berth, self._server(berth)))
        await self._berths.leave(machine_id)

    async def listed(self) -> list[str]:
        """Those in the books: a server knows nothing of renting."""
        return await self._berths.all()

    def _server(self, berth: Berth) -> Server:
        server = self._servers.get(berth.server)
        if server is None:
            raise NotReached(
                f"{berth.machine_id} is on {berth.server}, which is no longer in SSH_HOSTS: put it back until the "
                "agents on it are deleted"
            )
        return server

    def _place(self, berth: Berth, server: Server) -> Place:
        async def target() -> Target:
            return Target(server.host, server.port, await self._berths.host_key(server.name), user=server.user)

        async def pin(key: str) -> None:
            await self._berths.pin(server.name, key)

        async def urls() -> list[str]:
            return [f"https://{in_url(server.host)}:{berth.port}"]

        return Place(berth.machine_id, remote=Remote(target=target, pin=pin, urls=urls, port=berth.port))


def _check(machine_id: str) -> None:
    if not MACHINE_ID.fullmatch(machine_id):
        raise MachineError(f"not a machine id: {machine_id!r}")
