"""Thoughts that leak into an answer, wherever the stream is cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.thinking import Visible


def shown(pieces: list[str]) -> str:
    visible = Visible()
    return "".join([visible.feed(piece) for piece in pieces] + [visible.rest()])


CASES = {
    "plain": "plain",
    "<think>hm</think>\n\nanswer": "answer",
    "\n\n  answer": "answer",
    "before<think>hm</think>after": "beforeafter",
    "a<think>x</think>b<think>y</think>c": "abc",
    "<think>never closed": "",
    "lost</think>answer": "lostanswer",
    "a < b, <thin> and <b>": "a < b, <thin> and <b>",
    "ends with <thi": "ends with <thi",
    "<<think>x</think>>": "<>",
    "Vec<T> <think>T</think>": "Vec<T> ",
    "a\ud83d\ude00b": "a😀b",
    "a\ud83d": "a�",
    "": "",
}


@pytest.mark.parametrize("text", CASES)
def test_thoughts_are_hidden(text):
    assert shown([text]) == CASES[text]


@given(text=st.sampled_from(list(CASES)), cuts=st.sets(st.integers(1, 40)))
def test_the_same_is_shown_wherever_the_text_is_cut(text, cuts):
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    assert shown([text[start:end] for start, end in pairwise(edges)]) == CASES[text]
