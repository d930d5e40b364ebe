"""Own servers, opened by SSH: asyncssh's own server with a real shell behind it."""

import socket
import time
from pathlib import Path

import asyncssh
import pytest
from cryptography.fernet import Fernet

from bot.store.database import Database
from tests.bot.machines.test_ssh import KEY, Server
from tests.fakes.registry import DIGEST


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """The programs of the server, and no others: files to be changed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "sh", "date"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))

    def write(name, script):
        (folder / name).unlink(missing_ok=True)
        if script is not None:
            (folder / name).write_text(f"#!/bin/bash\n{script}\n")
            (folder / name).chmod(0o755)

    write("id", "echo 0")
    write("docker", "echo 29.1.0")
    return write


@pytest.fixture
async def server():
    started = Server()
    await started.start()
    yield started
    await started.stop()


@pytest.fixture(autouse=True)
def hosts(doctor, server, programs, registry, tmp_path):
    file = tmp_path / "key"
    file.write_bytes(KEY.export_private_key())
    image = f"{registry.host}/me/agent:1@{DIGEST}"
    where = f"127.0.0.1:{server.port}"
    doctor.set(PROVIDER="hosts", ENGINE="docker", AGENT_IMAGE=image, SSH_HOSTS=where, SSH_KEY_FILE=str(file))
    return where


async def test_all_is_well(doctor, hosts):
    await doctor()

    assert doctor.wrong == []
    assert doctor["ssh key"] == f"✓ {KEY.export_public_key().decode().strip()}"
    assert doctor["server"].startswith(f"✓ {hosts} ")
    assert doctor["server"].endswith(", Docker 29.1.0")
    assert doctor["wallet"] == "· not needed with PROVIDER=hosts"


async def test_the_bots_own_key_is_made_so_that_servers_can_be_told(doctor, hosts):
    doctor.set(SSH_KEY_FILE="")
    await doctor()
    public = doctor["ssh key"].removeprefix("✓ ")
    assert public.startswith("ssh-ed25519 AAAA")
    assert public.endswith(" baal")
    assert doctor["server"] == (f"✗ {hosts} does not let the key in: add to ~root/.ssh/authorized_keys there: {public}")

    doctor.set(SSH_HOSTS=f"ada@{hosts}")
    await doctor()
    assert " add to ~ada/.ssh/authorized_keys there: " in doctor["server"]
    assert doctor["ssh key"] == f"✓ {public}"
    assert doctor["secrets"] == "✓ all 1 open with BOT_ENCRYPTION_KEY"


async def test_the_bots_own_key_does_not_open(doctor):
    doctor.set(SSH_KEY_FILE="")
    await doctor()
    doctor.set(BOT_ENCRYPTION_KEY=Fernet.generate_key().decode())
    await doctor()

    assert doctor["ssh key"] == (
        "✗ it does not open with BOT_ENCRYPTION_KEY: put the old key back, last, after a comma"
    )
    assert doctor["server"] == "· not checked: there is no usable key"


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense-and-hidden", KEY.export_public_key(), b"\xff\xfe"],
    ids=["empty", "nonsense", "public", "binary"],
)
async def test_a_file_that_is_no_key(doctor, content):
    Path(doctor.environment["SSH_KEY_FILE"]).write_bytes(content)
    table = await doctor()

    assert doctor["ssh key"].startswith(f"✗ SSH_KEY_FILE {doctor.environment['SSH_KEY_FILE']} holds no private key ")
    assert "nonsense-and-hidden" not in table


async def test_a_key_file_that_is_not_there(doctor):
    doctor.set(SSH_KEY_FILE="/nowhere/key")
    await doctor()

    assert doctor["ssh key"] == ("✗ SSH_KEY_FILE /nowhere/key cannot be read (No such file or directory)")


async def test_nobody_there(doctor):
    doctor.set(SSH_HOSTS="127.0.0.1:1")
    await doctor()

    assert doctor["server"] == (
        "✗ 127.0.0.1:1 does not answer (connection refused): is it up, does sshd run, and is SSH_HOSTS right?"
    )


async def test_a_server_that_hangs(doctor, monkeypatch):
    monkeypatch.setattr("bot.doctor.servers.SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        doctor.set(SSH_HOSTS=where)
        await doctor()

    assert doctor["server"] == f"✗ {where} does not answer in 0 s: is it up, and SSH_HOSTS right?"


async def test_each_server_has_its_line_in_the_order_of_the_setting(doctor, hosts):
    doctor.set(SSH_HOSTS=f"127.0.0.1:1,{hosts},ada@[::1]:1")
    await doctor()

    assert [line.split()[:2] for line in doctor.all("server")] == [
        ["✗", "127.0.0.1:1"],
        ["✓", hosts],
        ["✗", "[::1]:1"],
    ]


@pytest.mark.parametrize("entry", ["a b", "host:0", "host:99999", "@host", "2001:db8::1"])
async def test_an_entry_that_is_no_server(doctor, entry):
    doctor.set(SSH_HOSTS=entry)
    await doctor()

    assert doctor["server"].startswith(f"✗ SSH_HOSTS: {entry!r} ")


async def test_no_servers(doctor):
    doctor.set(SSH_HOSTS="")
    await doctor()

    assert doctor["servers"] == "✗ SSH_HOSTS is empty: name your servers, user@host:port separated by commas"


async def test_a_server_that_is_another_than_before(doctor, hosts):
    doctor.data.mkdir()
    await _pin(doctor, hosts, asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip())
    await doctor()

    assert doctor["server"].startswith(f"✗ {hosts} has another host key than at the first contact: ")


async def test_a_server_that_is_the_same_as_before(doctor, hosts, server):
    doctor.data.mkdir()
    await _pin(doctor, hosts, server.host_key.export_public_key().decode().strip())
    await doctor()

    assert doctor["server"].startswith(f"✓ {hosts} ")


async def _pin(doctor, where, key):
    database = Database(f"sqlite+aiosqlite:///{doctor.data / 'baal.sqlite'}")
    await database.open()
    async with database.transaction() as transaction:
        await transaction.exec_driver_sql(
            "CREATE TABLE IF NOT EXISTS host_key (server VARCHAR PRIMARY KEY, key VARCHAR NOT NULL, created_at FLOAT)"
        )
        await transaction.exec_driver_sql("INSERT INTO host_key VALUES (?, ?, 1)", (where, key))
    await database.close()


async def test_no_docker_is_installed_by_the_bot(doctor, programs):
    programs("docker", None)
    programs("apt-get", "")
    await doctor()
    assert doctor["server"].endswith(", no Docker yet, the bot installs it")

    programs("id", "echo 1000")
    await doctor()
    assert doctor["server"].endswith(
        " has no Docker, and the bot installs it only as root by apt-get: install it there"
    )


async def test_docker_that_does_not_answer(doctor, hosts, programs):
    programs("docker", "echo 'permission denied' >&2; exit 1")
    await doctor()

    assert doctor["server"] == f"✗ {hosts}'s Docker does not answer root: start it, and let that user use it"


async def test_a_server_whose_clock_is_wrong(doctor, hosts, programs):
    programs("date", f"echo {int(time.time()) - 300}")
    await doctor()

    assert doctor["server"].startswith(f"✗ {hosts}'s clock is 30")
    assert doctor["server"].endswith(" s behind ours: keep both by NTP (timedatectl set-ntp true)")
