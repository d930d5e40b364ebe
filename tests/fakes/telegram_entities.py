"""Text as Telegram sees it: HTML markup parsed, spans checked in UTF-16 units, links and commands found."""

import html
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.fakes.telegram_refusals import bad_request, cannot_parse
from tests.fakes.telegram_wire import Entity

MAX_ENTITIES = 100
TRIMMED = " \t\n\r\v\f"
TAGS = {
    "b": "bold", "strong": "bold", "i": "italic", "em": "italic", "u": "underline", "ins": "underline",
    "s": "strikethrough", "strike": "strikethrough", "del": "strikethrough", "tg-spoiler": "spoiler",
    "span": "spoiler", "code": "code", "pre": "pre", "a": "text_link", "blockquote": "blockquote",
    "tg-emoji": "custom_emoji",
}  # fmt: skip
# Those that Telegram finds by itself in every text.
FOUND = re.compile(
    r"(?P<url>(?:https?://|\bt\.me/)[^\s<>\"]*[^\s<>\".,;:!?)\]}'])"
    r"|(?P<email>\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b)"
    r"|(?<![\w/@])(?P<mention>@[A-Za-z]\w{3,31})\b"
    r"|(?<![\w/@<>])(?P<bot_command>/[A-Za-z0-9_]{1,64}(?:@\w{3,32})?)(?![\w/])"
)
CONTROL = str.maketrans({code: " " for code in range(32) if chr(code) not in "\t\n\r"} | {ord("\r"): None})


@dataclass(slots=True, frozen=True)
class Formatted:
    """A text and its spans."""

    text: str
    entities: tuple[Entity, ...] = ()


def utf16_length(text: str) -> int:
    """UTF-16 units of a text; half a surrogate pair is refused."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode("utf-16-le")) // 2
    except UnicodeEncodeError:
        raise bad_request("strings must be encoded in UTF-8") from None


def read_text(text: str, parse_mode: str, entities: Iterable[Entity] | None) -> Formatted:
    """A caller's text as Telegram stores it: parsed, trimmed, at most 100 spans, links found."""
    parsed = _parsed(text, parse_mode) if parse_mode else Formatted(text, tuple(entities or ()))
    check_spans(parsed)
    return _found(_trimmed(parsed))


def user_text(text: str) -> Formatted:
    """What a user typed, with the commands and links that Telegram marks."""
    return _found(_trimmed(Formatted(text)))


def _parsed(text: str, parse_mode: str) -> Formatted:
    if parse_mode.lower() == "html":
        return parse_html(text)
    # The product speaks HTML and entities only; a mode that is half understood would hide errors.
    raise bad_request(f"unsupported parse_mode ({parse_mode}: this double parses HTML only; or send entities)")


def check_spans(formatted: Formatted) -> None:
    """Refuse spans outside the text or inside a surrogate pair."""
    if not formatted.entities:
        return
    units = formatted.text.encode("utf-16-le", "surrogatepass")
    for entity in formatted.entities:
        _check_span(entity, units)


def _check_span(entity: Entity, units: bytes) -> None:
    size = len(units) // 2
    if entity.offset < 0 or entity.length < 0:
        raise bad_request(f"Receive an entity with incorrect offset {entity.offset} or length {entity.length}")
    if entity.offset > size:
        raise bad_request(f"Entity begins after the end of the text at UTF-16 offset {entity.offset}")
    if entity.end > size:
        raise bad_request(
            f"Entity beginning at UTF-16 offset {entity.offset} ends after the end of the text at UTF-16 offset "
            f"{entity.end}"
        )
    if _halves(units, entity.offset) or _halves(units, entity.end):
        raise bad_request(f"Entity beginning at UTF-16 offset {entity.offset} has a bound in the middle of a symbol")


def _halves(units: bytes, at: int) -> bool:
    """Whether a cut at this unit splits a surrogate pair."""
    return 2 * at < len(units) and 0xDC <= units[2 * at + 1] <= 0xDF


def _trimmed(formatted: Formatted) -> Formatted:
    text = formatted.text if formatted.entities else formatted.text.translate(CONTROL)
    left = len(text) - len(text.lstrip(TRIMMED))
    text = text.strip(TRIMMED)
    end = utf16_length(text)
    moved = (_clipped(entity, left, end) for entity in formatted.entities)
    kept = sorted((entity for entity in moved if entity is not None), key=lambda span: (span.offset, -span.length))
    return Formatted(text, tuple(kept[:MAX_ENTITIES]))


def _clipped(entity: Entity, left: int, end: int) -> Entity | None:
    """The span after `left` units went from the front; None when nothing of it is left."""
    if left == 0 and entity.end <= end:
        return entity if entity.length else None
    start, stop = max(0, entity.offset - left), min(end, entity.end - left)
    return entity.model_copy(update={"offset": start, "length": stop - start}) if stop > start else None


def _found(formatted: Formatted) -> Formatted:
    text = formatted.text
    to_units = _unit_of(text)
    taken = [entity for entity in formatted.entities if entity.type in {"code", "pre", "text_link", "url"}]
    new = []
    for match in FOUND.finditer(text):
        offset = to_units(match.start())
        length = to_units(match.end()) - offset
        entity = Entity.model_validate({"type": match.lastgroup, "offset": offset, "length": length})
        if not any(other.offset < entity.end and entity.offset < other.end for other in taken):
            new.append(entity)
    if not new:
        return formatted
    spans = sorted([*formatted.entities, *new], key=lambda span: (span.offset, -span.length))
    return Formatted(text, tuple(spans[:MAX_ENTITIES]))


