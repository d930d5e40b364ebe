"""The docker engine on machines elsewhere: this host's daemon behind an SSH server, agents behind HTTPS."""

import asyncio
import contextlib
import logging
import secrets
import socket
import ssl

import pytest
from cryptography import x509
from pydantic import SecretStr

from bot.errors import NotPrepared, NotReached, NotStarted
from bot.machines import health
from bot.machines.certs import Authority
from bot.machines.docker import DockerEngine
from bot.machines.docker import Elsewhere as Keys
from bot.machines.engine import RunState, Spec
from bot.machines.exposure import Https, Trust
from bot.machines.provider import certificate_name
from bot.machines.ssh import DOCKER_SOCKET, Ssh
from bot.store.keepsakes import Keepsakes
from tests.containers import AGENT_IMAGE
from tests.sshd import KEY, Elsewhere, Sshd, free_port, running_sshd

SPEC = Spec(
    release=AGENT_IMAGE,
    name="Ada",
    job="Plans meals.",
    model="scripted",
    secret=SecretStr("a-secret-of-thirty-two-characters"),
    llm_base_url="http://127.0.0.1:9/v1",
    llm_api_key=SecretStr("LTAI_key_that_must_stay_secret"),
)


@pytest.fixture
async def authority(database, vault):
    return await Authority.open(Keepsakes(database, vault))


@pytest.fixture
async def sshd():
    async with running_sshd() as running:
        yield running


@pytest.fixture
def bootstrapped():
    return []


@pytest.fixture
async def engine(authority, bootstrapped):
    async def bootstrap(shell):
        bootstrapped.append(await shell.run("a word", "echo hello", seconds=5))

    made = DockerEngine(
        "unix:///nowhere", elsewhere=Keys(Ssh(KEY.export_private_key().decode()), bootstrap, Trust(authority))
    )
    yield made
    await made.close()


@pytest.fixture
async def machine(engine, sshd, agent_image):
    """Makes machines, and wipes them."""
    made = []

    def make(**options):
        made.append(Elsewhere(sshd, f"m-{secrets.token_hex(8)}", **options))
        return made[-1]

    yield make
    for each in made:
        each.sshd, each.host_key = sshd, None
        await engine.wipe(each.place)


@pytest.fixture
def own(machine):
    return machine()


@pytest.fixture
def container(docker_client, agent_image):
    return lambda machine: docker_client.containers.get(f"baal-{machine.machine_id}")


