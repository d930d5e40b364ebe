"""Whatever an agent writes becomes messages that Telegram takes: both limits, whole characters, nothing lost."""

import re
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from telegram import MessageEntity

from bot.telegram.render import Chunk, plain, render, stack, utf16_length

FAMILY = "👨‍👩‍👧‍👦"
FLAG = "🇺🇦"

NASTY = [
    "- a\n  - b\n    - c\n\n1. Do:\n   ```sh\n   rm -rf\n   ```\n2. Done",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "```python\nprint(1)",
    "text `open",
    r"\[ \frac{a}{b} \] and \( x^2 \) costs $5 and $6",
    f"{FAMILY} **{FAMILY}** {FLAG}{FLAG}",
    "שלום **עולם** `קוד`",
    "<b>x</b> <div>\n```\n<p>\n```\n</div> <think>why</think> Vec<T> a<b",
    "~~~~\n```\n~~~\n~~~~\n````md\n```\n````",
    "[x]: http://a.b\n\n[x] [^1]\n\n[^1]: note",
    "a\0b\u202ec\u2066d",
    "[`code`](https://a.b) **bold `code` bold** # `h`",
    "[a](javascript:alert(1)) [b](http://[) [c](#d) <https://e.f>",
    "a || b || c ||",
    "> a\n> > b\n> > > c `d`",
    "***a** b* ~~c **d~~ e**",
    "![x](http://a.b/c.png) # H\n## **H2**\n- [ ] open\n- [x] done",
    "\ud83d",
    "&lt;b&gt; &amp; &#0; \\* \\<",
    "﷽" * 50 + "e" + "\u0301" * 50,
]

markdown = st.lists(
    st.sampled_from(
        [
            *NASTY,
            *"*_`~|<>[]()#-+!\\$:\n ",
            "**",
            "```",
            "\n\n",
            "    ",
            "1. ",
            "> ",
            "||",
            "<T>",
            FAMILY,
            FLAG,
            "word",
            "é",
            "\u0301",
        ]
    ),
    max_size=40,
).map("".join)


def _units(text: str) -> list[bytes]:
    raw = text.encode("utf-16-le")
    return [raw[i : i + 2] for i in range(0, len(raw), 2)]


def _is_low_half(unit: bytes) -> bool:
    return 0xDC <= unit[1] <= 0xDF


def _faults(chunk: Chunk, *, units: int = 4096, entities: int = 100) -> list[str]:
    """Name everything for which Telegram would refuse or mangle the message."""
    text = _units(chunk.text)
    faults = []
    if not chunk.text.strip():
        faults.append("empty")
    if len(text) > units or len(chunk.entities) > entities:
        faults.append(f"{len(text)} units, {len(chunk.entities)} entities")
    for entity in chunk.entities:
        end = entity.offset + entity.length
        if entity.length <= 0 or entity.offset < 0 or end > len(text):
            faults.append(f"out of bounds: {entity}")
        elif _is_low_half(text[entity.offset]) or (end < len(text) and _is_low_half(text[end])):
            faults.append(f"cuts a surrogate pair: {entity}")
    return faults + _overlaps(chunk.entities)


def _overlaps(entities: list[MessageEntity]) -> list[str]:
    return [
        f"{one.type} at {one.offset} overlaps {other.type} at {other.offset}"
        for index, one in enumerate(entities)
        for other in entities[index + 1 :]
        if other.offset < one.offset + one.length and not _may_share(one, other)
    ]


def _may_share(outer: MessageEntity, inner: MessageEntity) -> bool:
    if outer.type == inner.type:
        return False
    is_nested = inner.offset + inner.length <= outer.offset + outer.length
    has_code = {"code", "pre"} & {outer.type, inner.type}
    return is_nested and (not has_code or outer.type == "blockquote" or inner.type == "blockquote")


def _marked(chunk: Chunk, kind: str) -> list[str]:
    return [chunk.text[e.offset : e.offset + e.length] for e in chunk.entities if e.type == kind]


@given(text=st.one_of(markdown, st.text(max_size=300), st.text(alphabet=st.characters(), max_size=100)))
@settings(max_examples=400)
@example("\ud800")
@example("||" * 10)
def test_any_text_becomes_chunks_that_telegram_takes(text):
    assert [fault for chunk in render(text) for fault in _faults(chunk)] == []


@given(text=markdown, units=st.integers(20, 200), entities=st.integers(1, 10))
@settings(max_examples=300)
def test_any_text_keeps_within_lower_limits_too(text, units, entities):
    chunks = render(text, units=units, entities=entities)

    assert [fault for chunk in chunks for fault in _faults(chunk, units=units, entities=entities)] == []


@given(
    words=st.lists(st.text(string.ascii_letters + "éшא中" + "😀", min_size=1, max_size=60), min_size=1, max_size=200)
)
@settings(max_examples=100)
def test_no_word_of_plain_text_is_lost(words):
    chunks = render(" ".join(words), units=100)

    assert re.sub(r"\s", "", "".join(chunk.text for chunk in chunks)) == "".join(words)


@pytest.mark.parametrize("text", NASTY)
def test_every_prefix_of_a_stream_can_be_shown(text):
    chunks = [chunk for end in range(len(text) + 1) for chunk in render(text[:end])]

    assert [fault for chunk in chunks for fault in _faults(chunk)] == []


@pytest.mark.parametrize("text", ["", " \n\n ", "\n"])
def test_nothing_readable_gives_no_chunk(text):
    assert render(text) == []


def test_markup_without_readable_text_is_shown_raw():
    assert render("[a]: http://b.c") == [Chunk("[a]: http://b.c", [])]


