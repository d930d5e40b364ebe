"""Tools: typed functions with a docstring. What a model wants of them is checked here before anything runs.

    @tool("Looking into {folder}", reads_only=True)
    async def list_files(desk: Desk, folder: Annotated[str, "relative to the workspace"] = ".") -> str:
        '''List a folder. …'''

Whatever a model asks for, each call gets exactly one result: a text that it can act on.
"""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from agent import log
from agent.calls import Call, read_json
from agent.protocol import ToolState

RESULT_CHARS = 16_000
"""Longer results are cut in the middle."""
LABEL_CHARS = 80
TOOL_SECONDS = 120.0


class ToolFailed(Exception):
    """A tool could not do what it was asked; the text tells the model why and what to do instead."""


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one call. `ok` is for the person's eyes, the model reads the text."""

    call_id: str
    text: str
    ok: bool = True


Told = Callable[[Call, str, ToolState], None]
"""Hears of a call when it begins and when it has ended, with a label for people."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call."""

    name: str
    description: str
    parameters: type[BaseModel]
    run: Callable[..., Awaitable[str]]
    label: str
    reads_only: bool
    seconds: float

    def schema(self) -> dict[str, Any]:
        """As the chat completions API wants it; not to be changed, it is the same one every time."""
        return _schema(self)


@cache
def _schema(known: Tool) -> dict[str, Any]:
    """Making it takes a tenth of a millisecond, and each turn needs those of all tools."""
    schema = known.parameters.model_json_schema()
    schema.pop("title", None)
    for field in schema["properties"].values():
        field.pop("title", None)
    return {
        "type": "function",
        "function": {"name": known.name, "description": known.description, "parameters": schema},
    }


@cache
def _chars(known: Tool) -> int:
    return len(json.dumps(_schema(known)))


def tool(
    label: str, *, reads_only: bool = False, seconds: float = TOOL_SECONDS
) -> Callable[[Callable[..., Awaitable[str]]], Tool]:
    """Make a tool of a function whose first parameter is what it works with; the others are the model's.

    `label` tells people what is being done; arguments stand in it as {name}. Calls of tools that only read may run at
    the same time; the others run one after the other.
    """

    def made(function: Callable[..., Awaitable[str]]) -> Tool:
        return Tool(
            name=function.__name__,
            description=inspect.cleandoc(function.__doc__ or ""),
            parameters=_parameters(function),
            run=function,
            label=label,
            reads_only=reads_only,
            seconds=seconds,
        )

    return made


def _parameters(function: Callable[..., Any]) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(function).parameters.items())[1:]:
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (_described(hints[name]), default)
    return create_model(f"{function.__name__}_arguments", __config__=ConfigDict(extra="forbid"), **fields)


def _described(hint: Any) -> Any:
    """`Annotated[str, "words"]` describes a parameter in words."""
    if get_origin(hint) is not Annotated:
        return hint
    kind, *extras = get_args(hint)
    words = [Field(description=extra) if isinstance(extra, str) else extra for extra in extras]
    return Annotated[kind, *words]


