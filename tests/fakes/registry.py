"""A double of a registry, as far as somebody asks it for manifests: open, or with an account by Basic or Bearer."""

import base64
import hashlib
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from litestar import Litestar, Request, Response, get, route
from litestar.params import FromPath

from tests.fakes.libertai_serving import Serving

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
TOKEN = "token-of-the-registry"


class Door(StrEnum):
    """Who is let in."""

    OPEN = "open"
    BASIC = "basic"
    BEARER = "bearer"


class RegistryDouble:
    """Has `me/agent:1`; `async with RegistryDouble() as registry: … registry.host`."""

    def __init__(self, door: Door = Door.OPEN, *, user: str = "", password: str = "") -> None:
        self.door = door
        self.tells_digest = True
        self.answers = 200
        self.realm = ""
        self.asked: list[tuple[str, str]] = []
        """Method and path."""
        self._login = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._serving = Serving(self._application())

    @property
    def host(self) -> str:
        return self._serving.url.removeprefix("http://")

    async def __aenter__(self) -> Self:
        await self._serving.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._serving.stop()

    def _application(self) -> Litestar:
        @route("/v2/me/agent/manifests/{reference:str}", http_method=["GET", "HEAD"])
        async def manifest(reference: FromPath[str], request: Request[Any, Any, Any]) -> Response[bytes]:
            return self._manifest(reference, request)

        @get("/token")
        async def token(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
            is_right = request.headers.get("authorization", "") == (f"Basic {self._login}" if self._login else "")
            is_asked = dict(request.query_params) == {"service": "registry", "scope": "repository:me/agent:pull"}
            return Response({"token": TOKEN} if is_right and is_asked else {}, status_code=200 if is_right else 401)

        return Litestar([manifest, token], openapi_config=None, logging_config=None)

    def _manifest(self, reference: str, request: Request[Any, Any, Any]) -> Response[bytes]:
        self.asked.append((request.method, reference))
        if self.answers != 200:
            return Response(b"", status_code=self.answers)
        if not self._admits(request.headers.get("authorization", "")):
            return Response(b"", status_code=401, headers={"WWW-Authenticate": self._challenge()})
        if reference not in {"1", DIGEST}:
            return Response(b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', status_code=404)
        headers = {"Docker-Content-Digest": DIGEST} if self.tells_digest else {}
        return Response(MANIFEST, headers=headers, media_type="application/vnd.oci.image.manifest.v1+json")

    def _admits(self, authorization: str) -> bool:
        right = {Door.OPEN: authorization, Door.BASIC: f"Basic {self._login}", Door.BEARER: f"Bearer {TOKEN}"}
        return authorization == right[self.door]

    def _challenge(self) -> str:
        if self.door is Door.BASIC:
            return 'Basic realm="registry"'
        realm = self.realm or f"{self._serving.url}/token"
        return f'Bearer realm="{realm}",service="registry",scope="repository:me/agent:pull"'
