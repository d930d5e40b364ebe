"""What a reference names, asked of a registry."""

import hashlib
import json

import httpx
import pytest
from pydantic import SecretStr

from bot.machines.registry import BadReference, NoSuchImage, NotAdmitted, Reference, Registry, RegistryAway, parse
from tests.fakes.registry import DIGEST, Door, RegistryDouble
from tests.image.registry import registry  # noqa: F401  a fixture

OTHER = "sha256:" + "0" * 64


@pytest.fixture
async def http():
    async with httpx.AsyncClient() as client:
        yield client


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("baal/agent:dev", ("", "baal/agent", "dev", "")),
        ("agent", ("", "agent", "", "")),
        ("ghcr.io/me/agent", ("ghcr.io", "me/agent", "", "")),
        ("localhost/agent:1", ("localhost", "agent", "1", "")),
        ("127.0.0.1:5000/baal/agent:1@" + OTHER, ("127.0.0.1:5000", "baal/agent", "1", OTHER)),
        ("[::1]:5000/agent@" + OTHER, ("[::1]:5000", "agent", "", OTHER)),
    ],
)
def test_a_reference_is_taken_apart_as_docker_does(text, parts):
    reference = parse(text)

    assert (reference.host, reference.repository, reference.tag, reference.digest) == parts
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Agent:1",
        "ghcr.io/",
        "agent:",
        "agent@",
        "agent@sha256:12",
        "a b",
        "https://ghcr.io/me/agent",
        "x/agent:1/2",
    ],
)
def test_what_is_no_reference_is_said_so(text):
    with pytest.raises(BadReference):
        parse(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:5000/me/agent", "http://127.0.0.1:5000/v2/me/agent"),
        ("localhost:5000/me/agent", "http://localhost:5000/v2/me/agent"),
        ("[::1]:5000/me/agent", "http://[::1]:5000/v2/me/agent"),
        ("ghcr.io/me/agent", "https://ghcr.io/v2/me/agent"),
        ("localhost.example/me/agent", "https://localhost.example/v2/me/agent"),
        ("docker.io/me/agent", "https://registry-1.docker.io/v2/me/agent"),
        ("docker.io/debian", "https://registry-1.docker.io/v2/library/debian"),
    ],
)
def test_only_a_registry_on_loopback_is_asked_without_tls(text, url):
    assert parse(text).base_url == url


async def test_a_tag_is_resolved_to_its_digest_by_its_head_alone(http):
    async with RegistryDouble() as double:
        assert await Registry(http).resolve(parse(f"{double.host}/me/agent:1")) == DIGEST
        assert double.asked == [("HEAD", "1")]


async def test_a_registry_that_tells_no_digest_has_its_manifest_read(http):
    async with RegistryDouble() as double:
        double.tells_digest = False
        assert await Registry(http).resolve(parse(f"{double.host}/me/agent:1")) == DIGEST


async def test_a_digest_is_asked_for_instead_of_the_tag(http):
    async with RegistryDouble() as double:
        assert await Registry(http).resolve(parse(f"{double.host}/me/agent:9@{DIGEST}")) == DIGEST
        with pytest.raises(NoSuchImage):
            await Registry(http).resolve(parse(f"{double.host}/me/agent:1@{OTHER}"))


async def test_a_registry_that_answers_with_another_image_is_not_believed(http):
    def answer(_request):
        return httpx.Response(200, headers={"docker-content-digest": DIGEST})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as lying:
        with pytest.raises(RegistryAway, match="another image"):
            await Registry(lying).resolve(parse(f"registry.example/me/agent:1@{OTHER}"))


async def test_a_reference_without_tag_is_the_latest(http):
    async with RegistryDouble() as double:
        with pytest.raises(NoSuchImage):
            await Registry(http).resolve(parse(f"{double.host}/me/agent"))
        assert double.asked == [("HEAD", "latest")]


@pytest.mark.parametrize("door", [Door.BASIC, Door.BEARER])
async def test_an_account_opens_a_private_registry(http, door):
    async with RegistryDouble(door, user="ada", password="pass:wörd") as double:
        reference = parse(f"{double.host}/me/agent:1")
        assert await Registry(http, "ada", SecretStr("pass:wörd")).resolve(reference) == DIGEST
        for account in (Registry(http), Registry(http, "ada", SecretStr("wrong"))):
            with pytest.raises(NotAdmitted):
                await account.resolve(reference)


async def test_a_public_registry_gives_a_token_to_anybody(http):
    async with RegistryDouble(Door.BEARER) as double:
        assert await Registry(http).resolve(parse(f"{double.host}/me/agent:1")) == DIGEST


@pytest.mark.parametrize("realm", ["http://elsewhere.example/token", "ftp://x", "nonsense"])
async def test_the_password_is_told_to_no_address_without_tls(realm):
    told = []

    def answer(request):
        told.append((request.url.host, request.headers.get("authorization")))
        return httpx.Response(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        with pytest.raises(RegistryAway, match="without TLS"):
            await Registry(http, "ada", SecretStr("secret")).resolve(parse("registry.example/me/agent:1"))
    assert told == [("registry.example", None)]


async def test_where_a_registry_sends_us_for_a_manifest_it_hears_nothing_of_the_account():
    told = []

    def answer(request):
        authorization = request.headers.get("authorization")
        told.append((request.url.host, authorization and authorization[:5]))
        if request.url.host == "cdn.example":
            return httpx.Response(200, headers={"docker-content-digest": DIGEST})
        if not authorization:
            return httpx.Response(401, headers={"WWW-Authenticate": "Basic"})
        return httpx.Response(307, headers={"Location": "https://cdn.example/manifest"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        assert await Registry(http, "ada", SecretStr("x")).resolve(parse("registry.example/me/agent:1")) == DIGEST
    assert told == [("registry.example", None), ("registry.example", "Basic"), ("cdn.example", None)]


@pytest.mark.parametrize("status", [500, 302, 200])
async def test_what_is_no_registry_is_said_so(status):
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(status))) as http:
        with pytest.raises(RegistryAway):
            await Registry(http).resolve(parse("registry.example/me/agent:1"))


async def test_a_registry_that_is_away_is_said_so(http):
    with pytest.raises(RegistryAway, match=r"127\.0\.0\.1:1: ConnectError"):
        await Registry(http).resolve(parse("127.0.0.1:1/me/agent:1"))


@pytest.mark.image
async def test_a_real_registry(http, registry):  # noqa: F811  the fixture
    base = f"http://{registry}/v2/me/agent"
    blob = b"{}"
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    place = (await http.post(f"{base}/blobs/uploads/")).headers["location"]
    (await http.put(f"{place}&digest={digest}", content=blob)).raise_for_status()
    kind = "application/vnd.oci.image.manifest.v1+json"
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(blob)}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}).encode()
    pushed = await http.put(f"{base}/manifests/1", content=manifest, headers={"Content-Type": kind})
    there = pushed.raise_for_status().headers["docker-content-digest"]

    assert await Registry(http).resolve(parse(f"{registry}/me/agent:1")) == there
    assert await Registry(http).resolve(parse(f"{registry}/me/agent@{there}")) == there
    for missing in ("me/agent:2", f"me/agent:1@{OTHER}", "me/other:1"):
        with pytest.raises(NoSuchImage):
            await Registry(http).resolve(parse(f"{registry}/{missing}"))


def test_a_reference_is_pinned():
    assert str(Reference("ghcr.io", "me/agent", "1").pinned(DIGEST)) == f"ghcr.io/me/agent:1@{DIGEST}"
