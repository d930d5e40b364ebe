"""`make run-agent [NAME= JOB= MODEL= IMAGE=]`: one agent in its container, here, and a chat with it in the terminal.

It thinks with LIBERTAI_API_KEY, or LLM_BASE_URL and LLM_API_KEY; without them with a small model on this machine
(MODEL=scripted: with a script). The container and its volumes are gone when the chat ends.
"""

import asyncio
import os
import secrets
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from pydantic import SecretStr

from bot.errors import AgentError, MachineError, NotStarted
from bot.machines.client import AgentClient, Door
from bot.machines.docker import DockerEngine
from bot.machines.engine import Spec
from bot.machines.provider import Place
from bot.settings import FALLBACK_MODELS
from scripts.bridge import for_containers, reachable
from scripts.image.commands import Refused, in_one_line, need_docker, output
from scripts.image.terminal import talk
from scripts.servers import start_server
from scripts.thinking import SCRIPTED_KEY, Model, choose

IMAGE = "baal/agent:dev"
SCRIPTED = "scripted"
JOB = "Be a helpful and brief assistant."


def main() -> None:
    need_docker()
    image = os.environ.get("IMAGE") or IMAGE
    _refuse_absent(image)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            door, name = runner.run(_start(stack, image))
            talk(runner, door, name)
        except KeyboardInterrupt:
            print()
        finally:
            runner.run(stack.aclose())


def _refuse_absent(image: str) -> None:
    try:
        output("docker", "image", "inspect", image)
    except Refused as refusal:
        raise Refused(
            f"there is no image {image} here: `make image`, or `docker pull` it, or name another: IMAGE=…"
        ) from refusal


async def _start(stack: AsyncExitStack, image: str) -> tuple[Door, str]:
    """Start what it thinks with, and the agent; all of it ends with the stack."""
    wanted = os.environ.get("MODEL", "")
    if wanted and wanted != SCRIPTED and not (os.environ.get("LIBERTAI_API_KEY") or os.environ.get("LLM_BASE_URL")):
        raise Refused(f"MODEL={wanted} needs a server that has it: LIBERTAI_API_KEY, or LLM_BASE_URL and LLM_API_KEY")
    model = reachable(await _model(stack, wanted))
    spec = Spec(
        release=image,
        name=os.environ.get("NAME") or "Ada",
        job=os.environ.get("JOB") or JOB,
        model=await _model_name(model, wanted),
        secret=SecretStr(secrets.token_urlsafe(24)),
        llm_base_url=model.base_url,
        llm_api_key=SecretStr(model.key or "none"),  # a server of one's own may ask for none
        context_tokens=model.context_tokens,
        max_tokens=model.max_tokens,
        tools=model.tools,
    )
    print(f"{spec.name} thinks with {model.words} Ctrl-D ends the chat.", file=sys.stderr)
    return await _run(stack, spec), spec.name


async def _model(stack: AsyncExitStack, wanted: str) -> Model:
    logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="baal-run-agent-")))

    async def serve(module: str, *options: str) -> str:
        host = await for_containers()
        url = await start_server(stack, module, "--host", host.listen, "--port", "0", *options, log=logs / module)
        return f"{host.seen(url)}/v1"

    return await choose(
        wanted,
        local=lambda: serve("scripts.local_model"),
        scripted=lambda: serve("tests.fakes.libertai", "--key", SCRIPTED_KEY),
    )


async def _model_name(model: Model, wanted: str) -> str:
    """What was asked for, or the best of what there is."""
    if wanted and wanted != SCRIPTED:
        return wanted
    if model.default:
        return model.default
    served = await _served(model)
    return next((name for name in FALLBACK_MODELS if name in served), served[0])


async def _served(model: Model) -> list[str]:
    try:
        async with httpx.AsyncClient() as client:
            answer = await client.get(
                f"{model.base_url.rstrip('/')}/models", headers={"Authorization": f"Bearer {model.key}"}
            )
        return [str(entry["id"]) for entry in answer.raise_for_status().json()["data"]] or [""]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise Refused(
            f"{model.base_url} does not say which models it has ({type(error).__name__}): MODEL=name"
        ) from error


async def _run(stack: AsyncExitStack, spec: Spec) -> Door:
    engine = DockerEngine(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    place = Place(machine_id=f"m-{secrets.token_hex(8)}", path="")
    stack.push_async_callback(engine.close)
    stack.push_async_callback(engine.wipe, place)
    try:
        door = Door(await engine.run(place, spec), spec.secret)
        await _activate(door)
    except NotStarted as error:
        last = "".join(error.log.splitlines()[-1:])
        raise Refused(f"{error}: {last}" if last else str(error)) from error
    except (MachineError, AgentError) as error:
        raise Refused(str(error)) from error
    return door


async def _activate(door: Door) -> None:
    """Let it take turns: it was started to stand by."""
    client = AgentClient()
    try:
        await client.activate(door, 1)
    finally:
        await client.close()


if __name__ == "__main__":
    sys.exit(in_one_line(main))