def certificate(machine):
    """What its door shows."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", machine.port))) as tls:
        return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")


def names(machine):
    found = certificate(machine).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.DNSName)


@pytest.mark.image
async def test_two_machines_of_one_server_start_at_once_and_are_told_apart(engine, machine, container, authority):
    first, second = machine(host="127.0.0.1"), machine(host="127.0.0.1")

    urls = await asyncio.gather(*(engine.run(each.place, SPEC) for each in (first, second)))

    assert urls == [f"https://127.0.0.1:{each.port}" for each in (first, second)]
    for url, own, other in zip(urls, (first, second), (second, first), strict=True):
        asked = {"tls": authority.context()}
        assert await health.answers(url, **asked, name=certificate_name(own.machine_id))
        assert not await health.answers(url, **asked, name=certificate_name(other.machine_id))
        assert not await health.answers(url, tls=ssl.create_default_context(), name=certificate_name(own.machine_id))
        binds = container(own).attrs["HostConfig"]["Binds"]
        assert binds
        assert all(bind.startswith(f"baal-{own.machine_id}-") for bind in binds)


@pytest.mark.image
async def test_only_the_web_server_reads_the_key(engine, own, container):
    await engine.run(own.place, SPEC)
    found = container(own).exec_run(["stat", "-c", "%a %u %g %n", "/caddy/cert.pem", "/caddy/key.pem"], user="10002")
    assert found.output.decode().splitlines() == ["400 10002 10002 /caddy/cert.pem", "400 10002 10002 /caddy/key.pem"]
    assert container(own).exec_run(["cat", "/caddy/key.pem"], user="10001").exit_code
    assert container(own).exec_run(["cat", "/caddy/key.pem"], user="10003").exit_code


@pytest.mark.image
async def test_it_is_published_on_every_address(engine, own, container):
    await engine.run(own.place, SPEC)
    assert list(container(own).attrs["HostConfig"]["PortBindings"]) == ["443/tcp"]
    with socket.create_connection(("127.0.0.3", own.port)):
        pass


@pytest.mark.image
async def test_what_runs_keeps_its_certificate_until_it_has_another_name(engine, machine, container):
    own = machine(host="127.0.0.1")
    await engine.run(own.place, SPEC)
    first, serial = container(own).id, certificate(own).serial_number
    await engine.run(own.place, SPEC)
    assert (container(own).id, certificate(own).serial_number) == (first, serial)

    own.hosts = ["localhost", "127.0.0.1"]
    assert await engine.run(own.place, SPEC) == f"https://localhost:{own.port}"
    assert names(own) == [certificate_name(own.machine_id), "localhost"]
    second = container(own).id
    own.hosts = ["127.0.0.1"]
    assert await engine.run(own.place, SPEC) == f"https://127.0.0.1:{own.port}"
    assert second != first
    assert container(own).id == second


@pytest.mark.image
async def test_another_port_of_the_machine_is_a_reason_to_start_anew(engine, own):
    await engine.run(own.place, SPEC)
    own.port = free_port()
    assert await engine.run(own.place, SPEC) == f"https://localhost:{own.port}"


@pytest.mark.image
async def test_the_first_url_that_answers_is_taken(engine, own):
    own.hosts = ["nobody.invalid", "127.0.0.1"]
    assert await engine.run(own.place, SPEC) == f"https://127.0.0.1:{own.port}"
    assert (await engine.inspect(own.place)).url == f"https://127.0.0.1:{own.port}"


@pytest.mark.image
async def test_a_port_that_is_taken_is_said(engine, own):
    with (
        socket.create_server(("0.0.0.0", own.port)),  # noqa: S104  as the container would
        pytest.raises(NotStarted, match=f"port {own.port} of the machine is taken"),
    ):
        await engine.run(own.place, SPEC)


@pytest.mark.image
async def test_one_operation_is_one_connection_and_says_no_secret(engine, own, sshd, container, caplog):
    caplog.set_level(logging.DEBUG)
    await engine.run(own.place, SPEC)
    assert len(sshd.connections) == 1
    await asyncio.wait_for(sshd.connections[0].wait_closed(), 5)
    for secret in (SPEC.secret, SPEC.llm_api_key):
        assert secret.get_secret_value() not in caplog.text
    assert "PRIVATE KEY" not in caplog.text


@pytest.mark.image
async def test_wiping_overwrites_and_takes_everything_also_without_the_container(engine, own, sshd, container, caplog):
    await engine.run(own.place, SPEC)
    made = container(own)
    folder = made.client.volumes.get(f"baal-{own.machine_id}-data").attrs["Mountpoint"]
    await asyncio.to_thread(made.remove, force=True)

    await engine.wipe(own.place)

    assert folder in sshd.scripts[-1]
    assert "not all was overwritten" not in caplog.text
    assert not made.client.volumes.list(filters={"name": own.machine_id})
    await engine.wipe(own.place)


@pytest.mark.image
async def test_what_holds_the_keys_is_overwritten_before_the_container_goes(engine, own, sshd, container, caplog):
    await engine.run(own.place, SPEC)
    identity = container(own).id

    await engine.wipe(own.place)

    assert f"/containers/{identity}" in sshd.scripts[-1]
    assert "not all was overwritten" not in caplog.text


# --- what goes wrong


class Stalling:
    """A way to the daemon on which nothing comes any more once a word was said."""

    def __init__(self, word):
        self.word = word
        self.stalled = asyncio.Event()
        self._writers = []

    @contextlib.asynccontextmanager
    async def serving(self, folder):
        path = str(folder / "stalling.sock")
        async with await asyncio.start_unix_server(self._serve, path) as server:
            yield path
            for writer in self._writers:
                writer.close()
            server.close()

    async def _serve(self, reader, writer):
        far_reader, far_writer = await asyncio.open_unix_connection(DOCKER_SOCKET)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._pass_on(reader, far_writer), self._pass_on(far_reader, writer))

    async def _pass_on(self, reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self.word in data:
                    self.stalled.set()
                    return
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.mark.image
@pytest.mark.parametrize("moment", [b"/containers/create", b"/archive", b"/start", b"/containers/baal-"])
async def test_a_connection_that_breaks_in_the_middle_is_said_and_the_next_try_succeeds(
    engine, own, sshd, tmp_path, moment
):
    stalling = Stalling(moment)
    async with stalling.serving(tmp_path) as path, running_sshd(path) as fragile:
        own.sshd = fragile
        running = asyncio.create_task(engine.run(own.place, SPEC))
        await asyncio.wait_for(stalling.stalled.wait(), 20)
        fragile.cut()
        with pytest.raises(NotReached):
            await asyncio.wait_for(running, 5)
    own.sshd, own.host_key = sshd, None

    assert await engine.run(own.place, SPEC) == f"https://localhost:{own.port}"


@pytest.mark.image
async def test_a_call_that_is_given_up_lets_go_of_the_connection(engine, tmp_path):
    stalling = Stalling(b"/containers/baal-")
    async with stalling.serving(tmp_path) as path, running_sshd(path) as fragile:
        running = asyncio.create_task(engine.inspect(Elsewhere(fragile, "m-0123456789abcdef").place))
        await asyncio.wait_for(stalling.stalled.wait(), 20)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, 5)
        await asyncio.wait_for(fragile.connections[0].wait_closed(), 5)


async def test_a_machine_that_never_had_a_docker_runs_nothing(engine):
    async with running_sshd(docker=None) as bare:
        bare.answers_scripts = False
        place = Elsewhere(bare, "m-0123456789abcdef").place
        assert (await engine.inspect(place)).state is RunState.ABSENT
        assert await engine.logs(place) == ""
        await engine.remove(place)
        await engine.wipe(place)
        for start in (engine.run(place, SPEC), engine.warm(place, SPEC.release)):
            with pytest.raises(NotPrepared, match="no Docker on m-0123456789abcdef: it has to be prepared first"):
                await start


@pytest.mark.image
async def test_a_docker_that_does_not_run_is_no_reason_to_forget_what_it_holds(engine):
    async with running_sshd(docker=None) as broken:
        place = Elsewhere(broken, "m-0123456789abcdef").place
        with pytest.raises(NotReached, match="`systemctl status docker`"):
            await engine.wipe(place)


async def test_nobody_there_is_said(engine):
    async with running_sshd() as gone:
        place = Elsewhere(gone, "m-0123456789abcdef").place
    with pytest.raises(NotReached):
        await engine.wipe(place)


async def test_a_machine_is_prepared_once_it_lets_us_in(engine, sshd, bootstrapped):
    own = Elsewhere(sshd, "m-0123456789abcdef")
    await engine.prepare(own.place)
    assert bootstrapped == ["hello\n"]
    assert own.host_key == sshd.host_key.export_public_key().decode().strip()


async def test_an_engine_without_a_key_says_so():
    with pytest.raises(NotStarted, match="was given no key"):
        await DockerEngine().prepare(Elsewhere(Sshd(), "m-0123456789abcdef").place)


async def test_with_a_public_authority_the_agent_gets_the_certificate_itself():
    own = Elsewhere(Sshd(), "m-0123456789abcdef", host="abc.2n6.me")
    exposure = await Https.of(own.place, Trust(None, "a@example.org"))
    acme = {"TLS_MODE": "acme", "SITE_HOST": "abc.2n6.me", "ACME_EMAIL": "a@example.org"}
    assert exposure.environment() == acme
    assert exposure.labels() == {"baal.certified": "acme abc.2n6.me"}

    own.hosts = ["127.0.0.1"]
    with pytest.raises(NotStarted, match="set AGENT_TLS=files"):
        (await Https.of(own.place, Trust(None))).environment()
