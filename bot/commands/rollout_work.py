"""`baal rollout …`: open the database beside the bot that runs, say what is to be done, and tell how it stands."""

import asyncio
import logging
import ssl
import sys
import time
from dataclasses import dataclass
from typing import Any

import httpx

from bot.commands.beside import NOBODY_ACTS, opened, user
from bot.commands.rollout_words import plan_of, told
from bot.errors import DatabaseLost, MachineError, RolloutRefused
from bot.fleet.rollout.control import Control, Draft
from bot.fleet.rollout.forecast import usual_seconds
from bot.fleet.rollout.status import Status, card, read_status
from bot.settings import Settings, read_settings
from bot.store.database import Database
from bot.store.presence import is_bot_running

WATCH_SECONDS = 2.0
CLEAR = "\x1b[H\x1b[J"
SAID = {
    "pause": "is paused; what is under way goes on to its end.",
    "abort": "is aborted; what is under way goes on to its end, and what is updated stays.",
}


def work(verb: str, words: dict[str, Any]) -> int:
    """Do it; the exit code. `BadSettings` if there is no database to do it in."""
    # What libraries log may hold secrets, and says nothing that the error does not.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        return asyncio.run(_work(verb, words))
    except (RolloutRefused, MachineError, DatabaseLost) as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return 1


async def _work(verb: str, words: dict[str, Any]) -> int:
    settings = read_settings()
    async with opened(settings) as database:
        control = Control(
            database, by=user(), setting=settings.agent_image, operators=settings.admin_ids, clock=time.time
        )
        terminal = Terminal(settings, database, control)
        match verb:
            case "start":
                return await terminal.start(words)
            case "undo":
                return await terminal.undo(words)
            case "resume":
                return await terminal.resume(words)
            case "status":
                return await terminal.status(as_json=words["json"], watch=words["watch"])
            case _:
                rollout = await getattr(control, verb)(words["reason"])
                return await terminal.done(f"Rollout {rollout.id} {SAID[verb]}")


@dataclass(frozen=True, slots=True)
class Terminal:
    """One method per verb that does more than one thing; each returns the exit code."""

    settings: Settings
    database: Database
    control: Control

    async def start(self, words: dict[str, Any]) -> int:
        """Look the image up, show the plan, ask, begin."""
        release = await self._resolved(words["image"])
        draft = await self.control.draft(release, plan_of(self.settings, words), canaries=words["canary"])
        return await self._begin(draft, words)

    async def undo(self, words: dict[str, Any]) -> int:
        """The same, backwards."""
        draft = await self.control.undo(plan_of(self.settings, words), canaries=words["canary"])
        return await self._begin(draft, words)

    async def resume(self, words: dict[str, Any]) -> int:
        """Look first whether what would be rolled out is still there."""
        status = await read_status(self.database, now=time.time())
        if status is not None and status.is_open:
            await self._resolved(status.release)
        rollout = await self.control.resume(skip_failed=words["skip_failed"])
        return await self.done(f"Rollout {rollout.id} goes on.")

    async def status(self, *, as_json: bool, watch: bool) -> int:
        """Print it, once or until it is over."""
        shown = ""
        while True:
            status = await read_status(self.database, now=time.time())
            if status is None:
                raise RolloutRefused("no rollout was ever started: `baal rollout start IMAGE` begins one")
            words = status.model_dump_json() if as_json else await self._card(status)
            if words != shown:
                print(f"{CLEAR if watch and sys.stdout.isatty() else ''}{words}", flush=True)
                shown = words
            if not watch or not status.is_open or status.state == "paused":
                return 0 if status.is_well else 1
            await asyncio.sleep(WATCH_SECONDS)

    async def done(self, words: str) -> int:
        """Say so, and whether somebody acts on it."""
        print(words)
        if not await is_bot_running(self.database, self.settings.data_dir):
            print(NOBODY_ACTS)
        return 0

    async def _begin(self, draft: Draft, words: dict[str, Any]) -> int:
        print(told(draft, await usual_seconds(self.database)), flush=True)
        if words["dry_run"]:
            return 0
        if not words["yes"] and not await asyncio.to_thread(_agreed):
            print("Nothing was started.", file=sys.stderr)
            return 1
        rollout = await self.control.begin(draft)
        return await self.done(f"Rollout {rollout.id} has begun: `baal rollout status --watch` shows it.")

    async def _card(self, status: Status) -> str:
        words = card(status)
        if status.is_open and not await is_bot_running(self.database, self.settings.data_dir):
            words += f"\n{NOBODY_ACTS}"
        encoding = sys.stdout.encoding or "utf-8"
        return words.encode(encoding, "replace").decode(encoding)

    async def _resolved(self, image: str) -> str:
        # Here, because most verbs need neither: 0.3 s.
        from bot.machines.registry import Registry  # noqa: PLC0415
        from bot.machines.resolve import Resolver, this_machine  # noqa: PLC0415

        settings = self.settings
        async with httpx.AsyncClient(verify=ssl.create_default_context()) as http:
            registry = Registry(http, settings.registry_user, settings.registry_password)
            async with this_machine(settings) as here:
                return await Resolver(settings, registry, here).release(image, await self.control.current_release())


def _agreed() -> bool:
    """Whether the person at the terminal says yes; without one there is nobody to ask."""
    if not sys.stdin.isatty():
        print("Say --yes: there is no terminal to ask at.", file=sys.stderr)
        return False
    return input("Begin? [y/N] ").strip().lower() in {"y", "yes"}
