"""What happens to a model's calls: checked, run in the right order, and each answered exactly once."""

import asyncio
import json
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.calls import Call
from agent.policy import may, may_alone
from agent.protocol import Role, ToolState
from agent.toolbox import LABEL_CHARS, RESULT_CHARS, Result, Tool, Toolbox, ToolFailed, shortened, tool
from agent.tools import ALWAYS, IN_WORKSPACE, ON_THE_WEB

EVERY_TOOL = [*ALWAYS, *IN_WORKSPACE, *ON_THE_WEB]


class Desk:
    """Notes what is done, and holds tools until they are let go."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.running = 0
        self.most = 0
        self.go = asyncio.Event()

    async def work(self, name: str) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        self.done.append(f"begin {name}")
        await asyncio.sleep(0)
        self.done.append(f"end {name}")
        self.running -= 1
        return f"did {name}"


@tool("Looking at {name}", reads_only=True)
async def look(desk: Desk, name: str) -> str:
    """Look."""
    return await desk.work(name)


@tool("Writing {name}")
async def write(desk: Desk, name: str) -> str:
    """Write."""
    return await desk.work(name)


@tool("Adding up")
async def total(
    desk: Desk, numbers: Annotated[list[int], "to add"], names: dict[str, int] | None = None, text: str = ""
) -> str:
    """Add up."""
    return f"{sum(numbers)} {sorted(names or {})} {text}"


@tool("Waiting", reads_only=True, seconds=0.01)
async def wait(desk: Desk) -> str:
    """Wait for ever."""
    await desk.go.wait()
    return "never"


@tool("Holding")
async def hold(desk: Desk) -> str:
    """Wait until let go."""
    desk.done.append("holding")
    await desk.go.wait()
    return "held"


@tool("Breaking")
async def burst(desk: Desk) -> str:
    """Break."""
    raise RuntimeError("secret detail")


@tool("Refusing")
async def refuse(desk: Desk) -> str:
    """Refuse."""
    raise ToolFailed("Not on a Sunday.")


@tool("Talking", reads_only=True)
async def talk(desk: Desk) -> str:
    """Say much."""
    return "a" * 50_000 + "z"


TOOLS = [look, write, total, wait, hold, burst, refuse, talk]


@pytest.fixture
def desk():
    return Desk()


def called(name: str, arguments: object = None, id_: str = "1") -> Call:
    return Call(id_, name, arguments if isinstance(arguments, str) else json.dumps(arguments or {}))


async def answers(desk: Desk, *calls: Call, tools: list[Tool] = TOOLS) -> tuple[list[Result], list[Any]]:
    told: list[Any] = []
    results: dict[str, Result] = {}
    box = Toolbox(tools, desk, may=lambda _: True)
    await box.run(calls, results, lambda call, label, state: told.append((call.id, label, state)))
    return [results[call.id] for call in calls], told


async def answer(desk: Desk, name: str, arguments: object = None) -> Result:
    [result], _ = await answers(desk, called(name, arguments))
    return result


async def test_call_is_answered_and_the_person_told(desk):
    [result], told = await answers(desk, called("look", {"name": "soup.txt"}))
    assert result == Result("1", "did soup.txt")
    assert told == [("1", "Looking at soup.txt", ToolState.RUNNING), ("1", "Looking at soup.txt", ToolState.DONE)]


async def test_unknown_tool_is_answered_with_the_names_of_those_there_are(desk):
    result = await answer(desk, "looks")
    assert not result.ok
    assert "no tool 'looks'. There are: look, write, total," in result.text
    [nothing], _ = await answers(desk, called("look"), tools=[])
    assert nothing.text.endswith("There are: none.")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"name": "x"', "not valid JSON"),
        ("name=x", "not valid JSON"),
        ('{"name": NaN}', "not valid JSON (NaN is not a JSON value)"),
        ("[" * 100_000, "not valid JSON (it is nested too deeply)"),
        ('["x"]', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("", "name: Field required"),
        ("{}", "name: Field required"),
        ('{"name": 7}', "name: Input should be a valid string"),
        ('{"name": null}', "name: Input should be a valid string"),
        ('{"name": "\\ud83d"}', "not valid JSON (it holds half of a character)"),
        ('{"name": "x", "path": "y"}', "path: Extra inputs are not permitted"),
        ('{"Name": "x"}', "name: Field required; Name: Extra inputs are not permitted"),
    ],
)
async def test_wrong_arguments_are_answered_with_the_reason_and_the_schema_and_nothing_runs(desk, arguments, reason):
    [result], told = await answers(desk, called("look", arguments))
    assert not result.ok
    assert reason in result.text
    assert '"required":["name"]' in result.text
    assert result.text.endswith("Nothing was done; call it again.")
    assert desk.done == []
    assert [state for _, _, state in told] == [ToolState.RUNNING, ToolState.FAILED]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"numbers": [1, 2]}, "3 [] "),
        ({"numbers": "[1, 2]"}, "3 [] "),
        ({"numbers": ["1", 2]}, "3 [] "),
        ({"numbers": [], "names": {"a": 1}}, "0 ['a'] "),
        ({"numbers": [], "names": '{"a": 1}'}, "0 ['a'] "),
        ({"numbers": [], "names": None}, "0 [] "),
        ({"numbers": [], "text": None}, "0 [] "),
        ({"numbers": [], "text": "[1, 2]"}, "0 [] [1, 2]"),
        ({"numbers": [], "text": '{"a": 1}'}, '0 [] {"a": 1}'),
    ],
)
async def test_lists_and_objects_inside_strings_are_unwrapped_where_the_tool_wants_such_and_null_is_left_out(
    desk, arguments, text
):
    assert await answer(desk, "total", arguments) == Result("1", text)


@pytest.mark.parametrize("arguments", [{"numbers": "one, two"}, {"numbers": '"[1]"'}, {"numbers": [], "names": "[]"}])
async def test_string_that_holds_no_list_is_wrong(desk, arguments):
    assert "Input should be a valid" in (await answer(desk, "total", arguments)).text


async def test_reads_run_at_once_and_writes_alone_in_their_order(desk):
    names = ["look a", "look b", "write c", "write d", "look e", "look f"]
    calls = [called(each.split()[0], {"name": each}, each) for each in names]
    results, _ = await answers(desk, *calls)
    assert [result.text for result in results] == [f"did {name}" for name in names]
    assert desk.most == 2
    assert desk.done == [
        *("begin look a", "begin look b", "end look a", "end look b"),
        *("begin write c", "end write c", "begin write d", "end write d"),
        *("begin look e", "begin look f", "end look e", "end look f"),
    ]


async def test_tool_that_takes_too_long_is_stopped_and_the_others_are_not(desk):
    results, _ = await answers(desk, called("wait"), called("look", {"name": "x"}, "2"))
    assert results == [
        Result("1", "wait took too long and was stopped. Try something smaller.", ok=False),
        Result("2", "did x"),
    ]


async def test_tool_that_breaks_is_answered_without_its_exceptions_text_which_is_logged(desk, caplog):
    results, _ = await answers(desk, called("burst"), called("look", {"name": "x"}, "2"))
    assert results == [
        Result("1", "burst broke (RuntimeError). Try another way.", ok=False),
        Result("2", "did x"),
    ]
    assert "tool broke" in caplog.text


async def test_tool_that_cannot_says_why(desk):
    assert await answer(desk, "refuse") == Result("1", "Not on a Sunday.", ok=False)


async def test_long_result_keeps_its_beginning_and_its_end(desk):
    text = (await answer(desk, "talk")).text
    assert len(text) < RESULT_CHARS + 100
    assert text.startswith("aaa")
    assert text.endswith("z")
    assert "[… 34001 characters left out …]" in text
    assert shortened("short") == "short"


async def test_stopped_run_leaves_the_results_that_there_are(desk):
    results: dict[str, Result] = {}
    calls = [called("look", {"name": "a"}, "1"), called("hold", id_="2"), called("write", {"name": "b"}, "3")]
    box = Toolbox(TOOLS, desk, may=lambda _: True)
    running = asyncio.create_task(box.run(calls, results, lambda *_: None))
    while "holding" not in desk.done:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert list(results) == ["1"]
    assert "begin b" not in desk.done


async def test_tool_that_one_may_not_use_is_not_offered_and_does_not_run(desk):
    box = Toolbox(TOOLS, desk, may=lambda name: name != "write")
    results: dict[str, Result] = {}
    assert "write" not in [schema["function"]["name"] for schema in box.schemas()]
    await box.run([called("write", {"name": "x"})], results, lambda *_: None)
    assert results["1"].text.startswith("There is no tool 'write'.")
    assert desk.done == []


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        ({"name": "a\nb\t\u2028c"}, "Looking at a b c"),
        ({"name": "x" * 500}, ("Looking at " + "x" * 500)[:LABEL_CHARS]),
        ({"name": "{name.__class__}"}, "Looking at {name.__class__}"),
        ({}, "Looking at"),
        ("[1]", "Looking at"),
        ("{", "Looking at"),
        ("[" * 100_000, "Looking at"),
    ],
)
async def test_label_is_one_short_line_whatever_the_arguments(desk, arguments, label):
    _, told = await answers(desk, called("look", arguments))
    assert told[0] == ("1", label, ToolState.RUNNING)
    _, told = await answers(desk, called("nonsense", arguments))
    assert told[0][1] == "nonsense"


NAMES = st.sampled_from([each.name for each in TOOLS if each is not hold] + ["nonsense", ""])
WRITTEN = st.sampled_from(['{"name": "x"}', '{"numbers": "[1]"}', "{}", "", "{", "[]", "[" * 20_000]) | st.text()


@given(st.lists(st.tuples(NAMES, WRITTEN), max_size=5))
async def test_each_call_gets_exactly_one_result_whatever_happens(calls):
    made = [Call(f"c{number}", name, written) for number, (name, written) in enumerate(calls)]
    results, told = await answers(Desk(), *made)
    assert [result.call_id for result in results] == [call.id for call in made]
    assert all(result.text for result in results)
    for call in made:
        states = [state for id_, _, state in told if id_ == call.id]
        assert states[0] is ToolState.RUNNING
        assert len(states) == 2


def test_schema_is_what_the_api_wants():
    assert total.schema() == {
        "type": "function",
        "function": {
            "name": "total",
            "description": "Add up.",
            "parameters": {
                "type": "object",
                "additionalProperties": False,
                "required": ["numbers"],
                "properties": {
                    "numbers": {"type": "array", "items": {"type": "integer"}, "description": "to add"},
                    "names": {
                        "anyOf": [{"type": "object", "additionalProperties": {"type": "integer"}}, {"type": "null"}],
                        "default": None,
                    },
                    "text": {"type": "string", "default": ""},
                },
            },
        },
    }


@pytest.mark.parametrize("each", EVERY_TOOL, ids=lambda each: each.name)
def test_every_tool_is_described_to_the_model_and_to_people(each):
    function = each.schema()["function"]
    assert function["description"]
    assert all(parameter.get("description") for parameter in function["parameters"]["properties"].values())
    assert each.label.format_map(dict.fromkeys(function["parameters"]["properties"], "x"))
    assert not each.label.startswith("{")


def test_who_may_use_what():
    visitors = {each.name for each in EVERY_TOOL if may(Role.VISITOR, each.name)}
    assert {each.name for each in EVERY_TOOL if may(Role.OWNER, each.name)} - visitors == {"shell", "delegate"}
    assert may(Role.OWNER, "remind")
    assert not any(may_alone(Role.OWNER, name) for name in ("ask", "delegate", "remind", "send_file"))
    assert not may_alone(Role.VISITOR, "shell")
    assert may_alone(Role.OWNER, "shell")
    assert not may(Role.VISITOR, "a tool that is made tomorrow")
