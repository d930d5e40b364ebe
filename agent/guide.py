"""What an owner tells their agent by files: standing instructions, skills; and what the agent wrote down for its owner.

It becomes part of the system prompt, which must stay the same, byte for byte, until one of the files changes.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from agent import log, own_files
from agent.own_files import AGENTS, AGENTS_CHARS, MEMORY, MEMORY_CHARS, SKILL, SKILL_CHARS, SKILLS
from agent.sandbox.wire import BadRequest, Request
from agent.skills import BadSkill, Skill, builtin, index, read_skill
from agent.toolbox import ToolFailed
from agent.workspace import Runner

_SCRIPT = resources.files("agent").joinpath("own_files.py").read_text()
_SECONDS = 5.0
_MAX_BYTES = 10_000_000
_CUT = "[… only the first {limit} characters of {name} are shown …]"
_INSTRUCTIONS = "Your owner's standing instructions (AGENTS.md):\n\n{text}"
_FILES = (
    "Two files in your folder are special. AGENTS.md has your owner's standing instructions: change it when they want "
    "to. MEMORY.md is your own long-term memory for your owner, which you see with each of their messages: keep in it "
    "what lasts, briefly, with your file tools."
)
_INDEX = "You have skills, which say how to do some kinds of work well. Before such work, load the one for it.\n{index}"


@dataclass(frozen=True, slots=True)
class Guidance:
    """The files as they were read. `broken` says of folders in skills/ why they are none."""

    agents: str = ""
    memory: str = ""
    skills: Mapping[str, Skill] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def instructions(self, has: Callable[[str], bool], *, owner: bool) -> str:
        """For the system prompt of who has these tools; empty if there is nothing to say."""
        parts = [_INSTRUCTIONS.format(text=self.agents)] if self.agents else []
        if owner and has("write_file"):
            parts.append(_FILES)
        if has("load_skill") and (offered := self.offered(has)):
            parts.append(_INDEX.format(index=index(offered.values())))
        return "\n\n".join(parts)

    def offered(self, has: Callable[[str], bool]) -> dict[str, Skill]:
        """The skills, by name, for who has these tools; an owner's own take the place of ours."""
        known = {name: skill for name, (skill, _) in builtin().items()} | dict(self.skills)
        return {name: known[name] for name in sorted(known) if all(map(has, known[name].needs))}


class Guide:
    """Reads the files when they may have changed: behind the wall, or in `folder` where there is none."""

    def __init__(self, runner: Runner | None = None, folder: Path | None = None) -> None:
        """With neither there are no files."""
        self._runner = runner
        self._folder = folder
        self._seen: object = None
        self._known = Guidance()
        self._reading = asyncio.Lock()

    async def read(self) -> Guidance:
        """The files as they are now. What cannot be read now is as it was: no turn fails by it."""
        async with self._reading:
            seen = self._look()
            if seen != self._seen:
                try:
                    self._known = _guidance(await self._ask())
                    self._seen = seen
                except (OSError, ValueError, BadRequest) as error:
                    log.warning("own files not read", reason=str(error))
        return self._known

    async def skill(self, name: str, has: Callable[[str], bool], *, owner: bool) -> str:
        """What a skill says; `ToolFailed` if there is none of this name, or it cannot be understood."""
        known = await self.read()
        offered = known.offered(has)
        if name in known.skills and name in offered:
            return await self._own_skill(name, owner=owner)
        if name in offered:
            return builtin()[name][1]
        if owner and name in known.broken:
            raise ToolFailed(f"{SKILLS}/{name}/{SKILL} is not valid. {known.broken[name]}.")
        raise ToolFailed(f"There is no skill {name!r}. There are: {', '.join(offered) or 'none'}.")

    async def _own_skill(self, name: str, *, owner: bool) -> str:
        try:
            found = await self._ask(name)
            body = read_skill(found["text"] or "", name)[1]
        except (OSError, ValueError) as error:
            raise ToolFailed(f"{SKILLS}/{name}/{SKILL} cannot be used now. {error}.") from error
        text = _cut(body, SKILL_CHARS, SKILL)
        if not owner or not found["files"]:
            return text
        files = "\n".join(f"{SKILLS}/{name}/{path}" for path in found["files"])
        return f"{text}\n\n[Its other files:\n{files}]"

    def _look(self) -> object:
        """What is different when a file may have changed."""
        if self._folder:
            folder, names = self._folder, own_files.skill_names(self._folder)
            paths = [AGENTS, MEMORY, *(f"{SKILLS}/{name}/{SKILL}" for name in names)]
            return [(path, own_files.look(folder, path)) for path in paths]
        return self._runner.changes if self._runner else None

    async def _ask(self, *skill: str) -> dict[str, Any]:
        if self._folder:
            return own_files.skill(self._folder, *skill) if skill else own_files.survey(self._folder)
        if self._runner is None:
            return {}
        request = Request(["python3", "-I", "-S", "-c", _SCRIPT, *skill], seconds=_SECONDS)
        output = await self._runner.run(request, limit=_MAX_BYTES, reads_only=True)
        if output.result.code:
            raise ValueError(output.result.text or output.data.decode(errors="replace")[-200:])
        return dict(json.loads(output.data))


def _guidance(found: Mapping[str, Any]) -> Guidance:
    skills: dict[str, Skill] = {}
    broken: dict[str, str] = {}
    for name, text in found.get("skills", {}).items():
        try:
            skills[name] = read_skill(_head(text), name)[0]
        except BadSkill as problem:
            broken[name] = str(problem)
            log.warning("skill left out", skill=name, reason=str(problem))
    agents = _cut((found.get("agents") or "").strip(), AGENTS_CHARS, AGENTS)
    memory = _cut((found.get("memory") or "").strip(), MEMORY_CHARS, MEMORY)
    return Guidance(agents, memory, skills, broken)


def _head(text: str | None) -> str:
    if text is None:
        raise BadSkill(f"{SKILL}: is missing; it must be a file, no link")
    return text


def _cut(text: str, limit: int, name: str) -> str:
    return text if len(text) <= limit else f"{text[:limit]}\n{_CUT.format(limit=limit, name=name)}"
