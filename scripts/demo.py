"""Baal without Telegram and without an account: the Bot API double with its chat page, the bot, a model, one URL.

`make demo`, or `python -m scripts.demo [--check]`. Everything runs on loopback and ends with it.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from cryptography.fernet import Fernet

from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine
from scripts.demo_check import check
from scripts.servers import end, start_server
from scripts.thinking import SCRIPTED_KEY, Model, choose

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".demo"
TOKEN = "4242:demo-token-that-no-telegram-server-knows"  # noqa: S105  the double's, not Telegram's
USERNAME = "baal_demo_bot"


class Demo:
    """The processes of one demo, ended in the opposite order."""

    def __init__(self, stack: AsyncExitStack, *, model: str, port: int, tools: bool = False) -> None:
        self._stack = stack
        self._wanted_model = model
        self._port = port
        self._tools = tools

    async def start(self) -> str:
        """Start everything; the URL of the chat page."""
        await self._clean()
        telegram = await self._spawn("tests.fakes.telegram", "--token", TOKEN, "--username", USERNAME, port=self._port)
        libertai = await self._spawn("tests.fakes.libertai", "--key", SCRIPTED_KEY)
        model = await self._model(libertai)
        print(f"Model: {model.words}\nTools: {_words(model, unconfined=self._tools)}", flush=True)
        self._stack.push_async_callback(self._end_agents)
        keeper = asyncio.create_task(self._keep_bot(self._environment(telegram, libertai, model)))
        self._stack.push_async_callback(_cancel, keeper)
        return telegram

    async def _clean(self) -> None:
        await self._end_agents()
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(mode=0o700)

    async def _model(self, libertai: str) -> Model:
        async def scripted() -> str:
            return f"{libertai}/v1"

        return await choose(self._wanted_model, local=lambda: self._spawn("scripts.local_model"), scripted=scripted)

    def _environment(self, telegram: str, libertai: str, model: Model) -> dict[str, str]:
        is_libertai = "libertai.io" in model.base_url
        settings = {
            "TELEGRAM_BOT_TOKEN": TOKEN,
            "TELEGRAM_API_BASE": telegram,
            "BOT_ENCRYPTION_KEY": Fernet.generate_key().decode(),
            "LIBERTAI_API_KEY": model.key,
            "LLM_BASE_URL": model.base_url,
            "DATA_DIR": str(FOLDER / "data"),
            "DEFAULT_MODELS": model.default,
            "AGENT_CONTEXT_TOKENS": str(model.context_tokens),
            "AGENT_MAX_TOKENS": str(model.max_tokens),
            "AGENT_TOOLS": str(model.tools).lower(),
            "AGENT_UNCONFINED_TOOLS": str(self._tools).lower(),
        }
        if not is_libertai:
            settings |= {"LIBERTAI_GATEWAY": libertai, "LIBERTAI_ACCOUNT": libertai, "MODEL_PRICES_URL": ""}
        return os.environ | {name: value for name, value in settings.items() if value or name == "MODEL_PRICES_URL"}

    async def _keep_bot(self, environment: dict[str, str]) -> None:
        """Run the bot, and start it again when it dies: try `kill -9`, nothing is lost."""
        log = (FOLDER / "bot.log").open("ab")
        while True:
            bot = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bot", "serve", env=environment, cwd=FOLDER, stdout=log, stderr=log
            )
            try:
                code = await bot.wait()
            finally:
                await end(bot)
            print(f"The bot ended with {code}; starting it again (its log: {FOLDER / 'bot.log'}).", flush=True)
            await asyncio.sleep(1)

    async def _end_agents(self) -> None:
        provider = LocalProvider(FOLDER / "data" / "machines", ProcessEngine())
        for machine in await provider.listed():
            await provider.give_back(machine)

    async def _spawn(self, module: str, *arguments: str, port: int = 0) -> str:
        log = FOLDER / f"{module}.log"
        return await start_server(self._stack, module, "--port", str(port), *arguments, log=log)


def _words(model: Model, *, unconfined: bool) -> str:
    if not model.tools:
        return "none, this model cannot call any."
    if unconfined:
        return "all. Agents run commands and write files for their owners AS YOU: nothing confines them here."
    return "they read the files you send. No container is around agents here, so they run and write nothing (TOOLS=1)."


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def run(arguments: argparse.Namespace) -> None:
    """Start; then drive it once, or leave it to the person until Ctrl-C."""
    async with AsyncExitStack() as stack:
        url = await Demo(stack, model=arguments.model, port=arguments.port, tools=arguments.tools).start()
        if arguments.check:
            await check(url)
            return
        print(f"\n  Open {url}\n\nCtrl-C ends it.", flush=True)
        stop = asyncio.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="drive the main job once, without a browser")
    parser.add_argument("--tools", action="store_true", help="let agents run commands and write files, as you")
    parser.add_argument("--model", choices=["local", "scripted"], default="local", help="when there is no key")
    parser.add_argument("--port", type=int, default=0, help="of the chat page; 0: a free one")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
