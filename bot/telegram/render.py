"""Turn an agent's Markdown into Telegram messages: plain text with entities, within both of Telegram's limits."""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import pyromark
import telegramify_markdown as library
from telegram import MessageEntity
from telegram.constants import MessageEntityType as Kind
from telegramify_markdown.config import RenderConfig

MAX_UNITS = 4096
"""UTF-16 units of a message's text."""
MAX_ENTITIES = 100
"""Telegram ignores further ones, so that formatting would stop in the middle of a message."""

_TABLE_COLUMNS = 35
"""Wider tables break on a phone."""

_CODE = frozenset({Kind.CODE, Kind.PRE})
_KNOWN = frozenset(
    {
        Kind.BOLD,
        Kind.ITALIC,
        Kind.UNDERLINE,
        Kind.STRIKETHROUGH,
        Kind.CODE,
        Kind.PRE,
        Kind.TEXT_LINK,
        Kind.BLOCKQUOTE,
    }
)
_LINK_SCHEMES = frozenset({"http", "https", "tg"})

_TAG = re.compile(r"<(?=[A-Za-z/!?])(?!https?://[^\s<>]+>)")
_LISTS_FIRST = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s")
_DELIMITER_ROW = re.compile(r"^[ >]*\|?[ ]*:?-+:?[ ]*(?:\|[ ]*:?-+:?[ ]*)*\|?[ ]*$", re.MULTILINE)
_LANGUAGE = re.compile(r"[\w+#.-]{1,32}")

_RESERVED = "\ufdd0\ufdd1"  # noncharacters, one UTF-16 unit each, which stand for "<" and "|" while the library works
_RESTORE = str.maketrans(_RESERVED, "<|")
_UNWANTED = str.maketrans(dict.fromkeys(_RESERVED, "\ufffd") | {"\0": "\ufffd"})
_OPENING = "\u2060\n\n"

