"""Put a model's tool calls together from the pieces in which its stream brings them.

Servers disagree on nearly everything: `index` may be missing or shared by two calls, `id` may be missing, repeated on
every piece or used twice, arguments come as text in pieces, whole, as an object or as null. Each rule here is a
malformed stream that was seen.
"""

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from agent.thinking import whole

_NAME_CHARS = 64
_ODD = re.compile(r"[^A-Za-z0-9_-]")
"""What OpenAI's API refuses in a tool's name, whoever wrote it there."""


@dataclass(frozen=True, slots=True)
class Call:
    """A finished call. `arguments` are as the model wrote them: perhaps not JSON."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class _Part:
    id: str = ""
    name: str = ""
    arguments: str = ""


class Calls:
    """Collects the `tool_calls` of one answer."""

    __slots__ = ("_by_index", "_parts")

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._by_index: dict[int, _Part] = {}

    def feed(self, piece: dict[str, Any]) -> None:
        """Take one element of a delta's `tool_calls`."""
        function = piece.get("function")
        said = function if isinstance(function, dict) else {}
        name = _text(said.get("name"))
        part = self._part(piece.get("index"), _text(piece.get("id")), name)
        part.name = part.name or name
        part.arguments += _arguments(said.get("arguments"))

    def __bool__(self) -> bool:
        """Whether there is one."""
        return any(part.name for part in self._parts)

    def finish(self, taken: Collection[str] = ()) -> list[Call]:
        """All calls that have a name, in their order, each with an id of its own that is not among the `taken` ones."""
        named = [part for part in self._parts if part.name]
        return [
            Call(id_, whole(part.name), whole(part.arguments))
            for id_, part in zip(_distinct([whole(part.id) for part in named], taken), named, strict=True)
        ]

    def _part(self, index: object, id_: str, name: str) -> _Part:
        if isinstance(index, int) and not isinstance(index, bool):
            part = self._by_index.get(index)
            if part is None or _is_another(part, id_, name):
                part = self._by_index[index] = self._new()
        else:
            part = self._without_index(id_, name)
        part.id = part.id or id_
        return part

    def _without_index(self, id_: str, name: str) -> _Part:
        """The call that such a piece belongs to."""
        same = next((part for part in self._parts if id_ and part.id == id_), None)
        last = same or (self._parts[-1] if self._parts else None)
        return self._new() if last is None or _is_another(last, id_, name) else last

    def _new(self) -> _Part:
        self._parts.append(_Part())
        return self._parts[-1]


def _is_another(part: _Part, id_: str, name: str) -> bool:
    """Whether a piece begins another call than this one, although its index is the same or missing."""
    if id_ and part.id:
        return id_ != part.id
    return bool(name and part.name) and (name != part.name or _is_whole(part.arguments))


def _distinct(ids: Sequence[str], taken: Collection[str]) -> list[str]:
    """The same ids for the same calls every time: what is missing or known already becomes `call_<n>`."""
    seen = set(taken)
    minted = (id_ for number in count(len(seen)) if (id_ := f"call_{number}") not in seen and id_ not in ids)
    result = []
    for given in ids:
        id_ = given if given and given not in seen else next(minted)
        seen.add(id_)
        result.append(id_)
    return result


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


def read_json(text: str) -> Any:
    """Read JSON as strictly as any server does: `ValueError` also for NaN, half a character, and too deep nesting."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a character") from None
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _is_whole(arguments: str) -> bool:
    try:
        read_json(arguments)
    except ValueError:
        return False
    return True


def replayable(call: Call) -> Call:
    """As it may stand in a history: llama.cpp answers 500 for ever to arguments that are not a JSON object."""
    name = _ODD.sub("_", call.name)[:_NAME_CHARS]
    return Call(call.id, name, call.arguments if _is_object(call.arguments) else "{}")


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(read_json(arguments), dict)
    except ValueError:
        return False
