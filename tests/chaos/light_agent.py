"""An agent as light as can be: no model, no workspace, its memory in this process. It speaks the wire, and refuses what
the real one refuses, in the same words: `test_light_agent.py` asks both the same.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from agent.errors import HINTS, RETRYABLE, Refused
from agent.handover import Handover
from agent.mode import Standing
from agent.protocol import (
    ChatRequest,
    Config,
    Done,
    ErrorKind,
    Failed,
    Final,
    Health,
    KeepAlive,
    Mode,
    Outbox,
    Text,
    from_json,
    to_json,
)
from tests.chaos.light_disk import Disk, Faults, Kept
from tests.chaos.light_snapshots import LightSnapshots

NO_ROOM = "The disk of this agent's machine is full. Delete something, or give it a bigger machine, and try again."


@dataclass(frozen=True, slots=True)
class _Nothing:
    """A part of the real agent that a light one has no use for."""

    def freeze(self) -> None:
        return

    def thaw(self) -> None:
        return

    async def finish(self, _seconds: float) -> bool:
        return True


class LightTurns:
    """What `agent.turns.Turns` is to its neighbours."""

    def __init__(self, disk: Disk, standing: Standing, faults: Faults) -> None:
        self._disk = disk
        self._standing = standing
        self._faults = faults
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._chats: dict[str, asyncio.Lock] = {}
        self.news = asyncio.Event()

    @property
    def running(self) -> int:
        return len(self._tasks)

    def submit(self, request: ChatRequest) -> Kept:
        turn_id = request.turn_id or uuid4().hex
        kept = self._disk.turns.get(turn_id)
        if kept is None:
            self._require()
            return self._start(turn_id, Kept(request.chat_id, request.message))
        if kept.chat_id != request.chat_id:
            raise Refused(409, "other_chat", "This turn_id belongs to another chat. Choose a new one for a new turn.")
        final = from_json(kept.lines[-1]) if kept.lines else None
        if turn_id in self._tasks or not (request.retry and isinstance(final, Failed) and final.retryable):
            return kept
        self._require()
        # Not there twice, and moved to the end.
        self._disk.history = [each for each in self._disk.history if each != turn_id]
        return self._start(turn_id, Kept(request.chat_id, request.message, seq=final.seq))

    def recover(self) -> None:
        for turn_id, kept in self._disk.turns.items():
            if not kept.is_over and turn_id not in self._tasks:
                kind = ErrorKind.INTERRUPTED
                kept.say(Failed(seq=kept.seq + 1, kind=kind, text=HINTS[kind], retryable=kind in RETRYABLE))

    async def finish(self, seconds: float) -> bool:
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=seconds)
        return not self._tasks

    def forget(self, chat_id: str) -> None:
        gone = {each for each, kept in self._disk.turns.items() if kept.chat_id == chat_id}
        self._disk.turns = {each: kept for each, kept in self._disk.turns.items() if each not in gone}
        self._disk.history = [each for each in self._disk.history if each not in gone]

    def kill(self) -> None:
        """The process ends, without a word."""
        for task in self._tasks.values():
            task.cancel()
        self._tell()

    def _require(self) -> None:
        self._standing.require_turns()
        if self._faults.is_full:
            raise Refused(507, "no_room", NO_ROOM)

    def _start(self, turn_id: str, kept: Kept) -> Kept:
        self._disk.turns[turn_id] = kept
        task = self._tasks[turn_id] = asyncio.create_task(self._run(turn_id, kept))
        task.add_done_callback(lambda _: self._ended(turn_id))
        return kept

    async def _run(self, turn_id: str, kept: Kept) -> None:
        async with self._chats.setdefault(kept.chat_id, asyncio.Lock()):
            self._disk.history.append(turn_id)
            await asyncio.sleep(self._faults.think_seconds)
            kept.say(Text(seq=kept.seq + 1, text=f"{kept.message}!"))
            kept.say(Done(seq=kept.seq + 1))

    def _ended(self, turn_id: str) -> None:
        del self._tasks[turn_id]
        self._tell()

    def _tell(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


class LightAgent:
    """One process on one machine: from `run` to the end of the machine, or to the next `run` of something else."""

    def __init__(self, disk: Disk, environment: dict[str, str], faults: Faults) -> None:
        self.environment = environment
        self.disk = disk
        self.standing = Standing(disk.folder, Mode(environment["AGENT_MODE"]))
        self.turns = LightTurns(disk, self.standing, faults)
        self.snapshots = LightSnapshots(disk, self.standing, environment["AGENT_RELEASE"], faults)
        self._nothing = _Nothing()
        self.handover = Handover(
            self.standing,
            self.turns,  # type: ignore[arg-type]
            self._nothing,  # type: ignore[arg-type]
            store=self._nothing,  # type: ignore[arg-type]
            snapshots=self.snapshots,  # type: ignore[arg-type]
        )
        if self.standing.mode is Mode.ACTIVE:
            self.turns.recover()

    def kill(self) -> None:
        self.turns.kill()

    def health(self, *, known: bool) -> Health:
        return Health(
            status="ok",
            agent_name=self._config("name", self.environment["AGENT_NAME"]),
            release=self.environment["AGENT_RELEASE"],
            model=self._config("model", self.environment["AGENT_MODEL"]) if known else None,
            running_turns=self.turns.running if known else None,
            config_version=self._version if known else None,
            mode=self.standing.mode if known else None,
            epoch=self.standing.epoch if known else None,
        )

    async def events(self, request: ChatRequest, kept: Kept) -> Any:
        """The encoded events after the last one seen; the final one is never left out."""
        shown = 0
        while True:
            news = self.turns.news
            for line in kept.lines[shown:]:
                shown += 1
                event = from_json(line)
                if event.seq > request.after or isinstance(event, Final):
                    yield line
                if isinstance(event, Final):
                    return
            if not kept.is_over and not self.turns.running:
                return  # killed
            if shown == len(kept.lines):
                yield to_json(KeepAlive(seq=kept.seq))
                await news.wait()

    def configure(self, config: Config) -> Config:
        if config.version < self._version:
            text = f"This agent's configuration is version {self._version} already; send a higher one."
            raise Refused(409, "stale_config", text)
        if config.version > self._version:
            kept = self.disk.config if self._is_changed else {}
            self.disk.config = kept | json.loads(config.model_dump_json(exclude_none=True))
        return Config.model_validate(
            {
                "version": self._version,
                "name": self._config("name", self.environment["AGENT_NAME"]),
                "job": self._config("job", self.environment["AGENT_JOB"]),
                "model": self._config("model", self.environment["AGENT_MODEL"]),
            }
        )

    def outbox(self) -> Outbox:
        self.standing.require_active()
        return Outbox(letters=(), next_due=None)

    def tick(self) -> Outbox:
        self.standing.require_turns()
        return Outbox(letters=(), next_due=None)

    @property
    def _is_changed(self) -> bool:
        return int(self.disk.config.get("version", 0)) > int(self.environment["AGENT_CONFIG_VERSION"])

    @property
    def _version(self) -> int:
        return max(int(self.disk.config.get("version", 0)), int(self.environment["AGENT_CONFIG_VERSION"]))

    def _config(self, name: str, deployed: str) -> str:
        return str(self.disk.config.get(name, deployed)) if self._is_changed else deployed
