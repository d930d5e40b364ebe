"""Tool calls that leak into an answer's text, as models and their servers write them when parsing fails.

Such text is never shown. What is well-formed becomes a call, as vLLM's parsers would have made it; the rest is reported
as spoilt. Text in code (between backticks) is left alone: people ask how such calls look. Only what may be the
beginning of a marker is held back.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

Leaked = tuple[str, str]
"""A call's name and its arguments as JSON."""
Tools = Mapping[str, Collection[str]]
"""The parameters of each tool that take a string, by its name."""

_ENDS = {"<tool_call>": "</tool_call>", "<function=": "</function>", "<|python_tag|>": "", "[TOOL_CALLS]": ""}
"""How a leak begins and ends; an empty end is the end of the answer."""
_STRAY = "</tool_call>"
_MARKERS = (*_ENDS, _STRAY)
_TOKEN = re.compile("|".join(["`+", "\n", *map(re.escape, _MARKERS)]))
_SPECIAL = re.compile(r"[`<\[]")
_FENCE = 3
"""From so many backticks on, code goes over lines."""


class Leaks:
    """Passes on an answer's visible text, and keeps the calls that leaked into it."""

    __slots__ = ("_code", "_end", "_held", "_hidden", "_marker", "_opening", "_schemas", "calls", "spoilt")

    def __init__(self, tools: Sequence[dict[str, Any]]) -> None:
        """`tools` are the schemas of the tools that were offered."""
        self.calls: list[Leaked] = []
        self.spoilt = False
        """Whether something was hidden that is no call."""
        self._schemas = tools
        self._opening = bool(tools)  # whether all the answer so far may be one bare call
        self._held = ""
        self._code = 0  # how many backticks have opened the code that we are in
        self._marker = ""
        self._hidden = ""

    def _tools(self) -> Tools:
        """Seldom needed, and as dear as a turn's history."""
        return {each["function"]["name"]: _strings(each) for each in self._schemas}

    def feed(self, piece: str) -> str:
        """Take the next piece; return what may be shown now."""
        if self._opening:
            self._held += piece
            if _may_be_bare(self._held, self._tools):
                return ""
            self._opening, piece, self._held = False, self._held, ""
        if not (self._held or self._marker or self._code or _SPECIAL.search(piece)):
            return piece
        text, self._held = self._held + piece, ""
        return "".join(self._visible(text))

    def rest(self) -> str:
        """Return what was held back, when nothing more will come."""
        if self._opening:
            self._opening, text, self._held = False, self._held, ""
            if bare := _bare(text, self._tools()):
                self.calls.append(bare)
                return ""
            return self.feed(text) + self.rest()
        if self._marker:
            self._hide(self._hidden + self._held)
        held, self._held = "" if self._marker else self._held, ""
        return held

    def _visible(self, text: str) -> Iterator[str]:
        while text:
            if self._marker:
                text = self._through(text)
            else:
                shown, text = self._until_marker(text)
                yield shown

    def _through(self, text: str) -> str:
        """Go on hiding; what comes after the end."""
        self._hidden += text
        end = _ENDS[self._marker]
        leak, found, rest = self._hidden.partition(end) if end else (self._hidden, "", "")
        if not found:
            return ""
        self._hide(leak)
        self._marker = self._hidden = ""
        return rest

    def _until_marker(self, text: str) -> tuple[str, str]:
        """The visible beginning, and what comes after the marker that ends it."""
        shown = start = 0
        while found := _TOKEN.search(text, start):
            token, start = found[0], found.end()
            if token[0] == "`":
                if start == len(text):
                    return self._hold(text, found.start())  # there may come more of them
                self._count(len(token))
            elif token == "\n":  # noqa: S105  not a password
                self._code = 0 if self._code < _FENCE else self._code
            elif not self._code:
                self._marker = "" if token == _STRAY else token
                return text[shown : found.start()], text[start:]
        return self._hold(text, len(text) if self._code else _begun(text))

    def _hold(self, text: str, start: int) -> tuple[str, str]:
        self._held = text[start:]
        return text[:start], ""

    def _count(self, ticks: int) -> None:
        """Code ends with as many backticks as it began with, a block of it also with more."""
        if not self._code:
            self._code = ticks
        elif ticks == self._code or ticks > self._code >= _FENCE:
            self._code = 0

    def _hide(self, leak: str) -> None:
        calls = _parsed(self._marker, leak, self._tools()) if self._schemas else []
        self.calls += calls
        self.spoilt = self.spoilt or not calls


def _strings(schema: dict[str, Any]) -> Collection[str]:
    properties = schema["function"].get("parameters", {}).get("properties", {})
    return {name for name, each in properties.items() if "string" in {kind.get("type") for kind in _kinds(each)}}


