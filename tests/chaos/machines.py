"""Machines as light as can be: one server for all of them, each known by the port that its sshd would have."""

from http import HTTPStatus
from typing import Any, Self

import httpx
from litestar import Litestar, Request, Response, get, put
from litestar.params import FromPath

from agent.protocol import Health
from bot.errors import NotStarted
from bot.machines.engine import Inspection, RunState, Spec
from bot.machines.provider import Place
from tests.fakes.libertai_serving import Serving

FIRST_PORT = 24_000


class LightMachines:
    """Implements `tests.fakes.aleph_world.Machines`."""

    def __init__(self) -> None:
        self._ports: dict[str, int] = {}
        self._started = 0
        self._specs: dict[int, dict[str, str]] = {}
        self._serving = Serving(Litestar([self._run(), self._health()], openapi_config=None, logging_config=None))
        self.url = self._serving.url

    async def __aenter__(self) -> Self:
        await self._serving.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._serving.stop()

    async def start(self, item_hash: str, _keys: list[str]) -> dict[int, int]:
        self._started += 1
        self._ports[item_hash] = FIRST_PORT + self._started
        return {22: self._ports[item_hash]}

    async def stop(self, item_hash: str) -> None:
        self._specs.pop(self._ports.pop(item_hash, 0), None)

    def agents(self) -> list[str]:
        """Names of the agents that run."""
        return [spec["AGENT_NAME"] for spec in self._specs.values()]

    def _run(self) -> Any:
        @put("/{port:int}")
        async def run(request: Request[Any, Any, Any], port: FromPath[int]) -> Response[Any]:
            if port not in self._ports.values():
                return Response({}, status_code=HTTPStatus.NOT_FOUND)
            self._specs[port] = await request.json()
            return Response({})

        return run

    def _health(self) -> Any:
        @get("/{port:int}/health")
        async def health(request: Request[Any, Any, Any], port: FromPath[int]) -> Response[Any]:
            spec = self._specs.get(port)
            if spec is None:
                return Response({}, status_code=HTTPStatus.NOT_FOUND)
            if request.headers.get("authorization") != f"Bearer {spec['AGENT_SECRET']}":
                return Response({}, status_code=HTTPStatus.UNAUTHORIZED)
            return Response(
                Health(
                    status="ok",
                    agent_name=spec["AGENT_NAME"],
                    release=spec["AGENT_RELEASE"],
                    model=spec["AGENT_MODEL"],
                )
            )

        return health


class LightEngine:
    """Implements `Engine` over them."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self._url = url
        self._http = http

    async def prepare(self, place: Place) -> None:
        await self._door(place)

    async def warm(self, place: Place, _release: str) -> None:
        await self._door(place)

    async def run(self, place: Place, spec: Spec) -> str:
        door = await self._door(place)
        answer = await self._http.put(door, json=spec.environment())
        if answer.is_error:
            raise NotStarted(f"HTTP {answer.status_code}")
        return door

    async def inspect(self, _place: Place) -> Inspection:
        return Inspection(RunState.ABSENT)

    async def logs(self, _place: Place, _lines: int = 50) -> str:
        return ""

    async def remove(self, _place: Place) -> None:
        return

    async def wipe(self, _place: Place) -> None:
        return

    async def close(self) -> None:
        return

    async def _door(self, place: Place) -> str:
        assert place.remote
        return f"{self._url}/{(await place.remote.target()).port}"