_ZWJ = "\u200d"
_EXTENDING = frozenset({"Mn", "Me", "Mc"})
_BREAKING = frozenset({"Cc", "Zl", "Zp"})
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They order text by hand (UAX #9), also that which follows."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The text of one message and its entities, offsets in UTF-16 units."""

    text: str
    entities: list[MessageEntity]


@dataclass(frozen=True, slots=True)
class _Span:
    """An entity while it is being cut and moved; cheaper than PTB's own."""

    kind: str
    start: int
    end: int
    url: str | None = None
    language: str | None = None

    def entity(self, origin: int) -> MessageEntity:
        return MessageEntity(
            self.kind, self.start - origin, self.end - self.start, url=self.url, language=self.language
        )


def render(markdown: str, *, units: int = MAX_UNITS, entities: int = MAX_ENTITIES) -> list[Chunk]:
    """Convert and cut. Never raises; nothing readable gives no chunk. Lower limits leave room for other lines."""
    readable = _readable(markdown)
    text, spans = _convert(readable)
    if not text.strip():
        text, spans = readable, []  # all of it was markup, for example a lone link definition: better raw than lost
    return list(_cut(text, spans, units=units, most=entities))


def plain(text: str, kind: str | None = None) -> Chunk:
    """Wrap a line of our own, all of it in one style."""
    return Chunk(text, [MessageEntity(kind, 0, utf16_length(text))] if kind else [])


def one_line(text: str, units: int) -> str:
    """Cut somebody else's words to fit into a line of ours, where nothing in them breaks or turns around the rest."""
    shown = " ".join("".join(map(_harmless, _readable(text))).split())
    if utf16_length(shown) <= units:
        return shown
    limit = _Offsets(shown).index(units)
    return shown[: next((end for end in range(limit, 0, -1) if _is_boundary(shown, end)), limit)].rstrip()


def _harmless(char: str) -> str:
    if char in _TURNING:
        return ""
    return " " if unicodedata.category(char) in _BREAKING else char


def stack(chunks: Iterable[Chunk], separator: str) -> Chunk:
    """Put chunks under each other in one message; the caller knows that they fit."""
    parts: list[str] = []
    entities: list[MessageEntity] = []
    origin = 0
    for chunk in chunks:
        entities.extend(_moved(entity, origin) for entity in chunk.entities)
        parts.append(chunk.text)
        origin += utf16_length(chunk.text) + len(separator)
    return Chunk(separator.join(parts), entities)


def utf16_length(text: str) -> int:
    """Count as Telegram counts."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def clipped(text: str, units: int) -> str:
    """Cut at so many UTF-16 units, never inside a character."""
    return text.encode("utf-16-le", "replace")[: 2 * units].decode("utf-16-le", "ignore")


def _moved(entity: MessageEntity, by: int) -> MessageEntity:
    return MessageEntity(entity.type, entity.offset + by, entity.length, url=entity.url, language=entity.language)


def _readable(markdown: str) -> str:
    """Mend what no encoder takes (half a surrogate pair from a cut stream) and what we use as marks."""
    whole = markdown.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.translate(_UNWANTED)


# --- Markdown → text and spans ---------------------------------------------------------------------------------------


def _convert(markdown: str) -> tuple[str, list[_Span]]:
    source = _with_opening(_with_narrow_tables(_with_tags(markdown)))
    text, entities = library.convert(source, config=_config(), latex_escape=True)
    spans = [
        _Span(entity.type, entity.offset, entity.offset + entity.length, _restored(entity.url), _language(entity))
        for entity in entities
    ]
    return text.translate(_RESTORE), _tidy(spans)


def _config() -> RenderConfig:
    """The library's global configuration is shared and mutable; its symbols read wrong (an open task as done)."""
    config = RenderConfig.isolated()
    config.cite_expandable = False
    symbols = config.markdown_symbol
    symbols.heading_level_1 = symbols.heading_level_2 = symbols.heading_level_3 = symbols.heading_level_4 = ""
    symbols.task_uncompleted = "☐"
    symbols.unordered_list_item = "•"
    return config


def _with_tags(markdown: str) -> str:
    """Hide "<" of `Vec<T>` (the library deletes HTML) and "||" (it would make a spoiler of `a || b || c`).

    Backslashes would do outside code only, and where code begins depends on where HTML does. A mark of the same
    length does everywhere, and is turned back afterwards.
    """
    return _TAG.sub(_RESERVED[0], markdown).replace("||", _RESERVED[1] * 2)


def _with_opening(markdown: str) -> str:
    """A list that opens the text glues its fences to their items ("1. Do:rm -rf"); after any paragraph it does not."""
    return _OPENING + markdown if _LISTS_FIRST.match(markdown) else markdown


def _restored(text: str | None) -> str | None:
    return text.translate(_RESTORE) if text else None


def _language(entity: library.MessageEntity) -> str | None:
    found = _LANGUAGE.match(entity.language or "")
    return found[0] if found else None


def _tidy(spans: list[_Span]) -> list[_Span]:
    """Leave only entities that Telegram takes together: nothing shares code but a quote, no kind nests in itself."""
    usable = [span for span in spans if span.kind in _KNOWN and (span.kind != Kind.TEXT_LINK or _is_link(span.url))]
    links = [span for span in usable if span.kind == Kind.TEXT_LINK]
    code = [span for span in usable if span.kind in _CODE and not _any_overlap(span, links)]
    kept = [piece for span in usable if span.kind not in _CODE for piece in _beside(span, code)]
    return sorted(_outermost([*kept, *code]), key=lambda span: (span.start, -span.end))


def _is_link(url: str | None) -> bool:
    try:
        parts = urlsplit(url or "")
    except ValueError:  # "http://[": not an address
        return False
    return parts.scheme in _LINK_SCHEMES and bool(parts.netloc)


def _any_overlap(span: _Span, others: list[_Span]) -> bool:
    return any(other.start < span.end and span.start < other.end for other in others)


def _beside(span: _Span, code: list[_Span]) -> Iterator[_Span]:
    """What is left of a style when the code inside it is cut out."""
    if span.kind == Kind.BLOCKQUOTE:
        yield span
        return
    start = span.start
    for hole in code:
        if hole.end <= start or hole.start >= span.end:
            continue
        if start < hole.start:
            yield replace(span, start=start, end=hole.start)
        start = hole.end
    if start < span.end:
        yield replace(span, start=start)


def _outermost(spans: list[_Span]) -> Iterator[_Span]:
    ends: dict[str, int] = {}
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        start = max(span.start, ends.get(span.kind, 0))
        if start < span.end:
            ends[span.kind] = span.end
            yield replace(span, start=start) if start != span.start else span


# --- Tables ----------------------------------------------------------------------------------------------------------


def _with_narrow_tables(markdown: str) -> str:
    """Write tables that are too wide for a phone as "key: value" lines, row by row."""
    if "|" not in markdown or not _DELIMITER_ROW.search(markdown):
        return markdown
    source = markdown.encode()
    parts: list[bytes] = []
    cursor = 0
    for table in _tables(source):
        if table.columns > _TABLE_COLUMNS:
            parts += (source[cursor : table.start], table.as_lines().encode())
            cursor = table.end
    return b"".join([*parts, source[cursor:]]).decode()


@dataclass(slots=True)
class _Table:
    """A table at the top level of the source: its range in bytes and its cells as they are written there."""

    start: int
    end: int
    rows: list[list[str]]

    @property
    def columns(self) -> int:
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=False)]
        return sum(widths) + 3 * (len(widths) - 1)

    def open(self, tag: object, written: bytes) -> None:
        if tag in ("TableHead", "TableRow"):
            self.rows.append([])
        elif tag == "TableCell":
            self.rows[-1].append(written.decode().strip().replace("\\|", "|"))

    def as_lines(self) -> str:
        heads, *rows = self.rows
        return "\n\n".join("  \n".join(_pairs(heads, row)) for row in rows or [heads]) + "\n\n"


