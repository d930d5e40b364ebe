"""Ask a registry which image a reference names now: distribution's HTTP API v2, as Docker's daemon asks it."""

import base64
import hashlib
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.request import parse_http_list

import httpx
from pydantic import SecretStr

from bot.errors import MachineError

SECONDS = 8.0
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
HOST = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")
REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
DOCKER_HUB, HUB_HOST = "docker.io", "registry-1.docker.io"


class BadReference(MachineError):
    """Not an image's name."""


class RegistryAway(MachineError):
    """The registry does not answer, or not as one: nothing is known, ask again."""


class NoSuchImage(MachineError):
    """The registry answers, and does not have it."""


class NotAdmitted(MachineError):
    """The registry wants an account, or refuses this one."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`host/repository:tag@digest`; host is empty where the name has none, tag or digest where they are not said."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        """As Docker writes it."""
        name = f"{self.host}/{self.repository}" if self.host else self.repository
        return name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def pinned(self, digest: str) -> "Reference":
        """The same, at this digest."""
        return Reference(self.host, self.repository, self.tag, digest)

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this very machine; Docker speaks plain HTTP with such a one."""
        name = self.host.removeprefix("[").partition("]")[0] if self.host.startswith("[") else self.host.split(":")[0]
        return name in {"localhost", "::1"} or name.startswith("127.")

    @property
    def base_url(self) -> str:
        """Of the registry's API for the repository."""
        host = HUB_HOST if self.host == DOCKER_HUB else self.host
        is_official = self.host == DOCKER_HUB and "/" not in self.repository
        repository = f"library/{self.repository}" if is_official else self.repository
        return f"{'http' if self.is_loopback else 'https'}://{host}/v2/{repository}"


def parse(text: str) -> Reference:
    """Take a name apart, by Docker's rules; `BadReference`."""
    name, _, digest = text.partition("@")
    first, slash, rest = name.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, rest) if is_host else ("", name)
    repository, _, tag = path.partition(":")
    parts = ((HOST, host), (REPOSITORY, repository), (TAG, tag), (DIGEST, digest))
    is_whole = repository and ("@" not in text or digest) and (":" not in path or tag)
    if not is_whole or any(part and not pattern.fullmatch(part) for pattern, part in parts):
        raise BadReference("is not the name of an image: write registry/name:tag@sha256:…")
    return Reference(host, repository, tag, digest)


class Registry:
    """On somebody's HTTP client, with the account of a private registry if there is one."""

    def __init__(self, http: httpx.AsyncClient, user: str = "", password: SecretStr | None = None) -> None:
        self._http = http
        self._user = user
        self._password = password or SecretStr("")

    async def resolve(self, reference: Reference) -> str:
        """The digest of what it names now; one that has a digest is only looked for. Without a tag: `latest`.

        `NoSuchImage`, `NotAdmitted`, `RegistryAway`.
        """
        wanted = reference.digest or reference.tag or "latest"
        url = f"{reference.base_url}/manifests/{wanted}"
        authorization = ""
        answer = await self._ask("HEAD", url, authorization)
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            authorization = await self._authorization(reference, answer)
            answer = await self._ask("HEAD", url, authorization)
        _refuse(answer, reference)
        told = str(answer.headers.get("docker-content-digest", ""))
        digest = told if DIGEST.fullmatch(told) else await self._digest_of(url, authorization, reference)
        if reference.digest not in {"", digest}:
            raise RegistryAway(f"{reference.host} answers with another image than it is asked for")
        return digest

    async def _digest_of(self, url: str, authorization: str, reference: Reference) -> str:
        """By its bytes: not every registry tells it."""
        answer = await self._ask("GET", url, authorization)
        _refuse(answer, reference)
        if "schemaVersion" not in _object(answer):
            raise RegistryAway(f"{reference.host} answers no manifest")
        return f"sha256:{hashlib.sha256(answer.content).hexdigest()}"

    async def _authorization(self, reference: Reference, refusal: httpx.Response) -> str:
        scheme, told = _challenge(refusal.headers.get("www-authenticate", ""))
        if scheme == "basic" and self._user:
            return self._basic()
        if scheme == "bearer" and told.get("realm"):
            return f"Bearer {await self._token(reference, told)}"
        raise NotAdmitted(f"{reference.host} wants an account")

    async def _token(self, reference: Reference, told: dict[str, str]) -> str:
        """From where the registry sends us; never with the password over plain HTTP, except on loopback."""
        realm = told["realm"]
        if not realm.startswith("https://") and not reference.is_loopback:
            raise RegistryAway(f"{reference.host} sends us to an address without TLS for its token")
        query: dict[str, str] = {name: told[name] for name in ("service", "scope") if name in told}
        answer = await self._ask("GET", realm, self._basic() if self._user else "", query)
        if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise NotAdmitted(f"{reference.host} refuses the account")
        found = _object(answer)
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str):
            raise RegistryAway(f"{reference.host} gives no token (HTTP {answer.status_code})")
        return token

    def _basic(self) -> str:
        pair = f"{self._user}:{self._password.get_secret_value()}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    async def _ask(
        self, method: str, url: str, authorization: str, query: dict[str, str] | None = None
    ) -> httpx.Response:
        headers = {"Accept": MANIFESTS} | ({"Authorization": authorization} if authorization else {})
        try:
            # Some keep manifests elsewhere; httpx tells that other host nothing of the authorization.
            return await self._http.request(
                method, url, params=query, headers=headers, timeout=SECONDS, follow_redirects=True
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RegistryAway(f"{_host(url)}: {type(error).__name__}") from error


def _refuse(answer: httpx.Response, reference: Reference) -> None:
    if answer.status_code == HTTPStatus.NOT_FOUND:
        raise NoSuchImage(f"{reference.host} has no {reference}")
    if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise NotAdmitted(f"{reference.host} does not let us read {reference.repository}")
    if answer.status_code != HTTPStatus.OK:
        raise RegistryAway(f"{reference.host}: HTTP {answer.status_code}")


def _challenge(header: str) -> tuple[str, dict[str, str]]:
    """A WWW-Authenticate header: its scheme in lower case, and its parameters."""
    scheme, _, rest = header.strip().partition(" ")
    pairs = (part.partition("=") for part in parse_http_list(rest))
    return scheme.lower(), {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2]
