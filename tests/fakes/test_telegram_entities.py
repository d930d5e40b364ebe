"""Markup is read as Telegram reads it, in UTF-16 units."""

import pytest

from tests.fakes.telegram_entities import Formatted, parse_html, read_text, user_text, utf16_length
from tests.fakes.telegram_refusals import Refused
from tests.fakes.telegram_wire import Entity


def span(kind: str, offset: int, length: int, **more: str) -> Entity:
    return Entity.model_validate({"type": kind, "offset": offset, "length": length, **more})


@pytest.mark.parametrize(
    ("source", "text", "spans"),
    [
        ("plain &lt;b&gt; &amp; &quot;x&quot; &copy; &#128512;", 'plain <b> & "x" &copy; 😀', []),
        ("😀<b>bold</b>", "😀bold", [span("bold", 2, 4)]),
        ("<b>a<i>b</i></b>", "ab", [span("bold", 0, 2), span("italic", 1, 1)]),
        ("<u>u</u><s>s</s><tg-spoiler>p</tg-spoiler>", "usp",
         [span("underline", 0, 1), span("strikethrough", 1, 1), span("spoiler", 2, 1)]),
        ('<span class="tg-spoiler">p</span>', "p", [span("spoiler", 0, 1)]),
        ('<pre><code class="language-python">x = 1</code></pre>', "x = 1", [span("pre", 0, 5, language="python")]),
        ("<pre>x</pre><code>y</code>", "xy", [span("pre", 0, 1), span("code", 1, 1)]),
        ("<blockquote expandable>q</blockquote>", "q", [span("expandable_blockquote", 0, 1)]),
        ("<blockquote>q</blockquote>", "q", [span("blockquote", 0, 1)]),
        ('<a href="https://x.example/?a=1&amp;b=2">x</a>', "x",
         [span("text_link", 0, 1, url="https://x.example/?a=1&b=2")]),
        ("<b></b>x", "x", []),
        (" \n <b>x</b> y \n", "x y", [span("bold", 0, 1)]),
    ],
)  # fmt: skip
def test_html_becomes_text_and_spans(source: str, text: str, spans: list[Entity]):
    assert read_text(source, "HTML", None) == Formatted(text, tuple(spans))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("Vec<T>", 'Unsupported start tag "t" at byte offset 3'),
        ("é<think>x</think>", 'Unsupported start tag "think" at byte offset 2'),
        ("a < b", 'Unsupported start tag "" at byte offset 2'),
        ("<b>x", 'Can\'t find end tag corresponding to start tag "b"'),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("<b>x</i>", 'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"'),
        ("<b", "Unclosed start tag at byte offset 0"),
        ("<b>x</b", "Unclosed end tag at byte offset 4"),
        ("<span>x</span>", 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
    ],
)
def test_broken_html_is_refused_with_its_place(source: str, reason: str):
    with pytest.raises(Refused) as caught:
        parse_html(source)
    assert caught.value.description == f"Bad Request: can't parse entities: {reason}"


def test_commands_links_and_mentions_are_found_in_utf16_units():
    found = user_text("/start 😀 see t.me/x_bot?start=a, /help@x_bot @someone a/b not@a.bot,ok https://x.example/a.")
    assert [(span.type, span.offset, span.length) for span in found.entities] == [
        ("bot_command", 0, 6),
        ("url", 14, 18),
        ("bot_command", 34, 11),
        ("mention", 46, 8),
        ("email", 59, 9),
        ("url", 72, 19),
    ]


def test_nothing_is_found_inside_code():
    text = read_text("<code>/start https://x.example</code>", "HTML", None)
    assert [span.type for span in text.entities if span.type in {"url", "text_link"}] == []


def test_spans_over_100_are_dropped():
    spans = [span("bold", at, 1) for at in range(0, 300, 2)]
    assert len(read_text("x " * 150, "", spans).entities) == 100


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(Refused, match="strings must be encoded in UTF-8"):
        utf16_length("\ud83d")
