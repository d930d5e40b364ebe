"""A certificate by ACME, for real: Pebble (Let's Encrypt's own test server) issues it to the agent's container."""

import io
import json
import secrets
import socket
import ssl
import subprocess
import time
from contextlib import suppress

import httpx
import pytest

from tests.certificates import authority, leaf

pytestmark = [pytest.mark.acme, pytest.mark.timeout(300)]
HOST, EMAIL = "abc123.2n6.me", "operator@example.org"
PEBBLE = "baal-test/pebble"
DOCKERFILE = b"""
FROM python:3.13-slim-trixie
RUN apt-get update -q && apt-get install -q -y --no-install-recommends pebble && rm -rf /var/lib/apt/lists/*
"""
CONFIG = {
    "pebble": {
        "listenAddress": "0.0.0.0:14000",
        "managementListenAddress": "0.0.0.0:15000",
        "certificate": "/pebble/cert.pem",
        "privateKey": "/pebble/key.pem",
        # Nobody listens there: on Aleph Cloud, too, an HTTP challenge does not reach the agent.
        "httpPort": 9,
        "tlsPort": 443,
        "externalAccountBindingRequired": False,
    }
}


@pytest.fixture
def network(docker_client):
    made = docker_client.networks.create(f"baal-test-{secrets.token_hex(4)}")
    yield made
    made.remove()


@pytest.fixture
def pebble(docker_client, agent_image, network, tmp_path):
    """The ACME server on the network, by the name `pebble`. It asks Docker's DNS where a host name leads."""
    docker_client.images.build(fileobj=io.BytesIO(DOCKERFILE), tag=PEBBLE, rm=True, forcerm=True)
    issuer, key = authority()
    cert_pem, key_pem = leaf(issuer, key, "pebble")
    for name, data in {
        "issuer.pem": issuer.encode(),
        "cert.pem": cert_pem,
        "key.pem": key_pem,
        "config.json": json.dumps(CONFIG).encode(),
    }.items():
        (tmp_path / name).write_bytes(data)
    container = docker_client.containers.create(
        PEBBLE,
        ["pebble", "-config", "/pebble/config.json"],
        name=f"baal-test-{secrets.token_hex(4)}",
        environment={"PEBBLE_VA_NOSLEEP": "1"},
        ports={"15000/tcp": ("127.0.0.1", None)},
        volumes={str(tmp_path): {"bind": "/pebble", "mode": "ro"}},
    )
    try:
        network.connect(container, aliases=["pebble"])
        container.start()
        yield container
    finally:
        container.remove(force=True)


@pytest.fixture
def agent(network, pebble, boxes, tmp_path):
    """Starts an agent that wants its certificate from there; the volume of certificates can be handed on."""

    def start(volume):
        box = boxes.create(
            {"TLS_MODE": "acme", "SITE_HOST": HOST, "ACME_CA": "https://pebble:14000/dir", "ACME_EMAIL": EMAIL},
            volumes={
                volume: {"bind": "/caddy"},
                # Go trusts every file in this folder: how the test server itself is trusted.
                str(tmp_path / "issuer.pem"): {"bind": "/etc/ssl/certs/extra-ca.pem", "mode": "ro"},
            },
        )
        network.connect(box.container, aliases=[HOST])
        box.container.start()
        return box

    return start


@pytest.fixture
def volume(docker_client):
    made = docker_client.volumes.create(f"baal-test-{secrets.token_hex(4)}")
    yield made.name
    made.remove(force=True)


def trusted_root(pebble):
    """The certificate of the authority that Pebble made up when it started."""
    pebble.reload()
    port = pebble.ports["15000/tcp"][0]["HostPort"]
    with httpx.Client(verify=False) as client:  # noqa: S501  its certificate is the test's own
        while True:
            with suppress(httpx.TransportError):  # it is only starting
                return client.get(f"https://127.0.0.1:{port}/roots/0").text


def ask(box, root, tmp_path):
    """The health of the agent by its name, trusting Pebble's root alone."""
    file = tmp_path / "root.pem"
    file.write_text(root)
    port = box.url(443, "https").rpartition(":")[2]
    command = ("curl", "-sS", "--cacert", str(file), "--resolve", f"{HOST}:{port}:127.0.0.1")
    return subprocess.run((*command, f"https://{HOST}:{port}/health"), capture_output=True, text=True, check=False)


def wait_healthy(box, root, tmp_path):
    deadline = time.monotonic() + 90
    while (asked := ask(box, root, tmp_path)).returncode:
        assert time.monotonic() < deadline, asked.stderr + box.logs()
    return json.loads(asked.stdout)


def serial(box):
    port = int(box.url(443, "https").rpartition(":")[2])
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname=HOST) as tls:
        return tls.getpeercert(binary_form=True)


def test_an_agent_gets_a_trusted_certificate_and_keeps_it(volume, pebble, agent, tmp_path):
    box = agent(volume)
    root = trusted_root(pebble)
    assert wait_healthy(box, root, tmp_path)["status"] == "ok"
    first = serial(box)
    files = box.run("sh", "-c", "find /caddy -name '*.key' -exec stat -c '%a %u' {} +", user=10002).output
    assert set(files.splitlines()) == {"600 10002"}
    account = box.run("sh", "-c", "find /caddy -name '*.json' -path '*/users/*' -exec cat {} +", user=10002).output
    assert f'"mailto:{EMAIL}"' in account
    assert pebble.logs().count(b"Pulled a task") == 1  # the first challenge was the right one

    box.container.remove(force=True)
    replaced = agent(volume)
    assert wait_healthy(replaced, root, tmp_path)["status"] == "ok"
    assert serial(replaced) == first
