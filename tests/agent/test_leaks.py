"""Tool calls that leak into an answer's text, wherever the stream is cut."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.leaks import Leaks

PARAMETERS = {
    "type": "object",
    "properties": {"query": {"type": "string"}, "count": {"type": "integer"}, "path": {"anyOf": [{"type": "string"}]}},
}
SEARCH = {"type": "function", "function": {"name": "web_search", "description": "…", "parameters": PARAMETERS}}
SOUP = ("web_search", {"query": "soup"})
JSON = '{"name": "web_search", "arguments": {"query": "soup"}}'


def read(pieces: list[str], tools: Any = (SEARCH,)) -> tuple[str, list[tuple[str, Any]], bool]:
    leaks = Leaks(tools)
    text = "".join([leaks.feed(piece) for piece in pieces] + [leaks.rest()])
    return text, [(name, json.loads(arguments)) for name, arguments in leaks.calls], leaks.spoilt


CALLS = {
    f"<tool_call>\n{JSON}\n</tool_call>": ("", [SOUP]),
    f"Let me look.\n<tool_call>{JSON}</tool_call>\n": ("Let me look.\n\n", [SOUP]),
    f"<tool_call>{JSON}</tool_call><tool_call>{JSON}</tool_call>": ("", [SOUP, SOUP]),
    f"<tool_call>{JSON}": ("", [SOUP]),
    f"<tool_call>[{JSON}, {JSON}]</tool_call>": ("", [SOUP, SOUP]),
    "<tool_call>\n<function=web_search>\n<parameter=query>\nsoup\n</parameter>\n</function>\n</tool_call>": (
        "",
        [SOUP],
    ),
    "<function=web_search>\n<parameter=query>\n7\n</parameter>\n<parameter=count>\n7\n</parameter>\n</function> ok": (
        " ok",
        [("web_search", {"query": "7", "count": 7})],
    ),
    '<function=web_search>{"query": "soup"}</function>': ("", [SOUP]),
    "<tool_call>web_search\n<arg_key>query</arg_key>\n<arg_value>soup</arg_value>\n</tool_call>": ("", [SOUP]),
    "<tool_call>list_files</tool_call>": ("", [("list_files", {})]),
    '<|python_tag|>{"name": "web_search", "parameters": {"query": "soup"}}': ("", [SOUP]),
    f"<|python_tag|>{JSON}; {JSON}<|eom_id|>": ("", [SOUP, SOUP]),
    f"[TOOL_CALLS][{JSON}]": ("", [SOUP]),
    'Well. [TOOL_CALLS]web_search{"query": "soup"}': ("Well. ", [SOUP]),
    '[TOOL_CALLS]web_search[ARGS]{"query": "soup"}[TOOL_CALLS]web_search{"query": "soup"}': ("", [SOUP, SOUP]),
    f"```json\n{JSON}\n```": ("", [SOUP]),
    f"\n```\n{JSON}\n```\n": ("", [SOUP]),
    f"  {JSON}\n": ("", [SOUP]),
    '{"name": "web_search", "arguments": "{\\"query\\": \\"soup\\"}"}': ("", [SOUP]),
}
SPOILT = {
    "<tool_call>": "",
    '<tool_call>{"name": "web_sea': "",
    "<tool_call>search for soup, please</tool_call>Well.": "Well.",
    "<function=web_search>soup</function>": "",
    "a <function=": "a ",
    "<|python_tag|>print(1)": "",
    '[TOOL_CALLS]web_search{"query": ': "",
    "[TOOL_CALLS][]": "",
    '<tool_call>{"arguments": {}}</tool_call>': "",
    "<tool_call>" + "[" * 50_000: "",
}
UNTOUCHED = [
    "",
    "a < b, x[TOOL] and <tool_cal",
    "Vec<function>",
    "use `<tool_call>` and ``<function=x>`` for that",
    f"So it looks:\n```xml\n<tool_call>{JSON}</tool_call>\n```\nThat is all.",
    f"````md\n```\n<tool_call>{JSON}</tool_call>\n```\n````\nDone.",
    f"Like this:\n```json\n{JSON}\n```",
    f"```json\n{JSON}\n```\nThat is what I would send.",
    '```json\n{"name": "soup", "arguments": {}}\n```',
    '```json\n{"name": "web_searching", "arguments": {}}\n```',
    '{"name": "web_search", "arguments": {}} is how it looks',
    '{"name": "web',
    '{"recipe": "soup"}',
    "```python\nprint(1)\n```",
    "``",
    "`code` text",
    "{",
]


@pytest.mark.parametrize("text", CALLS)
def test_well_formed_leak_is_a_call(text):
    assert read([text]) == (*CALLS[text], False)


@pytest.mark.parametrize("text", SPOILT)
def test_malformed_leak_is_hidden_and_told(text):
    assert read([text]) == (SPOILT[text], [], True)


@pytest.mark.parametrize("text", UNTOUCHED)
def test_ordinary_text_and_code_pass_untouched(text):
    assert read([text]) == (text, [], False)


def test_closing_tag_alone_is_hidden():
    assert read(["Well.</tool_call>"]) == ("Well.", [], False)


def test_where_no_tools_are_offered_a_leak_is_hidden_and_no_call():
    assert read([f"Well. <tool_call>{JSON}</tool_call>"], tools=()) == ("Well. ", [], True)
    assert read([JSON], tools=()) == (JSON, [], False)


@given(text=st.sampled_from([*CALLS, *UNTOUCHED, *list(SPOILT)[:-1]]), cuts=st.sets(st.integers(1, 120)))
def test_the_same_is_found_wherever_the_text_is_cut(text, cuts):
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    assert read([text[start:end] for start, end in pairwise(edges)]) == read([text])


@given(st.text('`<[{}]\n/>|=tool_callfunction "name:', max_size=60))
def test_nothing_is_odd_enough_to_break_the_answer(text):
    shown, _, spoilt = read(list(text))
    assert (shown, spoilt) == (read([text])[0], read([text])[2])


def test_only_what_may_be_a_marker_is_held_back():
    leaks = Leaks([SEARCH])
    assert leaks.feed("a <") == "a "
    assert leaks.feed("b") == "<b"
    assert leaks.feed(" [TOOL") == " "
    assert leaks.feed("S]") == "[TOOLS]"
