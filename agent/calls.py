"""Put a model's tool calls together from the pieces in which its stream brings them.

Servers disagree on nearly everything: `index` may be missing or shared by two calls, `id` may be missing, repeated on
every piece or used twice, arguments come as text in pieces, whole, as an object or as null. Each rule here is a
malformed stream that was seen.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


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

    def finish(self) -> list[Call]:
        """All calls that have a name, in their order, each with an id of its own."""
        named = [part for part in self._parts if part.name]
        return [
            Call(id_, part.name, part.arguments)
            for id_, part in zip(_distinct([part.id for part in named]), named, strict=True)
        ]

    def _part(self, index: object, id_: str, name: str) -> _Part:
        if isinstance(index, int) and not isinstance(index, bool):
            part = self._by_index.get(index)
            if part is None or (id_ and part.id and id_ != part.id):
                part = self._by_index[index] = self._new()
        else:
            part = self._nameless(id_, name)
        part.id = part.id or id_
        return part

    def _nameless(self, id_: str, name: str) -> _Part:
        """The call that a piece without an index belongs to."""
        same = next((part for part in self._parts if id_ and part.id == id_), None)
        if same:
            return same
        last = self._parts[-1] if self._parts else None
        begins = last is None or bool(id_ and last.id) or bool(name and last.name and _is_json(last.arguments))
        return self._new() if begins or last is None else last

    def _new(self) -> _Part:
        self._parts.append(_Part())
        return self._parts[-1]


def _distinct(ids: Sequence[str]) -> list[str]:
    """The same ids for the same calls every time: what is missing or doubled becomes `call_<n>`."""
    taken = set(ids)
    seen: set[str] = set()
    result = []
    for number, id_ in enumerate(ids):
        if not id_ or id_ in seen:
            id_ = next(minted for minted in _minted(number) if minted not in taken | seen)  # noqa: PLW2901
        seen.add(id_)
        result.append(id_)
    return result


def _minted(number: int) -> Any:
    yield f"call_{number}"
    extra = 0
    while True:
        extra += 1
        yield f"call_{number}_{extra}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def replayable(call: Call) -> Call:
    """As it may stand in a history: llama.cpp answers 500 for ever to arguments that are not a JSON object."""
    try:
        value = json.loads(call.arguments or "{}")
    except ValueError:
        value = None
    return call if isinstance(value, dict) and call.arguments else Call(call.id, call.name, "{}")
