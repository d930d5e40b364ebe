"""What people read, one folder of Fluent files per language: find a text, fill it in, escape what was filled in."""

import html
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from fluent.runtime import FluentBundle
from fluent.runtime.types import FluentType
from fluent.syntax import FluentParser, ast

FALLBACK = "en"

_MARK = "\ufdd0"  # a noncharacter: no text holds one
_SLOT = re.compile(f"{_MARK}(.+?){_MARK}")
_FSI, _PDI = "\u2068", "\u2069"
_ISOLATES = dict.fromkeys(map(ord, "\u2066\u2067\u2068\u2069"))
_TURNING = frozenset({"R", "AL", "RLE", "RLO", "RLI", "LRO", "LRE", "LRI", "FSI"})

Value = str | int | float


class BrokenText(ValueError):
    """A .ftl file cannot be used. The text names the file and the entry: mend it there."""


class MissingText(LookupError):
    """A text, or a value it needs, does not exist. The text names both: add the key to the .ftl or pass the value."""


class _Slot(str, FluentType):
    """A string as a Fluent value: select expressions compare it; in a text it leaves a mark to be filled afterwards.

    Fluent refuses values over 2,500 characters, and a person's own words may be longer than that.
    """

    __slots__ = ("name",)
    name: str

    def format(self, *_locale: object, **_: object) -> str:  # Fluent's method, which here stands before str's own
        return f"{_MARK}{self.name}{_MARK}"


@dataclass(frozen=True, slots=True)
class Speech:
    """One person's language. Call it with a key and values for HTML; `plain` is for buttons, alerts and captions."""

    language: str
    bundles: tuple[FluentBundle, ...]

    def __call__(self, key: str, **values: Value) -> str:
        return _SLOT.sub(lambda mark: html.escape(_isolated(str(values[mark[1]]))), self._pattern(key, values))

    def plain(self, key: str, **values: Value) -> str:
        """Fill in without escaping, for the places where Telegram reads no markup."""
        return _SLOT.sub(lambda mark: _isolated(str(values[mark[1]])), self._pattern(key, values))

    def _pattern(self, key: str, values: Mapping[str, Value]) -> str:
        bundle = next((bundle for bundle in self.bundles if bundle.has_message(key)), None)
        pattern = bundle.get_message(key).value if bundle else None
        if bundle is None or pattern is None:
            raise MissingText(f"no text {key!r} in {self.language!r} or {FALLBACK!r}: add it to a .ftl file")
        marked, errors = bundle.format_pattern(pattern, {name: _slot(name, value) for name, value in values.items()})
        if errors:
            raise MissingText(f"text {key!r} in {self.language!r} cannot be filled in: {errors[0]}")
        return str(marked)


class Texts:
    """Every text of every language, read once."""

    def __init__(self, bundles: Mapping[str, FluentBundle]) -> None:
        self._bundles = bundles

    @property
    def languages(self) -> list[str]:
        return sorted(self._bundles)

    def speak(self, language_code: str | None) -> Speech:
        """Choose the language for Telegram's `language_code` ("pt-br" → pt-br, else pt, else English)."""
        language = next((code for code in _candidates(language_code) if code in self._bundles), FALLBACK)
        chain = dict.fromkeys((language, FALLBACK))
        return Speech(language, tuple(self._bundles[code] for code in chain))


def load_texts(folder: Traversable | None = None) -> Texts:
    """Read `<folder>/<language>/*.ftl`; `BrokenText` if an entry does not parse or stands twice."""
    root = folder or files(__name__)
    languages = {child.name.lower(): child for child in root.iterdir() if _holds_texts(child)}
    if FALLBACK not in languages:
        raise BrokenText(f"there are no .ftl files in {root}/{FALLBACK}")
    return Texts({code: _bundle(code, child) for code, child in languages.items()})


def keys(folder: Traversable) -> set[str]:
    """Name every text of one language's folder."""
    return {entry.id.name for _, entry in _entries(folder) if isinstance(entry, ast.Message)}


def _holds_texts(folder: Traversable) -> bool:
    return folder.is_dir() and any(child.name.endswith(".ftl") for child in folder.iterdir())


def _bundle(language: str, folder: Traversable) -> FluentBundle:
    bundle = FluentBundle([language], use_isolating=False)
    seen: dict[tuple[type, str], str] = {}
    for name, entry in _entries(folder):
        identity = (type(entry), entry.id.name)
        if identity in seen:  # the bundle itself would keep the first one silently
            raise BrokenText(f"{language}/{name}: {entry.id.name!r} stands in {seen[identity]} already")
        seen[identity] = name
    bundle.add_resource(ast.Resource([entry for _, entry in _entries(folder)]))
    return bundle


def _entries(folder: Traversable) -> Iterator[tuple[str, ast.Message | ast.Term]]:
    for file in sorted(folder.iterdir(), key=lambda child: child.name):
        if not file.name.endswith(".ftl"):
            continue
        for entry in FluentParser().parse(file.read_text(encoding="utf-8")).body:
            if isinstance(entry, ast.Junk):
                raise BrokenText(f"{folder.name}/{file.name}: does not parse: {(entry.content or '')[:80]!r}")
            if isinstance(entry, ast.Message | ast.Term):
                yield file.name, entry


def _candidates(language_code: str | None) -> Iterator[str]:
    code = (language_code or FALLBACK).lower()
    while code:
        yield code
        code = code.rpartition("-")[0]


def _slot(name: str, value: Value) -> Value:
    if not isinstance(value, str):
        return value
    slot = _Slot(value)
    slot.name = name
    return slot


def _isolated(text: str) -> str:
    """Keep right-to-left characters of one value from reordering the sentence around it (UAX #9)."""
    if text.isascii() or _TURNING.isdisjoint(map(unicodedata.bidirectional, text)):
        return text
    return f"{_FSI}{text.translate(_ISOLATES)}{_PDI}"
