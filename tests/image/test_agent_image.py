"""The image as its engine runs it: what it says of itself, how it starts and ends, and what it makes of bad input."""

import asyncio
import json
import ssl
import subprocess
import time
from itertools import pairwise

import aiohttp
import httpx
import pytest

from agent.protocol import VERSION_HEADER
from tests.certificates import authority, leaf
from tests.containers import AGENT, CADDY, KEY, SECRET, gateway, put
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.libertai_sim import Pace, Script

pytestmark = pytest.mark.image
KILL_ALL_OF = """
import os
for process in filter(str.isdigit, os.listdir("/proc")):
    if os.stat("/proc/" + process).st_uid == {user} and int(process) != os.getpid():
        os.kill(int(process), 9)
"""
# The supervisor's only child that is root.
KILL_LAUNCHER = """
import os
for process in filter(str.isdigit, os.listdir("/proc")):
    parent = open(f"/proc/{process}/stat").read().rpartition(")")[2].split()[1]
    if parent not in ("0", "1") and os.stat("/proc/" + process).st_uid == 0:
        os.kill(int(process), 9)
"""
AUTHORIZED = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture
async def libertai(docker_client):
    async with LibertAIDouble(keys=[KEY], host=gateway(docker_client)) as double:
        yield double


@pytest.fixture
def talking(boxes, libertai):
    """A container whose model is the double."""
    box = boxes.start({"LLM_BASE_URL": f"{libertai.url}/v1"})
    box.wait_healthy()
    return box


def test_health_names_version_revision_and_digest(boxes):
    image = boxes.client.images.get("baal/agent:dev")
    box = boxes.start({"AGENT_DIGEST": image.id})
    health = box.wait_healthy().json()
    labels = image.labels
    assert health["digest"] == image.id
    assert health["version"] == labels["org.opencontainers.image.version"]
    assert health["revision"] == labels["org.opencontainers.image.revision"]
    assert labels["org.opencontainers.image.base.name"].startswith("python:")
    assert {"title", "description", "licenses"} <= {name.rpartition(".")[2] for name in labels}


def test_public_servers_are_trusted(box):
    """ca-certificates are in the image and Python finds them."""
    ran = box.run("python", "-c", "import ssl; print(len(ssl.create_default_context().get_ca_certs()))", user=AGENT)
    assert int(ran.output) > 50


def test_nothing_in_the_image_can_be_written(box):
    for user in (AGENT, CADDY, 10003, 0):
        ran = box.run("sh", "-c", "find / -xdev -writable -not -type l 2>/dev/null", user=user)
        own = ("/proc", "/sys", "/dev", "/tmp", "/run", "/data", "/workspace", "/caddy", "/etc/")  # noqa: S108
        assert [path for path in ran.output.split() if not path.startswith(own)] == []


@pytest.mark.parametrize(("name", "user"), [("caddy", CADDY), ("agent", AGENT)])
def test_any_death_ends_the_container(boxes, name, user):
    box = boxes.start()
    box.wait_healthy()
    box.run("python", "-c", KILL_ALL_OF.format(user=user), user=user)
    assert box.end() == 1
    assert f"{name} ended with -9" in box.logs()


def test_the_death_of_the_launcher_ends_the_container_too(boxes):
    box = boxes.start()
    box.wait_healthy()
    box.run("python", "-c", KILL_LAUNCHER)
    assert box.end() == 1
    assert "tool launcher ended with -9" in box.logs()


def test_it_stops_at_once_when_idle(boxes):
    box = boxes.start()
    box.wait_healthy()
    box.container.stop(timeout=20)
    assert box.end() == 0


async def test_a_running_answer_is_finished_before_it_stops(talking, libertai):
    await libertai.script(Script(text="one two three four five", hold_after=2))
    async with aiohttp.ClientSession(headers=AUTHORIZED) as session:
        async with session.post(
            f"{talking.url()}/chat",
            json={"turn_id": "t1", "chat_id": "c", "message": "hi"},
            headers={"Accept": "text/event-stream"},
        ) as response:
            first = await response.content.readuntil(b"\n\n")
            assert b"one" in first
            stopping = asyncio.create_task(asyncio.to_thread(talking.container.stop, timeout=30))
            async with asyncio.timeout(30):
                while (await _health(session, talking.url()))["status"] != "draining":
                    await asyncio.sleep(0.05)
            await libertai.release()
            rest = await response.read()
        assert b"five" in rest
        assert b'"done"' in rest
        await stopping
    assert talking.end() == 0


async def _health(session, url):
    async with session.get(f"{url}/health") as response:
        return await response.json()


