"""Keep a model's thinking, leaked into its answer between `<think>` tags, away from the person who reads it."""

_OPEN, _CLOSE = "<think>", "</think>"


class Visible:
    """Passes on the visible part of a streamed answer, wherever the stream is cut: inside a tag or an emoji."""

    __slots__ = ("_held", "_hidden", "_started")

    def __init__(self) -> None:
        self._held = ""
        self._hidden = False
        self._started = False

    def feed(self, piece: str) -> str:
        """Take the next piece; return what may be shown now."""
        text = self._held + piece
        self._held = ""
        if self._hidden or "<" in text:
            text = self._outside_tags(text)
        return self._shown(self._hold(text, _high_surrogate(text)))

    def rest(self) -> str:
        """Return what was held back, when nothing more will come."""
        held, self._held = self._held, ""
        return "" if self._hidden else self._shown(held)

    def _outside_tags(self, text: str) -> str:
        shown = []
        while True:
            tag = _CLOSE if self._hidden else _OPEN
            before, found, text = text.partition(tag)
            if not self._hidden:
                shown.append(before)
            if not found:
                break
            self._hidden = not self._hidden
        if self._hidden:
            self._hold(before, _begun(before, _CLOSE))
            return "".join(shown)
        visible = "".join(shown).replace(_CLOSE, "")
        return self._hold(visible, max(_begun(visible, _OPEN), _begun(visible, _CLOSE)))

    def _hold(self, text: str, count: int) -> str:
        if not count:
            return text
        self._held = text[-count:] + self._held
        return text[:-count]

    def _shown(self, text: str) -> str:
        if not self._started:
            text = text.lstrip()
            self._started = bool(text)
        return text if text.isascii() else whole(text)


def _begun(text: str, tag: str) -> int:
    """Count the characters at the end of the text with which the tag may begin."""
    return next((length for length in range(len(tag) - 1, 0, -1) if text.endswith(tag[:length])), 0)


def _high_surrogate(text: str) -> int:
    return int(text[-1:] >= "\ud800" and text[-1:] <= "\udbff")


def whole(text: str) -> str:
    """Join the halves of characters that a server escaped as two; a half alone can be neither stored nor sent."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
