"""Which machines and engine the settings mean."""

import logging
import subprocess
import sys

import httpx
import pytest
from cryptography.fernet import Fernet

from bot.errors import BadSettings
from bot.machines.bootstrap import script
from bot.machines.docker import DockerEngine
from bot.machines.hosts import HostsProvider
from bot.machines.local import LocalProvider
from bot.machines.opening import open_authority, open_engine, open_provider
from bot.machines.process import ProcessEngine
from bot.machines.ssh import Shell
from bot.settings import Settings
from bot.store.keepsakes import Keepsakes

SERVER = "http://203.0.113.9:8000"
HOSTS = {"provider": "hosts", "engine": "docker", "ssh_hosts": ("a.example.org",), "libertai_gateway": SERVER}


@pytest.fixture
def made(database, vault):
    async def make(**values):
        settings = Settings(
            _env_file=None, telegram_bot_token="4242:abc", bot_encryption_key=Fernet.generate_key().decode(), **values
        )
        keepsakes = Keepsakes(database, vault)
        engine = await open_engine(settings, keepsakes, await open_authority(settings, keepsakes))
        async with httpx.AsyncClient() as http:
            provider = await open_provider(settings, database, engine, keepsakes, http)
        await engine.close()
        return engine, provider

    return make


@pytest.mark.parametrize(
    ("values", "engine", "provider"),
    [
        ({}, ProcessEngine, LocalProvider),
        ({"engine": "docker"}, DockerEngine, LocalProvider),
        (HOSTS, DockerEngine, HostsProvider),
    ],
)
async def test_the_settings_choose(made, values, engine, provider):
    assert [type(part) for part in await made(**values)] == [engine, provider]


@pytest.mark.parametrize("provider", ["hosts", "aleph"])
async def test_machines_elsewhere_need_containers(made, provider):
    with pytest.raises(BadSettings, match=f"PROVIDER={provider} runs agents in containers: set ENGINE=docker"):
        await made(provider=provider)


async def test_no_servers_is_said(made):
    with pytest.raises(BadSettings, match="SSH_HOSTS is empty"):
        await made(**HOSTS | {"ssh_hosts": ()})


async def test_a_wrong_server_is_named(made):
    with pytest.raises(BadSettings, match="SSH_HOSTS: 'a:b:c' is not"):
        await made(**HOSTS | {"ssh_hosts": ("a:b:c",)})


async def test_the_servers_are_told_which_key_to_let_in(made, caplog):
    caplog.set_level(logging.INFO)
    await made(**HOSTS)
    lines = {record.getMessage().rpartition(": ")[2] for record in caplog.records if "authorized_keys" in record.msg}
    await made(**HOSTS)
    assert [line.split()[0] for line in lines] == ["ssh-ed25519"]
    assert "PRIVATE" not in caplog.text


def test_processes_need_neither_docker_nor_ssh():
    code = "import sys, bot.app; print({'docker', 'asyncssh', 'aleph', 'cryptography.x509'} & set(sys.modules))"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("values", "is_own"),
    [
        ({"provider": "aleph"}, True),
        (HOSTS, True),
        ({"provider": "aleph", "agent_tls": "acme", "acme_email": "a@example.org"}, False),
        ({}, False),
    ],
)
async def test_agents_on_other_machines_are_vouched_for_by_our_own_authority(values, is_own, database, vault):
    settings = Settings(
        _env_file=None, telegram_bot_token="4242:abc", bot_encryption_key=Fernet.generate_key().decode(), **values
    )

    assert (await open_authority(settings, Keepsakes(database, vault)) is not None) is is_own


async def prepared(engine):
    """What it does to a machine: the script that goes there."""
    given = []

    class Given(Shell):
        def __init__(self):
            """On no connection."""

        async def run(self, what, script, *, seconds):
            given.append(script)

    await engine._elsewhere.bootstrap(Given())
    return given


async def test_a_model_server_in_the_private_network_is_let_through_the_firewall_of_machines(made):
    private, _ = await made(**HOSTS | {"llm_base_url": "http://192.168.1.5:8000/v1"})
    public, _ = await made(**HOSTS | {"llm_base_url": "http://203.0.113.9:8000/v1"})
    assert await prepared(private) == [script([("192.168.1.5", 8000)])]
    assert await prepared(public) == [script()]


@pytest.mark.parametrize("values", [HOSTS, {"provider": "aleph", "engine": "docker"}])
async def test_agents_elsewhere_cannot_think_at_loopback(made, values):
    with pytest.raises(BadSettings, match=r"LLM_BASE_URL: 127[.]0[.]0[.]1 is this host alone"):
        await made(**values | {"llm_base_url": "http://127.0.0.1:8000/v1"})