async def test_pieces_of_an_answer_arrive_as_they_are_said(boxes, libertai):
    """Nothing on the way waits for more: over HTTP/1.1 and 2, also when compression is offered."""
    files, trusted = certificate("agent.test")
    box = boxes.create({"LLM_BASE_URL": f"{libertai.url}/v1", "TLS_MODE": "files"})
    put(box.container, "/caddy", files, user=CADDY)
    box.container.start()
    box.wait_healthy(httpx.Client(verify=trusted), box.url(443, "https"))
    for number, version in enumerate(("--http1.1", "--http2")):
        await libertai.script(Script(text="one two three four", pace=Pace(first_token_seconds=0, tokens_per_second=4)))
        gaps = await _gaps(box, version, f"t{number}")
        assert len([gap for gap in gaps if gap > 0.1]) >= 2, gaps


async def _gaps(box, version, turn):
    """Seconds between the chunks that curl gets."""
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sNk", version, "-H", f"Authorization: Bearer {SECRET}", "-H", "Accept: text/event-stream"),
        *("-H", "Accept-Encoding: gzip", "-H", "Content-Type: application/json", f"{box.url(443, 'https')}/chat"),
        *("-d", json.dumps({"turn_id": turn, "chat_id": turn, "message": "hi"})),
        stdout=asyncio.subprocess.PIPE,
    )
    assert curl.stdout is not None  # PIPE was asked for
    times = []
    while await curl.stdout.read(4096):
        times.append(time.monotonic())
    await curl.wait()
    return [later - earlier for earlier, later in pairwise(times)]


def test_bodies_have_a_limit_but_files_and_snapshots_have_another(box):
    big = b"x" * 2_000_000
    refused = httpx.post(f"{box.url()}/chat", content=big, headers=AUTHORIZED)
    assert refused.status_code == 413
    assert refused.json()["kind"] == "too_large"
    assert refused.headers["Connection"] == "close"  # what is left of the body is not the next request
    for method, path in (("PUT", "/snapshot"), ("PUT", "/files/c/f"), ("POST", "/v1/chat/completions")):
        through = httpx.request(method, f"{box.url()}{path}", content=big, headers=AUTHORIZED)
        assert through.headers[VERSION_HEADER]  # the agent itself answered
        assert through.status_code != 413


# -- configuration -------------------------------------------------------------------------------------------------


HOSTILE = [
    "$HOME `id` $(id) ${AGENT_SECRET}",
    "\"'; rm -rf / #",
    "first\nAGENT_SECRET=0000000000000000\nthird",
    "line\r\nwith returns\ttabs",
    "{$SITE_ADDRESS} {{.}} %s %(name)s",
    "مساعد 🧑‍🚀 שלום",
    "x" * 100_000,
]


@pytest.mark.parametrize("job", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_hostile_job_reaches_the_model_as_it_was_written(boxes, libertai, job):
    box = boxes.start({"AGENT_JOB": job, "LLM_BASE_URL": f"{libertai.url}/v1"})
    box.wait_healthy()
    async with httpx.AsyncClient(headers=AUTHORIZED) as client:
        answer = await client.post(
            f"{box.url()}/chat", json={"turn_id": "t", "chat_id": "c", "message": "hi"}, timeout=30
        )
    assert answer.status_code == 200, answer.text
    (call,) = await libertai.calls()
    assert job in call.system


@pytest.mark.parametrize("name", ["$HOME", "Robert'); DROP TABLE--", '"quoted"', "مساعد 🧑‍🚀"])
def test_a_hostile_name_is_kept(boxes, name):
    assert boxes.start({"AGENT_NAME": name}).wait_healthy().json()["agent_name"] == name


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"AGENT_NAME": None}, "AGENT_NAME: is missing"),
        ({"AGENT_NAME": ""}, "AGENT_NAME: is missing"),
        ({"AGENT_NAME": "Ada\nAGENT_SECRET=x"}, "AGENT_NAME: Value error, must be one line"),
        ({"AGENT_JOB": None}, "AGENT_JOB: is missing"),
        ({"AGENT_JOB": " \n "}, "AGENT_JOB: String should have at least 1 character"),
        ({"AGENT_JOB": "x" * 120_001}, "AGENT_JOB: Value error, may have 120000 bytes"),
        ({"AGENT_SECRET": "short"}, "AGENT_SECRET: Value should have at least 16 items"),
        ({"LLM_API_KEY": "two\nlines"}, "LLM_API_KEY: Value error, must be printable ASCII"),
        ({"LLM_BASE_URL": "nonsense"}, "LLM_BASE_URL: "),
        ({"TLS_MODE": "none"}, "TLS_MODE: must be one of files, plain, acme, internal"),
        ({"TLS_MODE": "acme"}, "SITE_HOST: TLS_MODE=acme needs the host name"),
        ({"TLS_MODE": "acme", "SITE_HOST": "a.example.org {\n respond 1 \n}"}, "SITE_HOST: TLS_MODE=acme needs"),
        ({"TLS_MODE": "acme", "SITE_HOST": "a.example.org", "ACME_CA": "https://x {\n}"}, "ACME_CA: must be the URL"),
        ({"TLS_MODE": "files"}, "/caddy/cert.pem: cannot be read"),
        ({"WORKSPACE_MB": "much"}, "WORKSPACE_MB: must be a whole number"),
        ({"AGENT_DATA": "/nowhere"}, "/nowhere: is missing; mount a volume there"),
    ],
)
def test_a_bad_variable_is_one_clear_line_and_exit_code_78(boxes, variables, says):
    box = boxes.start(variables)
    assert box.end() == 78
    (line,) = box.logs().splitlines()
    assert line.startswith(f"agent: {says}")
    assert SECRET not in line
    assert KEY not in line


