"""What agents remember in the end, beside what people were told: every answer once, or a word that it is lost."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from sqlmodel import col, select

from bot.fleet.shelf import Shelf
from bot.fleet.snapshots import Snapshots
from bot.store.database import Database
from bot.store.keepsakes import Keepsakes
from bot.store.models import Agent
from bot.store.objects import open_folder
from bot.store.records import Notice
from bot.store.vault import Vault
from tests.bot.fleet.archives import read_database
from tests.chaos.books_at_rest import Rest
from tests.chaos.deeds import Deeds
from tests.chaos.journal import Journal
from tests.chaos.light_agent import LightAgent
from tests.chaos.light_disk import Kept

LOST = "notice-healed-lost"


class Memories:
    """Of all agents that live."""

    def __init__(
        self, database: Database, journal: Journal, deeds: Deeds, rest: Rest, *, folder: Path, vault: Vault
    ) -> None:
        self._database = database
        self._journal = journal
        self._deeds = deeds
        self._rest = rest
        self._folder = folder
        self._vault = vault
        self.kept = self.lost = 0
        self.longest = (0.0, "")
        """Seconds from a message to the end of its answer; which."""

    async def check(self) -> None:
        """All of them work now."""
        answered = self._answered()
        for turn_id, at in answered.items():
            self.longest = max(self.longest, (at - self._deeds.asked[turn_id].at, turn_id))
        for agent, light in await self._rest.running():
            theirs = [each for each in answered if self._deeds.asked[each].agent_id == agent.id]
            await self._check(agent, light, theirs, answered)

    async def _check(self, agent: Agent, light: LightAgent, theirs: list[str], answered: dict[str, float]) -> None:
        counts = Counter(light.disk.history)
        twice = [turn_id for turn_id, count in counts.items() if count > 1]
        assert not twice, f"{agent.name} remembers twice: {twice}"
        # A snapshot may have caught it in the middle: then its answer goes with the machine, like what came after.
        missing = [each for each in theirs if each not in counts or not light.disk.turns[each].is_answered]
        if missing:
            await self._excuse(agent, {turn_id: answered[turn_id] for turn_id in missing})
        self.kept, self.lost = self.kept + len(theirs) - len(missing), self.lost + len(missing)
        for chat_id in {self._deeds.asked[each].chat_id for each in theirs}:
            self._check_order(chat_id, light.disk.history, set(theirs))

    def _check_order(self, chat_id: int, history: list[str], answered: set[str]) -> None:
        """People wrote in this order, and so they are remembered."""
        chat = [each for each in history if each in answered and self._deeds.asked[each].chat_id == chat_id]
        assert chat == sorted(chat, key=lambda turn_id: int(turn_id[1:])), chat

    async def _excuse(self, agent: Agent, missing: dict[str, float]) -> None:
        """What was answered after the last snapshot goes with its machine; the owner is told, and nothing else goes.

        What an owner has taken back is kept in a snapshot.
        """
        kept = await self._in_snapshots(agent)
        if agent.id in self._deeds.restored:
            missing = {turn_id: at for turn_id, at in missing.items() if turn_id not in kept}
        assert not (safe := kept & missing.keys()), f"{agent.name} has lost what was in a snapshot: {sorted(safe)}"
        told_at = await self._told(agent)
        silent = [turn_id for turn_id, at in missing.items() if not any(told >= at for told in told_at)]
        assert not silent, f"{agent.name} has lost {silent}, and nobody was told"

    async def _in_snapshots(self, agent: Agent) -> set[str]:
        """What it had answered in any of them."""
        shelf = Shelf(self._database, Keepsakes(self._database, self._vault))
        snapshots = Snapshots(shelf, open_folder(self._folder / "snapshots"))
        found: set[str] = set()
        for snapshot in await snapshots.of(agent.id or 0):
            archive = b"".join([piece async for piece in snapshots.read(snapshot)])
            held: dict[str, Any] = json.loads(read_database(archive))
            turns = {turn_id: Kept(**kept) for turn_id, kept in held["turns"].items()}
            found |= {turn_id for turn_id in held["history"] if turn_id in turns and turns[turn_id].is_answered}
        return found

    async def _told(self, agent: Agent) -> list[float]:
        """When its owner was told of a loss."""
        async with self._database.session() as session:
            notices = await session.exec(select(Notice).where(col(Notice.text) == LOST))
            ids = {notice.id for notice in notices if notice.facts["name"] == agent.name}
        return [entry.at for entry in self._journal.entries() if entry.what == "told" and entry.name in ids]

    def _answered(self) -> dict[str, float]:
        """When each answer was at its end, the last time that it was sent."""
        return {entry.name: entry.at for entry in self._journal.entries() if entry.what == "answered"}