class Toolbox:
    """The tools that one turn may use."""

    def __init__(self, tools: Sequence[Tool], desk: object, *, may: Callable[[str], bool]) -> None:
        """`may` says of a tool's name whether who speaks may use it; it is also asked when a call comes in."""
        self._tools: Mapping[str, Tool] = {each.name: each for each in tools if may(each.name)}
        self._desk = desk

    def schemas(self) -> list[dict[str, Any]]:
        """Always in the same order, for the model server's cache."""
        return [each.schema() for each in self._tools.values()]

    def chars(self) -> int:
        """How much of the context their schemas take."""
        return sum(map(_chars, self._tools.values()))

    async def run(self, calls: Sequence[Call], results: dict[str, Result], told: Told) -> None:
        """Run them and put each result into `results` by its call's id, so that a cancelled run leaves what it has."""
        for group in _groups(calls, self._reads_only):
            await asyncio.gather(*(self._run_one(call, results, told) for call in group))

    def _reads_only(self, call: Call) -> bool:
        known = self._tools.get(call.name)
        return known is None or known.reads_only

    async def _run_one(self, call: Call, results: dict[str, Result], told: Told) -> None:
        label = self._label(call)
        told(call, label, ToolState.RUNNING)
        result = results[call.id] = await self._result(call)
        told(call, label, ToolState.DONE if result.ok else ToolState.FAILED)

    def _label(self, call: Call) -> str:
        """For people, before the arguments have been checked."""
        known = self._tools.get(call.name)
        words = known.label if known else ""
        try:
            label = words.format_map(read_json(call.arguments or "{}"))
            return " ".join(label.split())[:LABEL_CHARS] or call.name
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return words.partition("{")[0].strip() or call.name

    async def _result(self, call: Call) -> Result:
        try:
            text = await self._answer(call)
        except ToolFailed as failure:
            return Result(call.id, str(failure), ok=False)
        except TimeoutError:
            return Result(call.id, f"{call.name} took too long and was stopped. Try something smaller.", ok=False)
        except Exception as error:  # noqa: BLE001  a broken tool must not break the turn
            log.error("tool broke", error, tool=call.name)
            return Result(call.id, f"{call.name} broke ({type(error).__name__}). Try another way.", ok=False)
        return Result(call.id, shortened(text))

    async def _answer(self, call: Call) -> str:
        known = self._tools.get(call.name)
        if known is None:
            raise ToolFailed(f"There is no tool {call.name!r}. There are: {', '.join(self._tools) or 'none'}.")
        arguments = _arguments(known, call.arguments)
        async with asyncio.timeout(known.seconds):
            return await known.run(self._desk, **arguments)


def _groups(calls: Sequence[Call], reads_only: Callable[[Call], bool]) -> list[list[Call]]:
    """Neighbours that only read together, everything else alone."""
    groups: list[list[Call]] = []
    for call in calls:
        if reads_only(call) and groups and reads_only(groups[-1][-1]):
            groups[-1].append(call)
        else:
            groups.append([call])
    return groups


def _arguments(known: Tool, written: str) -> dict[str, Any]:
    try:
        value = read_json(written or "{}")
    except ValueError as error:
        raise ToolFailed(f"The arguments are not valid JSON ({error}). {_wanted(known)}") from error
    if not isinstance(value, dict):
        raise ToolFailed(f"The arguments must be a JSON object. {_wanted(known)}")
    try:
        model = known.parameters.model_validate(_unwrapped(known, value))
    except ValidationError as error:
        problems = "; ".join(f"{_place(problem)}: {problem['msg']}" for problem in error.errors(include_url=False))
        raise ToolFailed(f"Wrong arguments: {problems}. {_wanted(known)}") from error
    return {name: getattr(model, name) for name in known.parameters.model_fields}


def _unwrapped(known: Tool, value: dict[str, Any]) -> dict[str, Any]:
    """Some models write lists and objects as JSON inside a string, and null for what they leave out."""
    schema = known.schema()["function"]["parameters"]
    kinds = {name: _kinds(each) for name, each in schema["properties"].items()}
    optional = {name for name in kinds if name not in schema.get("required", ()) and "null" not in kinds[name]}
    return {
        name: _decoded(given) if _is_nested(kinds.get(name, set())) else given
        for name, given in value.items()
        if given is not None or name not in optional
    }


def _kinds(schema: dict[str, Any]) -> set[str | None]:
    return {each.get("type") for each in [schema, *schema.get("anyOf", ())]}


def _is_nested(kinds: set[str | None]) -> bool:
    """Whether it takes a list or an object and no string."""
    return bool(kinds & {"array", "object"}) and "string" not in kinds


def _decoded(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return read_json(given)
    except ValueError:
        return given


def _place(problem: Any) -> str:
    return ".".join(str(part) for part in problem["loc"]) or "arguments"


def _wanted(known: Tool) -> str:
    schema = json.dumps(known.schema()["function"]["parameters"], separators=(",", ":"))
    return f"{known.name} takes {schema}. Nothing was done; call it again."


def shortened(text: str, limit: int = RESULT_CHARS) -> str:
    """Its beginning and its end, where the most telling parts of long outputs are."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"
