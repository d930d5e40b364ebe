"""An agent's door, with TLS and without: it answers `/health` and remembers who came, and what they had to say."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aiohttp import web

from agent.protocol import Health
from bot.machines.certs import Leaf


@dataclass(frozen=True, slots=True)
class Call:
    """A request that came in. `connection` tells connections apart."""

    path: str
    secret: str | None
    connection: int


class SecureDouble:
    """`proof` None: plain HTTP. `redirect`: where every request is sent on to. `folder`: for a leaf's files."""

    def __init__(self, folder: Path, proof: Leaf | ssl.SSLContext | None, *, redirect: str = "", port: int = 0) -> None:
        self.calls: list[Call] = []
        self._tls = server_context(folder, proof) if isinstance(proof, Leaf) else proof
        self._redirect = redirect
        self._port = port
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)

    @property
    def port(self) -> int:
        return int(self._runner.addresses[0][1])

    @property
    def url(self) -> str:
        """By address."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.calls.append(Call(request.path, request.headers.get("Authorization"), id(request.transport)))
        if self._redirect:
            return web.Response(status=307, headers={"Location": self._redirect + request.path})
        health = Health(status="ok", agent_name="Ada", release="r1", model="m")
        headers = {"Set-Cookie": "whose=theirs; Path=/"}
        return web.Response(text=health.model_dump_json(), content_type="application/json", headers=headers)


def server_context(folder: Path, leaf: Leaf) -> ssl.SSLContext:
    """For a server that has this leaf; the ssl module wants files."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_text(leaf.certificate)
    key.write_text(leaf.key.get_secret_value())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
