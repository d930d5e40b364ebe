"""Images on a machine: from a registry that wants a password, through an SSH connection, and their end."""

import asyncio
import contextlib
import io
import json
import logging
import secrets

import httpx
import pytest
from docker.errors import ImageNotFound
from pydantic import SecretStr

from bot.errors import MachineError, NotStarted
from bot.machines import images
from bot.machines.daemon import ForwardedDaemon, LocalDaemon
from bot.machines.docker import DockerEngine
from bot.machines.engine import RunState
from bot.machines.images import Account, Images, loopback_port, registry_of
from bot.machines.provider import Place
from bot.machines.ssh import NotOffered, Ssh
from scripts.image.registry import PROGRAM, is_installed, loopback_registry
from tests.containers import image_names
from tests.needs import IN_CI
from tests.sshd import KEY, OFFERED, Elsewhere, free_port, running_sshd

HERE = Place("m-0123456789abcdef")
USER, PASSWORD = "puller", "pull-secret-4411"
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuPKkdH3D39i.dvw0AsHuketZ0nFCJ.Py\n"
ACCOUNT = Account(USER, SecretStr(PASSWORD))
NO_DIGEST = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A private one."""
    if not is_installed() and not IN_CI:
        pytest.skip(f"no {PROGRAM} program")
    file = tmp_path_factory.mktemp("registry") / "htpasswd"
    file.write_text(HTPASSWD)
    with loopback_registry(f"auth: {{htpasswd: {{realm: baal, path: {file}}}}}\n") as place:
        yield place


@pytest.fixture
def release(registry, docker_client):
    """`make(text, tag)` puts a small image there, and nowhere else; its name by digest."""
    repository = f"{registry}/t{secrets.token_hex(4)}/agent"

    def make(text="one", tag="v1", *, keep=False):
        name = f"{repository}:{tag}"
        small_image(docker_client, name, text)
        told = docker_client.images.push(name, auth_config={"username": USER, "password": PASSWORD})
        assert "error" not in told, told
        digest = docker_client.images.get(name).attrs["RepoDigests"][0]
        if not keep:
            docker_client.images.remove(name)
        return digest

    yield make
    forget(docker_client, repository)


def small_image(docker_client, name, text):
    """Unlike any other: another process would remove the parts that both have in common."""
    dockerfile = f'FROM scratch\nLABEL text={text} of={secrets.token_hex(4)}\nCMD ["/none"]\n'.encode()
    # To look for a like one it would read every image without a parent, and fail if another process removes one.
    docker_client.images.build(fileobj=io.BytesIO(dockerfile), tag=name, rm=True, nocache=True)


def forget(docker_client, repository):
    for name in image_names(docker_client, repository):
        with contextlib.suppress(ImageNotFound):  # the last tag takes the digest along
            docker_client.images.remove(name, force=True)


@pytest.fixture
async def here():
    daemon = LocalDaemon()
    async with daemon.session(HERE) as session:
        yield session
    await daemon.close()


@pytest.mark.parametrize(
    ("release", "registry", "port"),
    [
        ("baal/agent:dev", "", None),
        ("agent", "", None),
        ("ghcr.io/baal/agent:1", "ghcr.io", None),
        ("registry.example.org:5000/agent", "registry.example.org:5000", None),
        ("127.0.0.1:5055/baal/agent@" + NO_DIGEST, "127.0.0.1:5055", 5055),
        ("localhost:5055/agent:1", "localhost:5055", 5055),
        ("localhost/agent:1", "localhost", None),
        ("10.0.0.1:5055/agent:1", "10.0.0.1:5055", None),
    ],
)
def test_a_registry_and_whether_it_is_beside_the_bot(release, registry, port):
    assert (registry_of(release), loopback_port(release)) == (registry, port)


@pytest.mark.image
async def test_a_private_image_is_pulled_by_digest_and_nothing_of_the_account_is_said(here, release, caplog):
    caplog.set_level(logging.DEBUG)
    name = release()

    image = await Images(ACCOUNT).have(here, name)

    assert name in image.attrs["RepoDigests"]
    assert PASSWORD not in caplog.text


@pytest.mark.image
async def test_a_machine_is_made_warm_by_a_pull_and_nothing_is_started(release, docker_client):
    name, engine = release(), DockerEngine(account=ACCOUNT)

    await engine.warm(HERE, name)

    assert name in docker_client.images.get(name).attrs["RepoDigests"]
    assert (await engine.inspect(HERE)).state is RunState.ABSENT
    await engine.close()


@pytest.mark.image
@pytest.mark.parametrize("account", [None, Account(USER, SecretStr("wrong-4411"))], ids=["none", "wrong"])
async def test_who_may_not_pull_is_told_what_to_set(here, release, account):
    with pytest.raises(NotStarted, match="set REGISTRY_USER and REGISTRY_PASSWORD") as refused:
        await Images(account).have(here, release())
    assert "wrong-4411" not in str(refused.value)


@pytest.mark.image
@pytest.mark.parametrize("other", [f"@{NO_DIGEST}", ":v9"], ids=["digest", "tag"])
async def test_what_the_registry_does_not_have_is_said_with_what_to_set(here, release, other):
    name = release().partition("@")[0] + other
    with pytest.raises(NotStarted, match="no such image or digest: set AGENT_IMAGE to what `make push` printed"):
        await Images(ACCOUNT).have(here, name)


@pytest.mark.image
async def test_older_images_go_but_none_that_is_used(here, release, docker_client):
    used, unused, current = [release(text, tag, keep=True) for text, tag in (("a", "v1"), ("b", "v2"), ("c", "v3"))]
    repository = current.partition("@")[0]
    docker_client.images.get(f"{repository}:v1").tag(f"{repository}-other", "v1")
    container = docker_client.containers.create(used, name=f"baal-test-{secrets.token_hex(4)}")
    try:
        image = await Images(ACCOUNT).have(here, current)
        await Images(ACCOUNT).forget_older(here, current, image)
    finally:
        container.remove()

    left = image_names(docker_client, repository)
    assert {used, current, f"{repository}:v1", f"{repository}:v3", f"{repository}-other:v1"} <= set(left)
    assert not {unused, f"{repository}:v2"} & set(left)


@pytest.mark.image
async def test_an_image_that_nobody_could_bring_back_stays(here, docker_client, agent_image):
    older = f"{agent_image.partition(':')[0]}:older-{secrets.token_hex(4)}"
    small_image(docker_client, older, "older")
    try:
        await Images().forget_older(here, agent_image, docker_client.images.get(agent_image))
        assert {agent_image, older} <= set(image_names(docker_client, "baal/"))
    finally:
        docker_client.images.remove(older)


# --- through SSH


@pytest.mark.image
async def test_a_registry_beside_the_bot_is_offered_to_the_machine_while_it_pulls(release):
    name = release()
    port = loopback_port(name)
    async with running_sshd() as sshd, session(sshd) as far:
        assert (await Images(ACCOUNT).have(far, name)).id
        assert sshd.offers == [port]
        with pytest.raises(httpx.TransportError):
            await get(f"http://{OFFERED}:{port}/v2/")


@pytest.mark.image
async def test_what_is_offered_is_our_registry(registry):
    port = int(registry.rpartition(":")[2])
    async with running_sshd() as sshd, shell(sshd) as opened, await opened.offer(port):
        assert (await get(f"http://{OFFERED}:{port}/v2/")).status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.image
async def test_two_agents_of_one_machine_pull_one_after_the_other(release, monkeypatch):
    monkeypatch.setattr(images, "OFFER_POLL_SECONDS", 0.02)
    name = release()
    port = loopback_port(name)
    async with running_sshd() as sshd, shell(sshd) as other, session(sshd) as far:
        offered = await other.offer(port)
        with pytest.raises(NotOffered):
            await far.shell.offer(port)
        pulling = asyncio.create_task(Images(ACCOUNT).have(far, name))
        await asyncio.sleep(0)
        offered.close()
        assert (await pulling).id


@pytest.mark.image
async def test_a_port_that_the_machine_never_takes_is_said_with_what_to_do(release, monkeypatch):
    monkeypatch.setattr(images, "OFFER_SECONDS", 0)
    name = release()
    async with running_sshd() as sshd, shell(sshd) as other, session(sshd) as far:
        await other.offer(loopback_port(name))
        with pytest.raises(NotStarted, match="push the image to a registry it can reach itself"):
            await Images(ACCOUNT).have(far, name)


@pytest.mark.image
async def test_a_connection_that_breaks_during_a_pull_is_said(tmp_path):
    slow = SlowDaemon(beats=2, pause=0.5)
    async with slow.serving(tmp_path) as host, running_sshd(host.removeprefix("unix://")) as sshd, session(sshd) as far:
        pulling = asyncio.create_task(Images().have(far, f"127.0.0.1:{free_port()}/agent:1"))
        while not any("/images/create" in request for request in slow.asked):
            await asyncio.sleep(0.01)
        sshd.cut()
        with pytest.raises(MachineError, match="the connection broke"):
            await asyncio.wait_for(pulling, 5)


@pytest.mark.image
async def test_a_machine_is_never_sent_to_strangers_for_an_image():
    async with running_sshd() as sshd, session(sshd) as far:
        with pytest.raises(NotStarted, match="`make push REGISTRY=…` puts it into a registry"):
            await Images().have(far, "baal/none:dev")


@contextlib.asynccontextmanager
async def shell(sshd):
    remote = Elsewhere(sshd, HERE.machine_id).remote
    async with Ssh(KEY.export_private_key().decode()).shell(remote.target, remote.pin) as opened:
        yield opened


@contextlib.asynccontextmanager
async def session(sshd):
    daemon = ForwardedDaemon(Ssh(KEY.export_private_key().decode()))
    async with daemon.session(Elsewhere(sshd, HERE.machine_id).place) as opened:
        yield opened


async def get(url):
    async with httpx.AsyncClient() as client:
        return await client.get(url)


# --- a daemon that is slow


class SlowDaemon:
    """Speaks as much of Docker's API as a pull needs; tells its progress in its own time."""

    def __init__(self, beats, pause):
        self.beats, self.pause, self.asked = beats, pause, []

    @contextlib.asynccontextmanager
    async def serving(self, folder):
        path = str(folder / "d.sock")
        server = await asyncio.start_unix_server(self._serve, path)
        async with server:
            yield f"unix://{path}"

    async def _serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                request = head.split(b"\r\n")[0].decode().split(" ")[1]
                self.asked.append(request)
                await self._answer(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, request, writer):
        if "/images/create" in request:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(self.beats):
                await self._chunk(writer, {"status": "Downloading"})
                await asyncio.sleep(self.pause)
            await self._chunk(writer, {"error": "manifest unknown"})
            writer.write(b"0\r\n\r\n")
            return
        is_version = request.endswith("/version")
        body = json.dumps({"ApiVersion": "1.41"} if is_version else {"message": "No such image: x"}).encode()
        status = b"200 OK" if is_version else b"404 Not Found"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async def _chunk(self, writer, told):
        data = json.dumps(told).encode() + b"\r\n"
        writer.write(b"%x\r\n" % len(data) + data + b"\r\n")
        await writer.drain()


async def _pull_from(daemon, folder):
    async with daemon.serving(folder) as host:
        local = LocalDaemon(host)
        try:
            async with local.session(HERE) as opened:
                await Images().have(opened, "registry.example.org/agent:1")
        finally:
            await local.close()


async def test_a_pull_may_take_longer_than_any_other_call(tmp_path, monkeypatch):
    monkeypatch.setattr("bot.machines.daemon.CALL_SECONDS", 0.3)
    with pytest.raises(NotStarted, match="manifest unknown"):
        await _pull_from(SlowDaemon(beats=6, pause=0.1), tmp_path)


async def test_a_pull_in_which_nothing_comes_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "SILENCE_SECONDS", 0.1)
    with pytest.raises(MachineError, match="does not answer"):
        await _pull_from(SlowDaemon(beats=1, pause=1), tmp_path)
