"""Names that people give their files, made fit for a folder and for an HTTP header."""

import unicodedata
from urllib.parse import quote

MAX_CHARS = 120
MAX_BYTES = 200
"""A folder takes 255; a number may be added to make the name unique."""
_MAX_SUFFIX = 20
_NAMELESS = "file"
_BAD_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
_TURNERS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They make a name read as another one ("exe.pdf")."""


def safe_name(name: str) -> str:
    """Without folders, control characters and leading dots, not too long; its suffix stays. Never empty."""
    last = name.replace("\\", "/").rstrip("/ ").rpartition("/")[2]
    plain = "".join(each for each in last if unicodedata.category(each) not in _BAD_CATEGORIES and each not in _TURNERS)
    return _shortened(plain.strip().lstrip(". ").rstrip(". ")) or _NAMELESS


def _shortened(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    end = dot + suffix if stem and len(suffix) <= _MAX_SUFFIX else ""
    stem = name.removesuffix(end)[: MAX_CHARS - len(end)]
    while len((stem + end).encode()) > MAX_BYTES:
        stem = stem[:-1]
    return stem + end


def disposition(name: str) -> str:
    """Content-Disposition for a file of this name (RFC 6266): plain for old clients, then exactly."""
    plain = "".join(each if each.isascii() and each.isprintable() and each not in '"\\%;' else "_" for each in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
