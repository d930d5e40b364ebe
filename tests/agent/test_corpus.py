"""The Berkeley corpus of tool calls: each is streamed in pieces, put together, checked, and comes out as it went in."""

import ast
import importlib.util
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import ConfigDict, Field, create_model

from agent.calls import Call, Calls, replayable
from agent.toolbox import Tool, ToolFailed, _arguments

FILES = (
    *("simple_python", "simple_java", "simple_javascript", "multiple", "parallel", "parallel_multiple"),
    *("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple"),
)
TALKS = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context")
CASES = 3_301
KINDS: dict[str, Any] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list[Any],
    "tuple": list[Any],
    "dict": dict[str, Any],
}


def corpus() -> Path:
    found = importlib.util.find_spec("bfcl_eval")  # not imported: it needs half of PyPI
    if found is None or not found.submodule_search_locations:
        if os.environ.get("CI") == "true":
            pytest.fail("bfcl-eval is not installed: `make env` does that")
        pytest.skip("bfcl-eval is not installed: `make env` does that")
    return Path(found.submodule_search_locations[0]) / "data"


@dataclass(frozen=True)
class Wanted:
    """A call of the corpus and the tool it is for."""

    tool: Tool
    arguments: dict[str, Any]


async def nothing(_: object) -> str:
    return ""


def as_tool(function: dict[str, Any], arguments: dict[str, Any]) -> Tool:
    """A tool as it would be declared, less strict where the corpus' own answer does not keep to its declaration.

    Parameters have names of our own, because some of theirs are pydantic's.
    """
    required = set(function["parameters"].get("required", [])) & arguments.keys()
    fields: dict[str, Any] = {}
    for number, (name, schema) in enumerate(function["parameters"]["properties"].items()):
        kind = KINDS.get(schema["type"], Any)
        kind = kind if fits(kind, arguments.get(name)) else Any
        fields[f"p{number}"] = (kind, Field(... if name in required else None, alias=name))
    parameters = create_model("arguments", __config__=ConfigDict(extra="forbid"), **fields)
    return Tool(function["name"], function["description"], parameters, nothing, "", reads_only=True, seconds=1)


def fits(kind: Any, value: Any) -> bool:
    return value is None or kind is Any or type(value) is getattr(kind, "__origin__", kind)


def lines(path: Path) -> Iterator[Any]:
    return map(json.loads, path.read_text().splitlines())


def one_of(alternatives: Any) -> Any:
    """The first answer that counts as right, all the way down; "" stands for leaving it out."""
    if not isinstance(alternatives, dict):
        return alternatives
    firsts = {name: each[0] if each and isinstance(each, list) else each for name, each in alternatives.items()}
    return {name: one_of(first) for name, first in firsts.items() if first != ""}


@cache
def wanted(name: str) -> list[list[Wanted]]:
    """The calls of each case of a file."""
    cases = []
    data = corpus()
    for case, answer in zip(
        lines(data / f"BFCL_v4_{name}.json"), lines(data / f"possible_answer/BFCL_v4_{name}.json"), strict=True
    ):
        functions = {function["name"]: function for function in case["function"]}
        answers = [(tool, one_of(given)) for each in answer["ground_truth"] for tool, given in each.items()]
        cases.append([_wanted(functions[tool], given) for tool, given in answers])
    return cases


def _wanted(function: dict[str, Any], given: dict[str, Any]) -> Wanted:
    declared = function["parameters"]["properties"]  # a few answers have arguments that are not
    arguments = {name: value for name, value in given.items() if name in declared}
    return Wanted(as_tool(function, arguments), arguments)


def streamed(calls: list[tuple[str, dict[str, Any]]], chance: random.Random) -> list[Call]:
    """Put the calls together from pieces as vLLM, or a server without indices or ids, sends them."""
    collector = Calls()
    head = chance.choice([("index", "id"), ("index",), ("id",)])
    for number, (name, arguments) in enumerate(calls):
        known = {key: value for key, value in {"index": number, "id": f"id{number}"}.items() if key in head}
        collector.feed(known | {"function": {"name": name, "arguments": ""}})
        text = json.dumps(arguments, ensure_ascii=chance.random() < 0.5)
        while text:
            cut = chance.randint(1, 20)
            collector.feed(known | {"function": {"arguments": text[:cut]}})
            text = text[cut:]
    return collector.finish()


def checked(tool: Tool, arguments: str) -> dict[str, Any]:
    """What the tool would be run with, under the corpus' names, without what was not given."""
    values = _arguments(tool, arguments)
    names = {field: info.alias for field, info in tool.parameters.model_fields.items()}
    given = json.loads(arguments)
    return {str(names[field]): value for field, value in values.items() if names[field] in given}


@pytest.mark.parametrize("name", FILES)
def test_every_call_comes_out_as_it_went_in(name):
    chance = random.Random(name)  # noqa: S311 - the same pieces in every run
    for calls in wanted(name):
        found = streamed([(each.tool.name, each.arguments) for each in calls], chance)
        assert [call.name for call in found] == [each.tool.name for each in calls]
        for call, each in zip(found, calls, strict=True):
            assert json.loads(replayable(call).arguments) == each.arguments
            assert checked(each.tool, call.arguments) == each.arguments


@pytest.mark.parametrize("name", FILES)
def test_call_without_what_the_tool_needs_is_told_what_that_is(name):
    for calls in wanted(name):
        for each in calls:
            needed = [info.alias for info in each.tool.parameters.model_fields.values() if info.is_required()]
            for missing in needed:
                rest = {key: value for key, value in each.arguments.items() if key != missing}
                with pytest.raises(ToolFailed, match="Field required") as failure:
                    _arguments(each.tool, json.dumps(rest))
                assert f"{missing}: " in str(failure.value)


@pytest.mark.parametrize("name", FILES)
def test_lists_and_objects_in_strings_are_unwrapped(name):
    for calls in wanted(name):
        for each in calls:
            schemas = each.tool.schema()["function"]["parameters"]["properties"]
            nested = {key for key in each.arguments if schemas[key].get("type") in ("array", "object")}
            doubled = {key: json.dumps(value) if key in nested else value for key, value in each.arguments.items()}
            assert checked(each.tool, json.dumps(doubled)) == each.arguments


def written(call: str) -> tuple[str, dict[str, Any]]:
    """A call of the talks, which are written in Python."""
    node = ast.parse(call, mode="eval").body
    assert isinstance(node, ast.Call)
    arguments = {f"argument{number}": ast.literal_eval(each) for number, each in enumerate(node.args)}
    return ast.unparse(node.func), arguments | {str(each.arg): ast.literal_eval(each.value) for each in node.keywords}


@pytest.mark.parametrize("name", TALKS)
def test_calls_of_whole_talks_are_put_together(name):
    chance = random.Random(name)  # noqa: S311 - the same pieces in every run
    for case in lines(corpus() / f"possible_answer/BFCL_v4_{name}.json"):
        for turn in case["ground_truth"]:
            calls = [written(call) for call in turn]
            found = [(call.name, json.loads(replayable(call).arguments)) for call in streamed(calls, chance)]
            assert found == calls


def test_corpus_is_all_there():
    cases = sum(len(wanted(name)) for name in FILES)
    talks = sum(1 for name in TALKS for _ in lines(corpus() / f"possible_answer/BFCL_v4_{name}.json"))
    assert cases + talks == CASES
