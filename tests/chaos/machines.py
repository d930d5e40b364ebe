"""Machines as light as can be: one server for all of them, each known by the port that its sshd would have."""

import json
import random
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import httpx
from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from agent.protocol import Mode
from bot.errors import NotPrepared, NotStarted
from bot.machines.engine import Inspection, RunState, Spec
from bot.machines.provider import Place
from tests.chaos.light_agent import LightAgent
from tests.chaos.light_disk import Disk, Faults
from tests.chaos.light_wire import serve
from tests.fakes.libertai_serving import Serving

FIRST_PORT = 24_000
ENGINE = "engine"


class LightMachines:
    """Implements `tests.fakes.aleph_world.Machines`. `/engine/{port}/…` is what an engine does, the rest its agent."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.faults = Faults()
        self.doubles: list[str] = []
        """Agents of which two copies worked in the same epoch."""
        self._folder = folder
        self._dice = dice
        self._ports: dict[str, int] = {}
        self._started = 0
        self._disks: dict[int, Disk] = {}
        self._agents: dict[int, LightAgent] = {}

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await self._serve(scope, receive, send)

        self._serving = Serving(application)
        self.url = self._serving.url

    async def __aenter__(self) -> Self:
        await self._serving.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for port in list(self._agents):
            self._kill(port)
        await self._serving.stop()

    async def start(self, item_hash: str, _keys: list[str]) -> dict[int, int]:
        self._started += 1
        port = self._ports[item_hash] = FIRST_PORT + self._started
        folder = self._folder / str(port)
        folder.mkdir(parents=True)
        self._disks[port] = Disk(folder)
        return {22: port}

    async def stop(self, item_hash: str) -> None:
        port = self._ports.pop(item_hash, 0)
        self._kill(port)
        self._disks.pop(port, None)

    def agents(self) -> dict[str, list[LightAgent]]:
        """What runs, by name."""
        found: dict[str, list[LightAgent]] = {}
        for agent in self._agents.values():
            found.setdefault(agent.environment["AGENT_NAME"], []).append(agent)
        return found

    def on(self, item_hash: str) -> LightAgent | None:
        """What runs on that instance."""
        return self._agents.get(self._ports.get(item_hash, 0))

    def _kill(self, port: int) -> None:
        if agent := self._agents.pop(port, None):
            agent.kill()

    # --- over HTTP

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await _lifespan(receive, send)
            return
        words = scope["path"].split("/")
        if words[1] == ENGINE:
            status, said = await self._engine(int(words[2]), words[3], await _body(receive))
            await _answer(send, status, said)
            return
        await self._ask(int(words[1]), {**scope, "path": "/" + "/".join(words[2:])}, receive, send)

    async def _ask(self, port: int, scope: Any, receive: Receive, send: Send) -> None:
        agent, cycle = self._agents.get(port), _cycle(send)
        if agent is None or self._dice.random() < self.faults.refuses:
            cycle.transport.abort()
            return
        try:
            await serve(agent, self.faults, scope, receive, send)
        except ConnectionError:
            return  # the caller has gone
        if scope["path"] in {"/activate", "/unseal"}:
            self._look_for_doubles(agent.environment["AGENT_NAME"])

    def _look_for_doubles(self, name: str) -> None:
        standings = [agent.standing for agent in self.agents().get(name, [])]
        active = [standing.epoch for standing in standings if standing.mode is Mode.ACTIVE]
        self.doubles += [name] * (len(active) - len(set(active)))

    async def _engine(self, port: int, operation: str, body: bytes) -> tuple[HTTPStatus, str]:
        if self.faults.ssh_drops or port not in self._disks:
            return HTTPStatus.BAD_GATEWAY, "the connection dropped"
        if self.faults.pull_fails and operation in {"warm", "run"}:
            return HTTPStatus.SERVICE_UNAVAILABLE, "the release cannot be pulled"
        if operation == "run":
            self._run(port, json.loads(body))
        if operation == "inspect":
            return HTTPStatus.OK, RunState.RUNNING if port in self._agents else RunState.ABSENT
        return HTTPStatus.OK, ""

    def _run(self, port: int, environment: dict[str, str]) -> None:
        running = self._agents.get(port)
        if running is None or running.environment != environment:
            self._kill(port)
            self._agents[port] = LightAgent(self._disks[port], environment, self.faults)


def _cycle(send: Send) -> Any:
    bound: Any = send
    return bound.__self__


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message: Any = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _answer(send: Send, status: HTTPStatus, said: str) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": said.encode(), "more_body": False})


async def _lifespan(receive: Receive, send: Any) -> None:
    for done in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{done}.complete"})


class LightEngine:
    """Implements `Engine` over them."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self._url = url
        self._http = http

    async def prepare(self, place: Place) -> None:
        await self._do(place, "prepare", NotPrepared)

    async def warm(self, place: Place, _release: str) -> None:
        await self._do(place, "warm", NotStarted)

    async def run(self, place: Place, spec: Spec) -> str:
        await self._do(place, "run", NotStarted, spec.environment())
        return f"{self._url}/{await self._port(place)}"

    async def inspect(self, place: Place) -> Inspection:
        return Inspection(RunState(await self._do(place, "inspect", NotStarted)))

    async def logs(self, _place: Place, _lines: int = 50) -> str:
        return ""

    async def remove(self, _place: Place) -> None:
        return

    async def wipe(self, _place: Place) -> None:
        return

    async def close(self) -> None:
        return

    async def _do(
        self, place: Place, operation: str, failure: Callable[[str], Exception], body: dict[str, str] | None = None
    ) -> str:
        url = f"{self._url}/{ENGINE}/{await self._port(place)}/{operation}"
        try:
            answer = await self._http.put(url, json=body)
        except httpx.HTTPError as error:
            raise failure(type(error).__name__) from error
        if answer.is_error:
            raise failure(answer.text)
        return answer.text

    async def _port(self, place: Place) -> int:
        assert place.remote
        return (await place.remote.target()).port
