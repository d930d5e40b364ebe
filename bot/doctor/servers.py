"""Whether the bot can work on your own servers: SSH opens, it is the same server as before, Docker is there."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from bot.doctor.checks import Check, Once
from bot.doctor.database import Content
from bot.doctor.findings import Skipped, Wrong
from bot.doctor.web import reason
from bot.errors import BadSettings, NotPrepared, NotReached, Undecryptable
from bot.settings import ProviderName, Settings, encryption_keys
from bot.store.database import Database
from bot.store.keepsakes import Keepsakes
from bot.store.vault import Vault

if TYPE_CHECKING:
    from bot.machines.hosts import Server
    from bot.machines.ssh import Ssh

SECONDS = 8.0
TOLERATED_SECONDS = 60
ANOTHER = (
    "has another host key than at the first contact: if you installed it anew, delete its row from the bot's table "
    "host_key; if not, somebody else answers there"
)
LOOK = """\
echo "time=$(date +%s)"
echo "user=$(id -u)"
echo "system=$(. /etc/os-release 2>/dev/null && echo "${PRETTY_NAME:-}")"
command -v apt-get >/dev/null && echo apt=yes
if command -v docker >/dev/null; then echo "docker=$(docker version --format '{{.Server.Version}}' 2>/dev/null)"; fi
"""


def checks(settings: Settings, content: Once[Content | None], now: Callable[[], float]) -> list[Check]:
    """The key, and a line for each server; with Aleph the key alone."""
    if settings.provider is ProviderName.LOCAL:
        return [Check("servers", _not_needed)]
    servers = _Servers(settings, content, now)
    needs = ("ssh_key_file", "bot_encryption_key", "data_dir", "database_url")
    key = Check("ssh key", servers.key, needs)
    if settings.provider is ProviderName.ALEPH:
        return [key]
    if not settings.ssh_hosts:
        return [key, Check("servers", _none_named, ("ssh_hosts",))]
    return [key, *(Check("server", servers.look(each), (*needs, "ssh_hosts")) for each in settings.ssh_hosts)]


async def _not_needed() -> str:
    raise Skipped("not needed with PROVIDER=local")


async def _none_named() -> str:
    raise Wrong("SSH_HOSTS is empty: name your servers, user@host:port separated by commas")


class _Servers:
    def __init__(self, settings: Settings, content: Once[Content | None], now: Callable[[], float]) -> None:
        self._settings = settings
        self._content = content
        self._now = now
        self._key = Once(self._load)

    async def key(self) -> str:
        """The line for authorized_keys."""
        return (await self._key.get()).public_key

    def look(self, text: str) -> Callable[[], "asyncio.Future[str]"]:
        """The check of one server."""
        return lambda: asyncio.ensure_future(self._look(text))

    async def _look(self, text: str) -> str:
        server = _parse(text)
        ssh = await self._key.given("there is no usable key")
        content = await self._content.given("the database does not open")
        found = await self._ask(server, ssh, content.host_keys.get(server.name) if content else None)
        self._compare_clocks(server, found)
        return f"{server.name} {found.get('system') or 'an unknown system'}, {_docker(server, found)}"

    async def _load(self) -> "Ssh":
        """The operator's, or the bot's: made here if it has none yet, since your servers must know it beforehand."""
        from bot.machines.keys import open_ssh  # noqa: PLC0415

        file, settings = self._settings.ssh_key_file, self._settings
        database = Database(settings.database, patience=0)
        keepsakes = Keepsakes(database, Vault(encryption_keys(settings.bot_encryption_key)))
        try:
            if file is None:
                await self._content.given("the database does not open")
                settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
                await database.open()
            return await open_ssh(file, keepsakes)
        except Undecryptable:
            raise Wrong("it does not open with BOT_ENCRYPTION_KEY: put the old key back, last, after a comma") from None
        finally:
            await database.close()

    async def _ask(self, server: "Server", ssh: "Ssh", host_key: str | None) -> dict[str, str]:
        from bot.machines.provider import Target  # noqa: PLC0415
        from bot.machines.ssh import StrangeHost  # noqa: PLC0415

        async def target() -> Target:
            return Target(server.host, server.port, host_key, user=server.user)

        async def pin(_key: str) -> None:
            return  # the bot does, when it first works there

        try:
            async with asyncio.timeout(SECONDS), ssh.shell(target, pin) as shell:
                written = await shell.run("looking round", LOOK, seconds=SECONDS)
        except StrangeHost:
            raise Wrong(f"{server.name} {ANOTHER}") from None
        except NotReached as error:
            raise Wrong(_unreached(server, error, ssh.public_key)) from None
        except TimeoutError:
            raise Wrong(f"{server.name} does not answer in {SECONDS:.0f} s: is it up, and SSH_HOSTS right?") from None
        except NotPrepared:
            raise Wrong(f"{server.name} does not run bash for {server.user}: give that user bash") from None
        return dict(line.partition("=")[::2] for line in written.splitlines())

    def _compare_clocks(self, server: "Server", found: dict[str, str]) -> None:
        told = found.get("time", "")
        off = float(told) - self._now() if told.isdigit() else 0
        if abs(off) > TOLERATED_SECONDS:
            side = "ahead of" if off > 0 else "behind"
            raise Wrong(
                f"{server.name}'s clock is {abs(off):.0f} s {side} ours: keep both by NTP (timedatectl set-ntp true)"
            )


def _parse(text: str) -> "Server":
    from bot.machines.hosts import read_servers  # noqa: PLC0415

    try:
        [server] = read_servers([text])
    except BadSettings as error:
        raise Wrong(str(error)) from None
    return server


def _unreached(server: "Server", error: NotReached, public_key: str) -> str:
    import asyncssh  # noqa: PLC0415

    if isinstance(error.__cause__, asyncssh.PermissionDenied):
        return f"{server.name} does not let the key in: add to ~{server.user}/.ssh/authorized_keys there: {public_key}"
    return f"{server.name} does not answer ({reason(error)}): is it up, does sshd run, and is SSH_HOSTS right?"


def _docker(server: "Server", found: dict[str, str]) -> str:
    if found.get("docker"):
        return f"Docker {found['docker']}"
    if "docker" in found:
        raise Wrong(f"{server.name}'s Docker does not answer {server.user}: start it, and let that user use it")
    if found.get("apt") and found.get("user") == "0":
        return "no Docker yet, the bot installs it"
    raise Wrong(f"{server.name} has no Docker, and the bot installs it only as root by apt-get: install it there")
