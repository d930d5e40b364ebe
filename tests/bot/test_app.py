"""Which machines and engine the settings mean."""

import logging
import subprocess
import sys

import pytest
from cryptography.fernet import Fernet

from bot.app import make_engine, make_provider
from bot.errors import BadSettings
from bot.machines.docker import DockerEngine
from bot.machines.hosts import HostsProvider
from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine
from bot.settings import Settings
from bot.store.keepsakes import Keepsakes

HOSTS = {"provider": "hosts", "engine": "docker", "ssh_hosts": ("a.example.org",)}


@pytest.fixture
def made(database, vault):
    async def make(**values):
        settings = Settings(
            _env_file=None, telegram_bot_token="4242:abc", bot_encryption_key=Fernet.generate_key().decode(), **values
        )
        engine = await make_engine(settings, Keepsakes(database, vault))
        provider = make_provider(settings, database, engine)
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


async def test_agents_that_share_a_server_have_no_public_certificate(made):
    with pytest.raises(BadSettings, match="set AGENT_TLS=files"):
        await made(**HOSTS, agent_tls="acme")


async def test_the_servers_are_told_which_key_to_let_in(made, caplog):
    caplog.set_level(logging.INFO)
    await made(**HOSTS)
    lines = {record.getMessage().rpartition(": ")[2] for record in caplog.records if "authorized_keys" in record.msg}
    await made(**HOSTS)
    assert [line.split()[0] for line in lines] == ["ssh-ed25519"]
    assert "PRIVATE" not in caplog.text


def test_processes_need_neither_docker_nor_ssh():
    code = "import sys, bot.app; print({'docker', 'asyncssh', 'aleph'} & set(sys.modules))"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
