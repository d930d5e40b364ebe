"""Agent Skills (agentskills.io): instructions for one kind of work, which a model loads when it needs them.

A skill is a folder with a SKILL.md: between two lines of --- its name and description, below them what to do. What is
read there is the part of YAML that people write in such files, and `skills-ref`, the format's own reader, understands
the same by all that is accepted here (tests compare them); a YAML library would cost every agent more than it brings.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

_NAME = re.compile(r"(?=.{1,64}\Z)[a-z0-9]+(-[a-z0-9]+)*")
_DESCRIPTION_CHARS, _COMPATIBILITY_CHARS = 1_024, 500
_FIELDS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
_ENTRY = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*):(?: +(.*))?")
_NEEDS = "needs-tools"
"""A key of `metadata`: without these tools the skill is of no use, and is not offered."""
_ODD = {"Cc", "Cs", "Zl", "Zp"}
_NOT_PLAIN = tuple("-?:,[]{}#&*!|>'\"%@`=<~")
_ESCAPED = {'\\"': '"', "\\\\": "\\", "\\n": " ", "\\t": " "}
_MARK = "---"


class BadSkill(ValueError):
    """This is no skill; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Skill:
    """What a model is told of a skill before it loads it, and the tools it needs."""

    name: str
    description: str
    needs: tuple[str, ...] = ()


def read_skill(text: str, folder: str) -> tuple[Skill, str]:
    """A skill and its body; `BadSkill`. `folder` is the name of the folder that it is in."""
    head, body = _parted(text)
    fields = dict(_fields(head))
    metadata = {key: value for key, value in fields.items() if key.startswith("metadata.")}
    name = fields.get("name", "")
    if not _NAME.fullmatch(name):
        raise BadSkill("name: must be 1 to 64 of a-z, 0-9 and single hyphens between them")
    if name != folder:
        raise BadSkill(f"name: is {name}, but its folder is called {folder}; make them the same")
    if not 0 < len(fields.get("description", "")) <= _DESCRIPTION_CHARS:
        raise BadSkill(f"description: must have 1 to {_DESCRIPTION_CHARS} characters")
    if len(fields.get("compatibility", "")) > _COMPATIBILITY_CHARS:
        raise BadSkill(f"compatibility: may have {_COMPATIBILITY_CHARS} characters")
    needs = tuple(metadata.get(f"metadata.{_NEEDS}", "").split())
    return Skill(name, fields["description"], needs), body


def index(skills: Iterable[Skill]) -> str:
    """What the model knows of its skills all the time."""
    return "\n".join(f"- {skill.name}: {skill.description}" for skill in skills)


@cache
def builtin() -> dict[str, tuple[Skill, str]]:
    """The skills that every agent brings along, with their bodies."""
    folders = sorted(resources.files("agent.skills_builtin").iterdir(), key=lambda each: each.name)
    texts = {each.name: each / "SKILL.md" for each in folders if each.is_dir() and (each / "SKILL.md").is_file()}
    return {name: read_skill(text.read_text(encoding="utf-8"), name) for name, text in texts.items()}


# The subset of YAML


def _parted(text: str) -> tuple[list[str], str]:
    first, *lines = text.replace("\r\n", "\n").split("\n")
    if first.rstrip(" ") != _MARK:
        raise BadSkill("SKILL.md must begin with a line of ---, and its name and description below it")
    end = next((number for number, line in enumerate(lines) if line.rstrip(" ") == _MARK), None)
    if end is None:
        raise BadSkill("a second line of --- must follow the name and description")
    head = lines[:end]
    if any(unicodedata.category(character) in _ODD or character == "\ufeff" for line in head for character in line):
        raise BadSkill("above the second --- there must be no tabs and no control characters")
    if any(_MARK in line for line in head):
        raise BadSkill("--- may not stand within the name and description")
    return head, "\n".join(lines[end + 1 :]).strip()


def _fields(head: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every field with its value in one line; those of `metadata` as `metadata.<key>`."""
    known: set[str] = set()
    for key, value, below in _entries(head):
        if key not in _FIELDS:
            raise BadSkill(f"{key}: is no field of a skill; there are {', '.join(_FIELDS)} (others go below metadata)")
        if key in known:
            raise BadSkill(f"{key}: stands there twice")
        known.add(key)
        if key == "metadata":
            yield from _metadata(value, below)
        else:
            yield key, _value(key, value, below)


def _metadata(value: str, below: Sequence[str]) -> Iterator[tuple[str, str]]:
    lines = [line for line in below if line.strip()]
    indents = {len(line) - len(line.lstrip()) for line in lines}
    if value or len(indents) != 1:
        raise BadSkill("metadata: must have lines of `key: value` below it, all indented alike")
    known: set[str] = set()
    for key, inner, deeper in _entries([line.strip() for line in lines]):
        if deeper or key in known:
            raise BadSkill(f"metadata.{key}: must be there once, with its value in one line")
        known.add(key)
        yield f"metadata.{key}", _value(key, inner, [])


def _entries(lines: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Each key, what stands behind it, and the indented lines below it."""
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if not line.strip() or line.startswith("#"):
            continue
        found = _ENTRY.fullmatch(line)
        if not found:
            raise BadSkill(f"{line.strip()[:40]!r}: is not a line of the form `key: value`")
        end = next((later for later in range(number, len(lines)) if _is_outer(lines[later])), len(lines))
        yield found[1], (found[2] or "").strip(" "), lines[number:end]  # type: ignore[misc]
        number = end


def _is_outer(line: str) -> bool:
    return bool(line.strip()) and not line.startswith(" ")


def _value(key: str, value: str, below: Sequence[str]) -> str:
    """A scalar, its white space made single."""
    lines = [line.strip(" ") for line in below]
    if value in (">", ">-", "|", "|-"):
        return " ".join(_block(key, below).split())
    if value.startswith(('"', "'")):
        if any(lines):
            raise BadSkill(f"{key}: put what is in quotes into one line")
        return " ".join(_unquoted(key, value).split())
    return " ".join(" ".join(_plain(key, each) for each in [value, *lines] if each).split())


def _block(key: str, below: Sequence[str]) -> str:
    indents = [len(line) - len(line.lstrip(" ")) for line in below if line.strip()]
    if indents and min(indents) != indents[0]:
        raise BadSkill(f"{key}: no line may be indented less than the first")
    if any(not line.strip() and len(line) > indents[0] for line in below if indents):
        raise BadSkill(f"{key}: take the spaces out of its empty lines")
    return "\n".join(below)


def _unquoted(key: str, value: str) -> str:
    quote, inner = value[0], value[1:-1]
    if len(value) > 1 and value[-1] == quote == "'" and "'" not in inner.replace("''", ""):
        return inner.replace("''", "'")
    if len(value) > 1 and value[-1] == quote == '"' and not set('"\\') & set(re.sub(r'\\["\\nt]', "", inner)):
        return re.sub(r'\\["\\nt]', lambda found: _ESCAPED[found[0]], inner)
    raise BadSkill(f"{key}: what is in quotes must end with the same quote, and have none and no odd \\ inside")


def _plain(key: str, words: str) -> str:
    if words.startswith(_NOT_PLAIN) or ": " in words or words.endswith(":") or " #" in words:
        raise BadSkill(f"{key}: put its value into double quotes, because of the special characters in it")
    return words