def _unit_of(text: str) -> Callable[[int], int]:
    if text.isascii() or max(text) <= "\uffff":
        return lambda at: at
    return lambda at: utf16_length(text[:at])


@dataclass(slots=True, frozen=True)
class _Open:
    tag: str
    attributes: dict[str, str]
    offset: int
    at: int


@dataclass(slots=True)
class _Html:
    source: str
    at: int = 0
    units: int = 0
    text: list[str] = field(default_factory=list)
    open: list[_Open] = field(default_factory=list)
    done: list[Entity] = field(default_factory=list)

    def byte(self, at: int) -> int:
        return len(self.source[:at].encode("utf-8", "surrogatepass"))

    def add(self, text: str) -> None:
        self.text.append(text)
        self.units += utf16_length(text)


PLAIN = re.compile(r"[^<&]+")
REFERENCE = re.compile(r"&(?:lt|gt|amp|quot|#\d{1,7}|#x[0-9a-fA-F]{1,6});")
TAG_NAME = re.compile(r"[A-Za-z0-9-]*")
ATTRIBUTE = re.compile(r"""\s+([A-Za-z0-9-]+)(?:\s*=\s*("[^"]*"|'[^']*'|[A-Za-z0-9./:?&=_%#@-]+))?""")


def parse_html(source: str) -> Formatted:
    """Read Telegram's HTML dialect; broken markup is refused with its byte offset."""
    state = _Html(source)
    while state.at < len(source):
        if plain := PLAIN.match(source, state.at):
            state.add(plain.group())
            state.at = plain.end()
        elif source[state.at] == "&":
            _read_reference(state)
        elif source.startswith("</", state.at):
            _read_end_tag(state)
        else:
            _read_start_tag(state)
    if state.open:
        last = state.open[-1]
        raise cannot_parse(f'Can\'t find end tag corresponding to start tag "{last.tag}"')
    return Formatted("".join(state.text), tuple(state.done))


def _read_reference(state: _Html) -> None:
    match = REFERENCE.match(state.source, state.at)
    piece = match.group() if match else "&"
    state.add(html.unescape(piece))
    state.at += len(piece)


def _read_start_tag(state: _Html) -> None:
    begin = state.at
    name = TAG_NAME.match(state.source, begin + 1)
    tag = name.group().lower() if name else ""
    at = begin + 1 + len(tag)
    if tag not in TAGS:
        raise cannot_parse(f'Unsupported start tag "{tag}" at byte offset {state.byte(begin)}')
    attributes: dict[str, str] = {}
    while match := ATTRIBUTE.match(state.source, at):
        attributes[match[1].lower()] = html.unescape((match[2] or "").strip("\"'"))
        at = match.end()
    at += len(state.source[at:]) - len(state.source[at:].lstrip())
    if not state.source.startswith(">", at):
        raise cannot_parse(f"Unclosed start tag at byte offset {state.byte(begin)}")
    if tag == "span" and attributes.get("class") != "tg-spoiler":
        raise cannot_parse(f'Tag "span" must have class "tg-spoiler" at byte offset {state.byte(begin)}')
    state.open.append(_Open(tag, attributes, state.units, begin))
    state.at = at + 1


def _read_end_tag(state: _Html) -> None:
    begin = state.at
    end = state.source.find(">", begin)
    if end < 0:
        raise cannot_parse(f"Unclosed end tag at byte offset {state.byte(begin)}")
    tag = state.source[begin + 2 : end].strip().lower()
    if not state.open:
        raise cannot_parse(f"Unexpected end tag at byte offset {state.byte(begin)}")
    start = state.open.pop()
    if tag and tag != start.tag:
        raise cannot_parse(
            f'Unmatched end tag at byte offset {state.byte(begin)}, expected "</{start.tag}>", found "</{tag}>"'
        )
    state.at = end + 1
    if state.units > start.offset:
        _close(state, start)


def _close(state: _Html, start: _Open) -> None:
    span = {"offset": start.offset, "length": state.units - start.offset}
    match start.tag:
        case "pre":
            _close_pre(state, span)
        case "code":
            # Kept until a <pre> around it decides: there it is the block's language, elsewhere it means nothing.
            language = start.attributes.get("class", "").removeprefix("language-") or None
            in_pre = bool(state.open) and state.open[-1].tag == "pre"
            state.done.append(Entity(type="code", language=language if in_pre else None, **span))
        case "a":
            _close_link(state, start, span)
        case "blockquote":
            kind = "expandable_blockquote" if "expandable" in start.attributes else "blockquote"
            state.done.append(Entity.model_validate({"type": kind, **span}))
        case "tg-emoji":
            emoji = start.attributes.get("emoji-id")
            state.done.append(Entity(type="custom_emoji", custom_emoji_id=emoji, **span))
        case tag:
            state.done.append(Entity.model_validate({"type": TAGS[tag], **span}))


def _close_pre(state: _Html, span: dict[str, int]) -> None:
    inner = state.done[-1] if state.done else None
    language = None
    if inner and inner.type == "code" and inner.offset >= span["offset"]:
        state.done.pop()
        language = inner.language
    state.done.append(Entity(type="pre", language=language, **span))


def _close_link(state: _Html, start: _Open, span: dict[str, int]) -> None:
    url = start.attributes.get("href") or _since(state, start.offset)
    if "." not in url and "://" not in url:
        return  # Telegram keeps the words and drops a link that leads nowhere
    if urlsplit(url).scheme not in {"http", "https", "tg", "mailto", "tel"}:
        url = f"http://{url}"
    state.done.append(Entity(type="text_link", url=url, **span))


def _since(state: _Html, offset: int) -> str:
    units = "".join(state.text).encode("utf-16-le")
    return units[2 * offset :].decode("utf-16-le")