def _kinds(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [schema, *schema.get("anyOf", ())]


def _begun(text: str) -> int:
    """Where a marker may begin that the end of the text cuts."""
    longest = max(map(len, _MARKERS)) - 1
    for start in range(max(0, len(text) - longest), len(text)):
        if any(marker.startswith(text[start:]) for marker in _MARKERS):
            return start
    return len(text)


# A whole answer that is one call

_FENCED = re.compile(r"\s*`{0,2}$|\s*```\w*$|\s*(?:```\w*\s*)?(?P<bare>\{.*)$", re.DOTALL)
_HEAD = re.compile(r"""\{\s*"name"\s*:\s*"(?P<name>[^"]*)(?P<whole>"?)""")
_BARE = re.compile(r"\s*(?P<fence>```\w*\s*)?(?P<bare>\{.*\})\s*(?(fence)```)\s*", re.DOTALL)
_HEAD_BEGUN = '{"name":"'


def _may_be_bare(text: str, offered: Callable[[], Collection[str]]) -> bool:
    """Whether this may be the beginning of an answer that is nothing but one call of an offered tool."""
    found = _FENCED.match(text)
    if not found or not found["bare"]:
        return bool(found)
    head = _HEAD.match(found["bare"])
    if not head:
        return _HEAD_BEGUN.startswith("".join(found["bare"].split()))
    tools = offered()
    named = head["name"] in tools if head["whole"] else any(name.startswith(head["name"]) for name in tools)
    after = text.rpartition("\n```")[2] if "\n```" in found["bare"] else ""
    return named and not after.strip()


def _bare(text: str, tools: Collection[str]) -> Leaked | None:
    found = _BARE.fullmatch(text)
    calls = _from_json(found["bare"]) if found else []
    return calls[0] if len(calls) == 1 and calls[0][0] in tools else None


# What is between the markers

_NAMED_JSON = re.compile(r"\s*(?P<name>[\w.:-]+)\s*(?:\[ARGS\])?\s*(?P<arguments>\{.*)", re.DOTALL)
_FUNCTION = re.compile(r"\s*<function=(?P<name>[\w.:-]+)>(?P<body>.*?)(?:</function>\s*|$)", re.DOTALL)
_PARAMETER = re.compile(
    r"\s*<parameter=(?P<name>[^>\s]+)>\n?(?P<value>.*?)\n?(?:</parameter>\s*|(?=<parameter=)|$)", re.DOTALL
)
_GLM = re.compile(r"\s*(?P<name>[\w.:-]+)\s*(?P<body>(?:<arg_key>.*)?)", re.DOTALL)
_PAIR = re.compile(r"\s*<arg_key>(?P<name>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>\s*", re.DOTALL)


def _parsed(marker: str, leak: str, tools: Tools) -> list[Leaked]:
    """The calls in a leak; none if any of it is malformed."""
    if marker == "<function=":
        return _functions(f"{marker}{leak}", tools)
    if marker == "<|python_tag|>":
        return _from_json(leak.replace("<|eom_id|>", "").replace("<|eot_id|>", ""), separator=";")
    if marker == "[TOOL_CALLS]":
        return _from_json(leak) or _named(leak)
    return _from_json(leak) or _functions(leak, tools) or _glm(leak, tools)


def _from_json(leak: str, separator: str = "") -> list[Leaked]:
    """`{"name": …, "arguments": {…}}`, one or a list of them, or several one after the other."""
    calls: list[Leaked] = []
    rest = leak.strip()
    while rest:
        value, rest = _decoded(rest)
        each = [_call(item) for item in (value if isinstance(value, list) else [value])]
        if not each or None in each:
            return []
        calls += [call for call in each if call]
        rest = rest.removeprefix(separator).lstrip()
    return calls


def _named(leak: str) -> list[Leaked]:
    """`name{…}`, as newer Mistral models write it, once or more often."""
    calls: list[Leaked] = []
    rest = leak.strip()
    while rest:
        found = _NAMED_JSON.fullmatch(rest.removeprefix("[TOOL_CALLS]"))
        value, rest = _decoded(found["arguments"]) if found else (None, "")
        if not found or not isinstance(value, dict):
            return []
        calls.append((found["name"], json.dumps(value)))
    return calls


def _functions(leak: str, tools: Tools) -> list[Leaked]:
    """`<function=name>{…}`, or with a `<parameter=…>` for each argument, as Qwen's coders write it."""
    calls: list[Leaked] = []
    place = 0
    while place < len(leak.rstrip()):
        found = _FUNCTION.match(leak, place)
        arguments = _function_arguments(found["body"], tools.get(found["name"], ())) if found else None
        if not found or arguments is None:
            return []
        calls.append((found["name"], json.dumps(arguments)))
        place = found.end()
    return calls


def _function_arguments(body: str, strings: Collection[str]) -> dict[str, Any] | None:
    if body.strip().startswith("{"):
        value, rest = _decoded(body.strip())
        return value if isinstance(value, dict) and not rest else None
    return _pairs(_PARAMETER, body, strings)


def _glm(leak: str, tools: Tools) -> list[Leaked]:
    """The name, then `<arg_key>` and `<arg_value>` for each argument, as GLM writes it."""
    found = _GLM.fullmatch(leak)
    arguments = _pairs(_PAIR, found["body"], tools.get(found["name"], ())) if found else None
    return [(found["name"], json.dumps(arguments))] if found and arguments is not None else []


def _pairs(pattern: re.Pattern[str], body: str, strings: Collection[str]) -> dict[str, Any] | None:
    arguments: dict[str, Any] = {}
    place = 0
    while place < len(body.rstrip()):
        found = pattern.match(body, place)
        if not found or found.end() == place:
            return None
        name = found["name"].strip()
        arguments[name] = found["value"] if name in strings else _value(found["value"])
        place = found.end()
    return arguments


def _value(written: str) -> Any:
    """What is not said to be a string is JSON where it can be read as such."""
    value, rest = _decoded(written.strip())
    return written if value is None or rest else value


def _call(value: Any) -> Leaked | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        return value["name"], arguments
    return (value["name"], json.dumps(arguments)) if isinstance(arguments, dict) else None


_DECODER = json.JSONDecoder()


def _decoded(text: str) -> tuple[Any, str]:
    """A JSON value and what follows it; `None` and nothing if there is none."""
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None, ""
    return value, text[end:].strip()