def _pairs(heads: list[str], row: list[str]) -> Iterator[str]:
    for head, cell in zip(heads, row, strict=False):
        key = head.strip("*_ ")
        if cell:
            yield f"**{key}:** {cell}" if key and head is not cell else cell


def _tables(source: bytes) -> Iterator[_Table]:
    depth = 0
    table: _Table | None = None
    events: Iterable[Any] = pyromark.events_with_range(source.decode(), options=pyromark.Options.ENABLE_TABLES)
    for event, place in events:
        match event:
            case {"Start": tag}:
                if depth == 0:  # inside a quote or a list, the lines of the source are not the table's alone
                    table = _Table(place["start"], place["end"], []) if "Table" in tag else None
                elif table:
                    table.open(tag, source[place["start"] : place["end"]])
                depth += 1
            case {"End": _}:
                depth -= 1
                if depth == 0 and table:
                    yield table


# --- Cutting ---------------------------------------------------------------------------------------------------------


def _cut(text: str, spans: list[_Span], *, units: int, most: int) -> Iterator[Chunk]:
    offsets = _Offsets(text)
    start = _after_newlines(text, len(_OPENING) - 2 if text.startswith(_OPENING[0]) else 0)
    while start < len(text):
        end = _end(text, start, offsets.index(offsets.unit(start) + units))
        inside = _overlapping(spans, offsets.unit(start), offsets.unit(end))
        if len(inside) > most:
            end = _end(text, start, max(offsets.index(inside[most].start), start + 1))
        yield from _chunk(text[start:end], offsets.unit(start), inside[:most])
        start = _after_newlines(text, end)


class _Offsets:
    """Between indices of a Python string and UTF-16 units."""

    def __init__(self, text: str) -> None:
        self._wide = [] if text.isascii() else [index for index, char in enumerate(text) if char > "\uffff"]
        self._wide_units = [index + before for before, index in enumerate(self._wide)]

    def unit(self, index: int) -> int:
        return index + bisect_left(self._wide, index)

    def index(self, unit: int) -> int:
        """The last index that begins at or before this unit: half a pair rounds down."""
        return unit - bisect_left(self._wide_units, unit)


def _overlapping(spans: list[_Span], start: int, end: int) -> list[_Span]:
    return [span for span in spans if span.start < end and span.end > start]


def _chunk(text: str, origin: int, spans: list[_Span]) -> Iterator[Chunk]:
    text = text.rstrip("\n")
    if not text.strip():
        return
    end = origin + utf16_length(text)
    clipped = (replace(span, start=max(span.start, origin), end=min(span.end, end)) for span in spans)
    yield Chunk(text, [span.entity(origin) for span in clipped if span.start < span.end])


def _end(text: str, start: int, limit: int) -> int:
    """Where a chunk ends that may reach up to `limit`: after a paragraph, a line, a word, or between characters."""
    if limit >= len(text):
        return len(text)
    middle = start + (limit - start) // 2
    for separator in ("\n\n", "\n", " "):
        found = text.rfind(separator, middle, limit)
        end = found + len(separator)
        if found > start and _is_boundary(text, end):
            return end
    return next((end for end in range(limit, start, -1) if _is_boundary(text, end)), limit)


def _after_newlines(text: str, index: int) -> int:
    while index < len(text) and text[index] == "\n":
        index += 1
    return index


def _is_boundary(text: str, index: int) -> bool:
    """Whether a person sees two characters here and not one (the parts of UAX #29 that chat text meets)."""
    before, after = text[index - 1], text[index : index + 1]
    if not after or (after.isascii() and before != _ZWJ):
        return True
    if _ZWJ in (before, after) or _extends(after):
        return False
    return not (_is_flag_half(after) and _flag_halves_before(text, index) % 2)


def _extends(char: str) -> bool:
    is_skin_tone = "\U0001f3fb" <= char <= "\U0001f3ff"
    is_tag = "\U000e0020" <= char <= "\U000e007f"
    return is_skin_tone or is_tag or unicodedata.category(char) in _EXTENDING


def _is_flag_half(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _flag_halves_before(text: str, index: int) -> int:
    count = 0
    while count < index and _is_flag_half(text[index - count - 1]):
        count += 1
    return count