def test_styles_become_entities():
    [chunk] = render("**bold** _italic_ ~~gone~~ `code` [link](https://a.b/c)")

    assert chunk == Chunk(
        "bold italic gone code link",
        [
            MessageEntity("bold", 0, 4),
            MessageEntity("italic", 5, 6),
            MessageEntity("strikethrough", 12, 4),
            MessageEntity("code", 17, 4),
            MessageEntity("text_link", 22, 4, url="https://a.b/c"),
        ],
    )


def test_offsets_count_utf16_units():
    [chunk] = render("😀😀 **bold**")

    assert chunk.entities == [MessageEntity("bold", 5, 4)]


@pytest.mark.parametrize(
    "text",
    [
        "Use Vec<T> and List<String>",
        "<think>because</think> so",
        "a <b>c</b> <!-- d --> <?e?>",
        "if (a || b || c)",
        "a < b",
    ],
)
def test_angle_brackets_and_bars_are_kept(text):
    assert render(text) == [Chunk(text, [])]


def test_angle_brackets_are_kept_inside_code_without_backslashes():
    [chunk] = render("`Vec<T>`\n\n```rust\nlet x: Vec<T> = a || b;\n```")

    assert (_marked(chunk, "code"), _marked(chunk, "pre")) == (["Vec<T>"], ["let x: Vec<T> = a || b;"])


def test_addresses_in_angle_brackets_stay_links():
    [chunk] = render("see <https://a.b/c>")

    assert (chunk.text, [entity.url for entity in chunk.entities]) == ("see https://a.b/c", ["https://a.b/c"])


def test_bold_around_code_keeps_both():
    [chunk] = render("**use `x` now**")

    assert (_marked(chunk, "bold"), _marked(chunk, "code")) == (["use ", " now"], ["x"])


def test_code_inside_a_link_keeps_the_address():
    [chunk] = render("[`run`](https://a.b)")

    assert chunk == Chunk("run", [MessageEntity("text_link", 0, 3, url="https://a.b")])


@pytest.mark.parametrize("address", ["javascript:x", "#part", "./file.md", "http://[", "mailto:a@b.c"])
def test_addresses_that_telegram_refuses_leave_their_text(address):
    assert render(f"[text]({address})") == [Chunk("text", [])]


def test_headings_and_tasks_have_plain_symbols():
    [chunk] = render("# Title\n\n- [ ] open\n- [x] done\n- item")

    assert chunk.text == "Title\n\n☐ open\n✅ done\n• item"


def test_code_in_the_first_item_of_a_list_stands_on_its_own_line():
    [chunk] = render("1. Do:\n   ```sh\n   rm -rf\n   ```")

    assert (chunk.text, _marked(chunk, "pre")) == ("1. Do:\nrm -rf", ["rm -rf"])


def test_narrow_tables_are_aligned():
    [chunk] = render("| a | bb |\n|---|---|\n| 1 | 2 |")

    assert _marked(chunk, "pre") == ["a | bb\n--+---\n1 | 2 "]


def test_wide_tables_become_lines_of_key_and_value():
    table = "| Name | What it does for a living |\n|:--|--:|\n| Ada | `a\\|b` and **more** words of it |\n| Bob | |"

    [chunk] = render(f"Before\n\n{table}\n\nAfter")

    assert chunk.text == (
        "Before\n\nName: Ada\nWhat it does for a living: a|b and more words of it\n\nName: Bob\n\nAfter"
    )


def test_tables_inside_code_stay_code():
    table = "| a long enough heading | another long heading |\n|---|---|\n| 1 | 2 |"

    [chunk] = render(f"```\n{table}\n```")

    assert _marked(chunk, "pre") == [table]


def test_twenty_thousand_bold_characters_keep_their_style_in_every_chunk():
    words = [f"**word{number}** and" for number in range(1_400)]

    chunks = render(" ".join(words))

    assert [fault for chunk in chunks for fault in _faults(chunk)] == []
    assert [word for chunk in chunks for word in _marked(chunk, "bold")] == [f"word{n}" for n in range(1_400)]


def test_code_longer_than_a_message_is_reopened_with_its_language():
    code = "\n".join(f"print({number})" for number in range(900))

    chunks = render(f"```python\n{code}\n```")

    assert len(chunks) == 3
    assert [chunk.entities for chunk in chunks] == [
        [MessageEntity("pre", 0, len(chunk.text), language="python")] for chunk in chunks
    ]
    assert [chunk.entities[0].language for chunk in chunks] == ["python"] * 3
    assert "\n".join(chunk.text for chunk in chunks) == code


def test_long_text_is_cut_between_paragraphs():
    paragraphs = [f"{number} " + "word " * 150 for number in range(10)]

    chunks = render("\n\n".join(paragraphs))

    assert [chunk.text[0] for chunk in chunks] == ["0", "5"]


@pytest.mark.parametrize("unit", [FAMILY, FLAG, "👍🏽", "e\u0301", "😀", "❤️"])
def test_a_cut_never_splits_what_a_person_sees_as_one_character(unit):
    chunks = render(unit * 2_500)

    assert len(chunks) > 1
    assert ["".join(chunk.text.split(unit)) for chunk in chunks] == [""] * len(chunks)


def test_lines_of_our_own_stand_around_a_chunk():
    [answer] = render("😀 **b**")

    whole = stack([plain("Ada ·", "bold"), answer, plain("⏹ Stopped")], "\n\n")

    assert whole == Chunk("Ada ·\n\n😀 b\n\n⏹ Stopped", [MessageEntity("bold", 0, 5), MessageEntity("bold", 10, 1)])
    assert utf16_length(whole.text) == 22
