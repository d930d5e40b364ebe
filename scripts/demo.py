"""Baal without Telegram and without an account: the Bot API double with its chat page, the bot, a model, one URL.

`make demo`, or `python -m scripts.demo [--check]`. Everything runs on loopback and ends with it; agents in containers
(`--provider`) and what they think with are on Docker's bridge.
"""

import argparse
import asyncio
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from cryptography.fernet import Fernet

from bot.errors import MachineError
from scripts import leftovers
from scripts.demo_check import check
from scripts.demo_sites import SiteName, site_of
from scripts.image.commands import Refused
from scripts.servers import LOOPBACK, Host, end, start_server
from scripts.thinking import SCRIPTED_KEY, Model, choose

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".demo"
TOKEN = "4242:demo-token-that-no-telegram-server-knows"  # noqa: S105  the double's, not Telegram's
USERNAME = "baal_demo_bot"
NO_TOOLS = "none, this model cannot call any."


class Demo:
    """The processes of one demo, ended in the opposite order."""

    def __init__(self, stack: AsyncExitStack, arguments: argparse.Namespace) -> None:
        self._stack = stack
        self._given = arguments
        self._folder: Path = arguments.folder
        self._processes = self._folder / "processes"
        self.log = self._folder / "bot.log"
        self.site = site_of(arguments.provider, self._folder)

    async def start(self) -> str:
        """Start everything; the URL of the chat page."""
        self._stack.enter_context(_alone_in(self._folder))
        host = await self.site.host()
        await self._clean()
        port, named = str(self._given.port), ("--token", TOKEN, "--username", USERNAME)
        telegram = await self._spawn("tests.fakes.telegram", "--port", port, *named)
        at = ("--host", host.listen, "--port", "0")
        libertai = await self._spawn("tests.fakes.libertai", *at, "--key", SCRIPTED_KEY)
        model = await self._model(libertai, host)
        tools = self.site.words(unconfined=self._given.tools) if model.tools else NO_TOOLS
        print(f"Model: {model.words}\nTools: {tools}", flush=True)
        own = await self.site.open(self._stack, self._spawn)
        self._stack.push_async_callback(self.site.clear)
        keeper = asyncio.create_task(self._keep_bot(self._environment(telegram, libertai, model) | own))
        self._stack.push_async_callback(_cancel, keeper)
        return telegram

    async def _clean(self) -> None:
        """End what a demo that was killed has left, wherever its agents were; and begin in an empty folder."""
        await asyncio.to_thread(leftovers.end_all, self._processes)
        before = self._folder / "provider"
        if before.exists():
            await site_of(SiteName(before.read_text()), self._folder).clear()
        await self.site.clear()
        for path in self._folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        before.write_text(self._given.provider)

    async def _model(self, libertai: str, host: Host) -> Model:
        async def local() -> str:
            return f"{host.seen(await self._spawn('scripts.local_model', '--host', host.listen, '--port', '0'))}/v1"

        async def scripted() -> str:
            return f"{host.seen(libertai)}/v1"

        model = await choose(self._given.model, local=local, scripted=scripted)
        if host.called == LOOPBACK:
            return model
        from scripts.bridge import reachable  # noqa: PLC0415  a demo without containers needs no Docker

        return reachable(model)

    def _environment(self, telegram: str, libertai: str, model: Model) -> dict[str, str]:
        is_libertai = "libertai.io" in model.base_url
        settings = {
            "TELEGRAM_BOT_TOKEN": TOKEN,
            "TELEGRAM_API_BASE": telegram,
            "BOT_ENCRYPTION_KEY": Fernet.generate_key().decode(),
            "LIBERTAI_API_KEY": model.key,
            "LLM_BASE_URL": model.base_url,
            "DATA_DIR": str(self._folder / "data"),
            "DEFAULT_MODELS": model.default,
            "AGENT_CONTEXT_TOKENS": str(model.context_tokens),
            "AGENT_MAX_TOKENS": str(model.max_tokens),
            "AGENT_TOOLS": str(model.tools).lower(),
            "AGENT_UNCONFINED_TOOLS": str(self._given.tools).lower(),
        }
        if not is_libertai:
            settings |= {"LIBERTAI_GATEWAY": libertai, "LIBERTAI_ACCOUNT": libertai, "MODEL_PRICES_URL": ""}
        return os.environ | {name: value for name, value in settings.items() if value or name == "MODEL_PRICES_URL"}

    async def _keep_bot(self, environment: dict[str, str]) -> None:
        """Run the bot, and start it again when it dies: try `kill -9`, nothing is lost."""
        log = self.log.open("ab")
        while True:
            bot = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bot", "serve", env=environment, cwd=self._folder, stdout=log, stderr=log
            )
            self._note(bot.pid)
            try:
                code = await bot.wait()
            finally:
                await end(bot)
            print(f"The bot ended with {code}; starting it again (its log: {self.log}).", flush=True)
            await asyncio.sleep(1)

    async def _spawn(self, module: str, *arguments: str) -> str:
        log = self._folder / f"{module}.log"
        return await start_server(self._stack, module, *arguments, log=log, note=self._note)

    def _note(self, pid: int) -> None:
        leftovers.note(self._processes, pid)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two demos in one folder would end each other's agents."""
    folder.mkdir(mode=0o700, exist_ok=True)
    door = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Refused(f"a demo runs in {folder} already: end that one first") from None
    finally:
        os.close(door)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def run(arguments: argparse.Namespace) -> None:
    """Start; then drive it once, or leave it to the person until Ctrl-C."""
    async with AsyncExitStack() as stack:
        demo = Demo(stack, arguments)
        url = await demo.start()
        if arguments.check:
            await check(url, demo.site, demo.log)
            return
        print(f"\n  Open {url}\n\nCtrl-C ends it.", flush=True)
        stop = asyncio.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        await stop.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="drive the main job once, without a browser")
    parser.add_argument("--tools", action="store_true", help="let agents run commands and write files, as you")
    parser.add_argument("--model", choices=["local", "scripted"], default="local", help="when there is no key")
    parser.add_argument("--port", type=int, default=0, help="of the chat page; 0: a free one")
    parser.add_argument(
        "--provider", type=SiteName, choices=[*SiteName], default=SiteName.LOCAL, help="where agents run"
    )
    parser.add_argument("--folder", type=lambda text: Path(text).resolve(), default=FOLDER, help="for all it keeps")
    try:
        asyncio.run(run(parser.parse_args()))
    except (Refused, MachineError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
