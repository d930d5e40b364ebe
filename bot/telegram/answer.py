"""What the events of a turn have said so far: the text, what is being done, the news, how long there was none."""

from dataclasses import dataclass, field

from agent import protocol
from bot.telegram.render import one_line

NEVER = float("inf")
SILENT_AFTER, _SILENT_EVERY = 20.0, 10.0
_LABEL_UNITS = 60  # so that there is room for the rest of the line
_SEARCH, _FILES, _OTHER = "🔎", "📄", "⚙️"
_ICONS = dict.fromkeys(("web_search", "web_fetch", "search_files", "recall"), _SEARCH) | dict.fromkeys(
    ("list_files", "read_file", "write_file", "edit_file", "send_file"), _FILES
)
"""By the names of the agent's own tools."""


@dataclass(frozen=True, slots=True)
class Doing:
    """A tool that runs, as people read of it."""

    icon: str
    label: str


@dataclass(frozen=True, slots=True)
class Word:
    """The bot's own word on why there is no answer yet: it stands until the agent is heard, and is no part of it."""

    text: str
    after: float = 0.0
    """Seconds for which it is held back: by then it may not be needed any more."""


@dataclass(slots=True)
class Answer:
    """What the events have said so far."""

    started: float
    parts: list[str] = field(default_factory=list)
    chars: int = 0
    version: int = 0
    """Changes with the text."""
    notice: protocol.Notice | None = None
    """Newer than anything else that was heard."""
    word: Word | None = None
    word_at: float = NEVER
    """When it is to be seen."""
    doing: dict[str, Doing] = field(default_factory=dict)
    """Tools that run, the newest last, by their calls' ids."""
    first_at: float = NEVER
    """When there was first anything to show."""
    heard_at: float = 0.0
    question: protocol.Ask | None = None
    """Ends the answer."""
    final: protocol.Final | None = None
    files: list[protocol.File] = field(default_factory=list)
    """For the person, in the order in which they came."""

    def __post_init__(self) -> None:
        self.heard_at = self.started

    @property
    def text(self) -> str:
        """The answer so far, as Markdown."""
        if len(self.parts) > 1:
            self.parts = ["".join(self.parts)]
        return self.parts[0] if self.parts else ""

    @property
    def last_word(self) -> str | None:
        """The agent's notice after which nothing came: why the answer ends where it does."""
        return self.notice.text if self.notice else None

    def hear(self, event: protocol.Event | Word, now: float) -> None:
        """Take the next event in."""
        if isinstance(event, Word):
            self._wait(event, now)
            return
        if not isinstance(event, protocol.KeepAlive):
            self.word, self.word_at = None, NEVER
        self._take(event, now)

    def _take(self, event: protocol.Event, now: float) -> None:
        match event:
            case protocol.Text():
                self._say(event.text, now)
            case protocol.Restart():
                self.parts, self.chars, self.notice, self.question = [], 0, None, None
                self.doing.clear()
                self.files.clear()
                self.version += 1
            case protocol.Tool():
                self._do(event, now)
            case protocol.File():
                self.files.append(event)
                self.heard_at = now
            case protocol.Notice():
                self.notice = event
                self._note(now)
            case protocol.Ask():
                self.question, self.heard_at = event, now
            case protocol.Done() | protocol.Failed():
                self.final = event
            case protocol.KeepAlive():
                pass

    def word_due(self, now: float) -> Word | None:
        """The bot's own word, if it is to be seen by now."""
        return self.word if now >= self.word_at else None

    def _wait(self, word: Word, now: float) -> None:
        if word != self.word:
            self.word, self.word_at, self.heard_at = word, now + word.after, now
            self.doing.clear()
            self.notice = None

    def _do(self, event: protocol.Tool, now: float) -> None:
        self.doing.pop(event.id, None)
        if event.state is protocol.ToolState.RUNNING:
            label = one_line(event.label, _LABEL_UNITS) or one_line(event.name, _LABEL_UNITS)
            self.doing[event.id] = Doing(_ICONS.get(event.name, _OTHER), label)
        self.notice = None
        self._note(now)

    def _say(self, text: str, now: float) -> None:
        self.parts.append(text)
        self.chars += len(text)
        self.version += 1
        self.notice = None
        self._note(now)

    def _note(self, now: float) -> None:
        self.heard_at = now
        self.first_at = min(self.first_at, now)

    def silent_for(self, now: float) -> float:
        """Seconds without news, in steps, so that a line that shows them changes only so often; 0 while it flows."""
        silence = now - self.heard_at
        if silence < SILENT_AFTER:
            return 0.0
        return SILENT_AFTER + (silence - SILENT_AFTER) // _SILENT_EVERY * _SILENT_EVERY

    def next_silence(self, now: float) -> float:
        """When `silent_for` will change if nothing is heard."""
        silence = self.silent_for(now)
        return self.heard_at + (silence + _SILENT_EVERY if silence else SILENT_AFTER)
