"""Where machines come from and what runs agents on them, as the settings say it. What is not used is not imported."""

import logging
from functools import partial
from typing import TYPE_CHECKING

import httpx

from bot.errors import BadSettings
from bot.machines.engine import Engine
from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine
from bot.machines.provider import Provider
from bot.settings import EngineName, ProviderName, Settings, TlsName
from bot.store.database import Database
from bot.store.keepsakes import Keepsakes

if TYPE_CHECKING:
    from bot.machines.certs import Authority
    from bot.machines.docker import Elsewhere

log = logging.getLogger(__name__)


async def open_authority(settings: Settings, keepsakes: Keepsakes) -> "Authority | None":
    """Who vouches for agents on other machines; None: public authorities do, or nobody has to."""
    if settings.provider is ProviderName.LOCAL or settings.agent_tls is not TlsName.FILES:
        return None
    # Here, because agents on this host need none: 60 ms.
    from bot.machines.certs import Authority  # noqa: PLC0415

    return await Authority.open(keepsakes)


async def open_engine(settings: Settings, keepsakes: Keepsakes, authority: "Authority | None") -> Engine:
    """What runs agents on machines; `BadSettings` if it is none for these machines."""
    is_here = settings.provider is ProviderName.LOCAL
    if settings.engine is EngineName.PROCESS:
        if not is_here:
            raise BadSettings(f"PROVIDER={settings.provider} runs agents in containers: set ENGINE=docker")
        return ProcessEngine(unconfined_tools=settings.agent_unconfined_tools)
    # Here, because with the process engine nobody needs it: 0.3 s and 23 MB.
    from bot.machines.docker import DockerEngine  # noqa: PLC0415
    from bot.machines.images import Account  # noqa: PLC0415

    account = Account(settings.registry_user, settings.registry_password)
    elsewhere = None if is_here else await _elsewhere(settings, keepsakes, authority)
    return DockerEngine(settings.docker_host, settings.docker_network, account=account, elsewhere=elsewhere)


async def open_provider(
    settings: Settings, database: Database, engine: Engine, keepsakes: Keepsakes, http: httpx.AsyncClient
) -> Provider:
    """Where machines come from; `BadSettings` says what is missing for that."""
    match settings.provider:
        case ProviderName.LOCAL:
            return LocalProvider(settings.data_dir / "machines", engine)
        case ProviderName.HOSTS:
            return _hosts(settings, database, engine)
        case ProviderName.ALEPH:
            return await _aleph(settings, database, engine, keepsakes, http)


async def _elsewhere(settings: Settings, keepsakes: Keepsakes, authority: "Authority | None") -> "Elsewhere":
    """What the engine needs for machines that are not this host."""
    from bot.machines.bootstrap import bootstrap  # noqa: PLC0415
    from bot.machines.docker import Elsewhere  # noqa: PLC0415
    from bot.machines.exposure import Trust  # noqa: PLC0415
    from bot.machines.inference import private_endpoints  # noqa: PLC0415
    from bot.machines.keys import open_ssh  # noqa: PLC0415

    allow = await private_endpoints(settings.inference_url)
    ssh = await open_ssh(settings.ssh_key_file, keepsakes)
    if settings.provider is ProviderName.HOSTS:
        log.info("each server of SSH_HOSTS needs this line in its ~/.ssh/authorized_keys: %s", ssh.public_key)
    return Elsewhere(ssh, partial(bootstrap, allow=allow), Trust(authority, settings.acme_email))


def _hosts(settings: Settings, database: Database, engine: Engine) -> Provider:
    """Own servers."""
    from bot.machines.berths import Berths  # noqa: PLC0415
    from bot.machines.hosts import HostsProvider, read_servers  # noqa: PLC0415

    servers = read_servers(settings.ssh_hosts)
    if not servers:
        raise BadSettings("SSH_HOSTS is empty: PROVIDER=hosts needs your servers, user@host:port separated by commas")
    return HostsProvider(servers, Berths(database), engine)


async def _aleph(
    settings: Settings, database: Database, engine: Engine, keepsakes: Keepsakes, http: httpx.AsyncClient
) -> Provider:
    """Rented ones."""
    # Here, because with other providers nobody needs them: 1 s and 30 MB.
    from bot.machines.aleph.opening import open_aleph  # noqa: PLC0415
    from bot.machines.keys import open_ssh  # noqa: PLC0415

    ssh = await open_ssh(settings.ssh_key_file, keepsakes)
    return await open_aleph(settings, database, http, public_key=ssh.public_key, wipe=engine.wipe)