def test_wrong_certificate_files_are_one_clear_line(boxes):
    good, _ = certificate("agent.test")
    other, _ = certificate("agent.test")
    expired, _ = certificate("agent.test", days=-1)
    wrong = {
        "are no certificate with its key": {"cert.pem": good["cert.pem"], "key.pem": other["key.pem"]},
        "are no certificate with its key (": {"cert.pem": b"nonsense", "key.pem": good["key.pem"]},
        "has expired; issue a new one": expired,
        "/caddy/key.pem: cannot be read by user 10002 (No such file": {"cert.pem": good["cert.pem"]},
    }
    for says, files in wrong.items():
        box = boxes.create({"TLS_MODE": "files"})
        put(box.container, "/caddy", files, user=CADDY)
        box.container.start()
        assert box.end() == 78
        (line,) = box.logs().splitlines()
        assert says in line


def test_a_certificate_of_another_user_is_one_clear_line(boxes):
    files, _ = certificate("agent.test")
    box = boxes.create({"TLS_MODE": "files"})
    put(box.container, "/caddy", files, user=AGENT)
    box.container.start()
    assert box.end() == 78
    assert "/caddy/cert.pem: cannot be read by user 10002 (Permission denied)" in box.logs()


@pytest.mark.parametrize(
    ("folder", "options", "says"),
    [
        ("/data", "size=10m,mode=0700", "/data: user 10001 cannot use this volume; it must own it (chown 10001)"),
        ("/workspace", "size=10m,mode=0700", "/workspace: user 10003 cannot use this volume"),
        ("/data", "size=100k,uid=10001", "/data: cannot be used: No space left on device; make room"),
        ("/data", "ro,mode=1777", "/data: cannot be used: Read-only file system"),
    ],
)
def test_an_unusable_volume_is_one_clear_line(boxes, folder, options, says):
    tmpfs = {"/tmp": "size=64m,mode=1777", "/run": "size=1m,mode=755", folder: options}  # noqa: S108
    box = boxes.start(tmpfs=tmpfs)
    assert box.end() == 78
    (line,) = box.logs().splitlines()
    assert line.startswith(f"agent: {says}")


# -- doors ---------------------------------------------------------------------------------------------------------


def certificate(host, days=1):
    """Files for `/caddy`, and a context that trusts their authority alone."""
    issuer, key = authority()
    cert_pem, key_pem = leaf(issuer, key, host, days=days)
    context = ssl.create_default_context(cadata=issuer)
    context.check_hostname = False  # the tests dial loopback
    return {"cert.pem": cert_pem, "key.pem": key_pem}, context


def test_files_mode_serves_the_certificate_it_was_given(boxes):
    files, trusted = certificate("agent.test")
    box = boxes.create({"TLS_MODE": "files"})
    put(box.container, "/caddy", files, user=CADDY)
    box.container.start()
    url = box.url(443, "https")
    response = box.wait_healthy(httpx.Client(verify=trusted, http2=False), url)
    assert response.json()["status"] == "ok"
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"{url}/health")


def test_internal_mode_makes_its_own(boxes):
    box = boxes.start({"TLS_MODE": "internal", "SITE_HOST": "agent.example.org"})
    port = box.url(443, "https").rpartition(":")[2]
    ask = ("curl", "-sk", "--retry", "60", "--retry-all-errors", "--retry-delay", "1", "--max-time", "20")
    named = ("--resolve", f"agent.example.org:{port}:127.0.0.1", f"https://agent.example.org:{port}/health")
    asked = subprocess.run((*ask, *named), capture_output=True, text=True, check=True)
    assert json.loads(asked.stdout)["status"] == "ok"
