"""An answer as OpenAI's clients read it: a document, or chunks.

Chunks cannot be taken back, and a turn may start over when the model's stream broke. Holding all text until that is
impossible would be no streaming at all. So, after such a restart, what is said again in the same words is passed over,
and where the words differ the paragraph is said anew, after a mark.
"""

import json
import time
from itertools import takewhile
from typing import Any

from agent.protocol import Ask, Event, Restart, Text, Usage

END = b"data: [DONE]\n\n"
_PARAGRAPH = "\n\n"
_ANEW = "\n\n[starting over]\n\n"


class Answer:
    """Adds up the events of a turn."""

    def __init__(self) -> None:
        self.text = ""
        """The answer as it stands now."""
        self._sent = ""
        """What the client was sent stands for this much of it."""

    def feed(self, event: Event) -> str:
        """Take an event; what to send for it, perhaps nothing."""
        if isinstance(event, Restart):
            self.text = ""
        elif isinstance(event, Text):
            self.text += event.text
        elif isinstance(event, Ask):
            self.text += (_PARAGRAPH if self.text.strip() else "") + event.in_words()
        return "" if self._sent.startswith(self.text) else self._catch_up()

    def finish(self) -> str:
        """What is still to be sent when the turn has ended well."""
        return "" if self.text == self._sent else self._catch_up()

    def _catch_up(self) -> str:
        sent, self._sent = self._sent, self.text
        if self.text.startswith(sent):
            return self.text[len(sent) :]
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(sent, self.text, strict=False)))
        paragraphs, gap, _ = self.text[:same].rpartition(_PARAGRAPH)
        return _ANEW + self.text[len(paragraphs + gap) :]


class Frame:
    """Makes documents and chunks of one completion."""

    def __init__(self, turn_id: str, model: str, *, with_usage: bool = False) -> None:
        self._head = {"id": f"chatcmpl-{turn_id}", "created": int(time.time()), "model": model}
        self._with_usage = with_usage

    def whole(self, text: str, usage: Usage) -> dict[str, Any]:
        """The answer in one document."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return self._head | {"object": "chat.completion", "choices": [choice], "usage": _usage(usage)}

    def delta(self, finish: str | None = None, **delta: str) -> bytes:
        """A chunk that adds to the answer; without anything it keeps the connection alive."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._chunk([choice], None)

    def end(self, usage: Usage) -> bytes:
        """The last chunks."""
        told = self._chunk([], usage) if self._with_usage else b""
        return self.delta("stop") + told + END

    def _chunk(self, choices: list[dict[str, Any]], usage: Usage | None) -> bytes:
        body = self._head | {"object": "chat.completion.chunk", "choices": choices}
        if self._with_usage:
            body["usage"] = usage and _usage(usage)
        return frame(body)


def frame(body: dict[str, Any]) -> bytes:
    """Anything as one event of the stream."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode("ascii") + b"\n\n"


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
