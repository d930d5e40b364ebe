"""Tool calls, put together from streams as servers really write them."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.calls import Call, Calls, replayable
from agent.errors import ModelFailed
from agent.llm import Completion, _Reading
from agent.protocol import ErrorKind

WEATHER = '{"city": "Łódź", "days": 3}'


def piece(**fields: Any) -> dict[str, Any]:
    """One element of `tool_calls`: name and arguments belong into its function."""
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return fields | {"function": function}


def collected(*pieces: dict[str, Any]) -> list[Call]:
    calls = Calls()
    for each in pieces:
        calls.feed(each)
    return calls.finish()


# The rules


def test_pieces_with_one_index_are_one_call():
    assert collected(
        piece(index=0, id="a", name="weather", arguments=""),
        piece(index=0, arguments=WEATHER[:9]),
        piece(index=0, arguments=WEATHER[9:]),
    ) == [Call("a", "weather", WEATHER)]


def test_calls_keep_their_order_and_their_pieces_may_mix():
    assert collected(
        piece(index=3, id="a", name="f", arguments='{"x"'),
        piece(index=1, id="b", name="g", arguments='{"y"'),
        piece(index=3, arguments=":1}"),
        piece(index=1, arguments=":2}"),
    ) == [Call("a", "f", '{"x":1}'), Call("b", "g", '{"y":2}')]


def test_pieces_without_an_index_belong_to_the_call_of_their_id_or_to_the_last_one():
    assert collected(
        piece(id="a", name="f", arguments='{"x"'),
        piece(arguments=":"),
        piece(id="b", name="g", arguments="{"),
        piece(id="a", arguments="1}"),
        piece(index=None, arguments="}"),
    ) == [Call("a", "f", '{"x":1}'), Call("b", "g", "{}")]


def test_another_id_at_the_same_index_is_another_call():
    assert collected(
        piece(index=0, id="a", name="f", arguments='{"x":1}'), piece(index=0, id="b", name="g", arguments='{"y":2}')
    ) == [Call("a", "f", '{"x":1}'), Call("b", "g", '{"y":2}')]


def test_id_and_name_on_every_piece_are_taken_once():
    assert collected(
        piece(index=0, id="a", name="f", arguments='{"x"'), piece(index=0, id="a", name="f", arguments=":1}")
    ) == [Call("a", "f", '{"x":1}')]


@pytest.mark.parametrize("late", ["a", None, ""])
def test_id_that_comes_late_or_never_is_no_other_call(late):
    [call] = collected(piece(index=0, name="f", arguments="{"), piece(index=0, id=late, arguments="}"))
    assert call == Call(late or "call_0", "f", "{}")


@pytest.mark.parametrize("index", [{"index": 0}, {}, {"index": None}, {"index": "0"}, {"index": True}, {"index": 0.0}])
@pytest.mark.parametrize("id_", [{}, {"id": ""}, {"id": None}])
def test_whole_calls_without_ids_are_told_apart_by_their_names(index, id_):
    assert collected(
        piece(name="f", arguments='{"x":1}', **index, **id_),
        piece(name="f", arguments='{"x":2}', **index, **id_),
        piece(name="g", arguments="", **index, **id_),
        piece(name="h", arguments=None, **index, **id_),
    ) == [
        Call("call_0", "f", '{"x":1}'),
        Call("call_1", "f", '{"x":2}'),
        Call("call_2", "g", ""),
        Call("call_3", "h", ""),
    ]


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ({"x": 1}, '{"x": 1}'),
        ({}, "{}"),
        (None, ""),
        ("", ""),
        ([1], "[1]"),
        (7, "7"),
        ('"{\\"x\\":1}"', '"{\\"x\\":1}"'),
    ],
)
def test_arguments_come_as_text_as_an_object_or_not_at_all(arguments, read):
    assert collected(piece(index=0, id="a", name="f", arguments=arguments)) == [Call("a", "f", read)]


def test_missing_and_doubled_ids_become_the_same_new_ones_every_time():
    pieces = [
        piece(index=number, id=id_, name="f", arguments="{}") for number, id_ in enumerate(["a", "", "a", "call_3", ""])
    ]
    ids = [call.id for call in collected(*pieces)]
    assert ids == ["a", "call_0", "call_1", "call_3", "call_2"]
    assert [call.id for call in collected(*pieces)] == ids


def test_ids_that_the_history_has_are_not_given_again():
    calls = Calls()
    for number, id_ in enumerate(["a", "", "call_2", ""]):
        calls.feed(piece(index=number, id=id_, name="f"))
    assert [call.id for call in calls.finish({"a", "call_0"})] == ["call_3", "call_4", "call_2", "call_5"]


@pytest.mark.parametrize(
    "odd", [{}, {"index": 0}, {"function": None}, {"function": "f"}, {"index": 0, "id": 7, "function": {"name": None}}]
)
def test_piece_that_says_nothing_is_no_call(odd):
    assert collected(odd) == []
    assert collected(odd, piece(index=0, id="a", name="f", arguments="{}")) == [Call("a", "f", "{}")]


def test_halves_of_a_character_in_two_pieces_are_joined_and_a_lone_one_is_replaced():
    assert collected(
        piece(index=0, id="a", name="f", arguments='{"x":"\ud83d'), piece(index=0, arguments='\ude00 \ud83d"}')
    ) == [Call("a", "f", '{"x":"😀 �"}')]


# Any cutting


TEXTS = st.dictionaries(
    st.sampled_from(["city", "days", 'a"b', "ключ"]), st.text() | st.integers() | st.lists(st.booleans()), max_size=3
)
ANY_CALLS = st.lists(
    st.tuples(st.sampled_from(["f", "g"]), TEXTS.map(json.dumps), st.lists(st.integers(0, 80), max_size=4)),
    min_size=1,
    max_size=4,
)
STYLES = st.sampled_from(["index and id once", "index and id always", "index alone", "id alone", "id once"])


def streamed(style: str, calls: list[tuple[str, str, list[int]]]) -> list[dict[str, Any]]:
    """The calls as a server of that style cuts them."""
    pieces = []
    for number, (name, arguments, cuts) in enumerate(calls):
        edges = [0, *sorted(min(cut, len(arguments)) for cut in cuts), len(arguments)]
        for place, (start, end) in enumerate(pairwise(edges)):
            head: dict[str, Any] = {"index": number} if "index" in style else {}
            if "always" in style or style == "id alone" or ("once" in style and place == 0):
                head["id"] = f"id{number}"
            if place == 0 or "always" in style:
                head["name"] = name
            pieces.append(piece(arguments=arguments[start:end], **head))
    return pieces


@given(STYLES, ANY_CALLS)
def test_calls_are_the_same_however_they_are_cut(style, calls):
    found = collected(*streamed(style, calls))
    assert [(call.name, call.arguments) for call in found] == [(name, arguments) for name, arguments, _ in calls]
    assert len({call.id for call in found}) == len(calls)


@given(st.lists(st.dictionaries(st.sampled_from(["index", "id", "function"]), st.none() | st.integers() | st.text())))
def test_no_piece_is_odd_enough_to_break_the_turn(pieces):
    found = collected(*pieces)
    assert len({call.id for call in found}) == len(found)


# What may stand in a history


@pytest.mark.parametrize("arguments", [WEATHER, "{}", ' {"x": null}\n', '{"x": "\\ud83d\\ude00"}', '{"x": 1, "x": 2}'])
def test_good_arguments_are_kept_to_the_byte(arguments):
    assert replayable(Call("a", "f", arguments)) == Call("a", "f", arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        " ",
        "{",
        '{"x": 1}{"y": 2}',
        "[1]",
        "null",
        '"text"',
        "{'x': 1}",
        '{"x": NaN}',
        '{"x": -Infinity}',
        '{"x": "\\ud83d"}',
        '{"\\ude00": 1}',
        '{"x": ' + "[" * 100_000,
        '{"x": ' + "9" * 5_000 + "}",
        '{"x": "a\nb"}',
    ],
)
def test_arguments_that_a_server_cannot_read_are_not_replayed(arguments):
    assert replayable(Call("a", "f", arguments)) == Call("a", "f", "{}")


@pytest.mark.parametrize(("name", "kept"), [("a b.c:0", "a_b_c_0"), ("f" * 100, "f" * 64), ("погода", "______")])
def test_name_that_a_server_would_refuse_is_changed(name, kept):
    assert replayable(Call("a", name, "{}")).name == kept


# Whole streams


def chunk(delta: object = None, finish: str | None = None, **fields: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]} | fields


def calling(*pieces: dict[str, Any]) -> dict[str, Any]:
    return chunk({"tool_calls": list(pieces)})


def read(*documents: dict[str, Any] | str) -> tuple[str, Completion]:
    said: list[str] = []
    reading = _Reading(said.append)
    for document in documents:
        line = document if isinstance(document, str) else f"data: {json.dumps(document)}"
        reading.feed(f"{line}\n\n".encode())
    return "".join(said), reading.end()


A = piece(index=0, id="a", type="function", name="f", arguments='{"x":1}')
B = piece(index=1, id="b", type="function", name="g", arguments='{"y":2}')
ONE, TWO = [Call("a", "f", '{"x":1}')], [Call("a", "f", '{"x":1}'), Call("b", "g", '{"y":2}')]
END, DONE = chunk({}, "tool_calls"), "data: [DONE]"


@pytest.mark.parametrize(
    ("stream", "calls"),
    [
        ([calling(A), END, DONE], ONE),
        ([calling(A), END], ONE),
        ([calling({name: value for name, value in A.items() if name != "index"}), END, DONE], ONE),
        ([calling(A | {"index": 1}), END, DONE], ONE),
        ([calling(A | {"index": None}), calling(B | {"index": None}), END, DONE], TWO),
        ([calling(A | {"type": None}), END, DONE], ONE),
        ([{"choices": None}, calling(A), END, DONE], ONE),
        ([{"choices": []}, calling(A), END, {"choices": [], "usage": {"prompt_tokens": 1}}, DONE], ONE),
        ([{}, calling(A), END, DONE], ONE),
        ([chunk(None), calling(A), END, DONE], ONE),
        ([calling(A), chunk(None, "tool_calls"), DONE], ONE),
        ([chunk({"tool_calls": None}), calling(A), END, DONE], ONE),
        ([chunk({"tool_calls": []}), calling(A), END, DONE], ONE),
        ([chunk({"tool_calls": A}), calling(A), END, DONE], ONE),
        ([calling(A, B), END, DONE], TWO),
        ([calling(A), calling(B | {"index": 0}), END, DONE], TWO),
        ([calling(A | {"id": ""}), calling(B | {"id": "", "index": 0}), END, DONE],
         [Call("call_0", "f", '{"x":1}'), Call("call_1", "g", '{"y":2}')]),
        ([calling(piece(index=0, id="a", name="f", arguments='{"x"')),
          calling(piece(index=0, id="a", name="f", arguments=":1}")), END, DONE], ONE),
        ([calling(A), chunk({}, "stop"), DONE], ONE),
        ([calling(A), chunk({}, "length"), DONE], ONE),
        ([calling(piece(index=0, id="a", name="f", arguments={"x": 1})), END, DONE], [Call("a", "f", '{"x": 1}')]),
        ([calling(piece(index=0, id="a", name="f", arguments=None)), END, DONE], [Call("a", "f", "")]),
        ([calling(A | {"id": None}), END, DONE], [Call("call_0", "f", '{"x":1}')]),
        ([calling(A), END, chunk({"content": "after the end"}), DONE], ONE),
        ([calling(A), END, calling(B), DONE], TWO),
        ([chunk({}, "tool_calls"), DONE], []),
        ([{"choices": [{"message": {"content": None, "tool_calls": [A, B]}, "finish_reason": "tool_calls"}]}], TWO),
        ([json.dumps({"choices": [{"message": {"tool_calls": [A]}, "finish_reason": "tool_calls"}]})], ONE),
        ([chunk({"reasoning_content": "I call f"}), calling(A), END, DONE], ONE),
        ([{"choices": [{"delta": {"tool_calls": [A]}, "finish_reason": "tool_calls"}]}], ONE),
    ],
)  # fmt: skip
def test_calls_are_read_from_malformed_streams(stream, calls):
    assert read(*stream)[1].calls == calls


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        ([calling(A)], ErrorKind.UNREACHABLE),
        ([calling(A), DONE], ErrorKind.UNREACHABLE),
        ([DONE], ErrorKind.UNREACHABLE),
        ([], ErrorKind.BAD_REPLY),
        ([calling(A), {"detail": "All servers unavailable"}, END], ErrorKind.UNREACHABLE),
        ([calling(A), {"error": {"message": "boom"}}, END], ErrorKind.UNREACHABLE),
        ([calling(A), {"error": {"message": "busy", "code": 429}}, END], ErrorKind.BUSY),
        ([calling(A), "data: {not json", END], ErrorKind.BAD_REPLY),
        ([calling(A), "data: [1]", END], ErrorKind.BAD_REPLY),
        (["<html>hello</html>"], ErrorKind.BAD_REPLY),
    ],
)
def test_stream_that_breaks_off_calls_nothing(stream, kind):
    with pytest.raises(ModelFailed) as failure:
        read(*stream)
    assert failure.value.kind is kind
