"""What of a request the history keeps: the person's words, and a line for each file that came with them."""

from collections.abc import Callable

from agent.errors import Refused
from agent.files import Files
from agent.images import IMAGE_TYPES, MAX_BYTES
from agent.protocol import Attachment, ChatRequest
from agent.store import Message, Speaker

_UNKNOWN = "This chat has no file {file_id!r} of this person. Send it first, by PUT /files/{{chat_id}}/{{id}}."
_BLIND = "You cannot see images with this model: tell the person so."
_TOO_BIG = "It has too many bytes to be shown to you; images may have 4 MB."
_NO_TOOLS = "You cannot open files with this model: tell the person so."


class Questions:
    """Composes the questions of this agent; where its model has no `tools` it cannot open files."""

    def __init__(self, files: Files, *, tools: Callable[[], bool]) -> None:
        self._files = files
        self._tools = tools

    def check(self, request: ChatRequest) -> None:
        """`Refused` if the request names a file that was not sent."""
        self._attached(request)

    def compose(self, request: ChatRequest) -> Message:
        """The request as the model reads it."""
        attached = self._attached(request)
        pictures = [file.id for file in attached if file.media_type in IMAGE_TYPES]
        images = self._files.images.ask(request.chat_id, pictures) if pictures else ()
        lines = [self._line(file, shown=file.id in images) for file in attached]
        return Message(Speaker.USER, "\n".join([request.message, *lines]), images=images)

    def forget(self, chat_id: str) -> None:
        """Forget the files of a chat."""
        self._files.forget(chat_id)

    def _attached(self, request: ChatRequest) -> list[Attachment]:
        files = self._files.of(request.role, request.chat_id)
        found = {each.id: files.find(each.id) for each in request.attachments}
        for file_id, file in found.items():
            if file is None:
                raise Refused(422, "unknown_file", _UNKNOWN.format(file_id=file_id))
        return [file for file in found.values() if file]

    def _line(self, file: Attachment, *, shown: bool) -> str:
        words = [f"{file.path}, {file.media_type}, {_size(file.size)}."]
        if file.media_type in IMAGE_TYPES and not shown:
            words.append(_TOO_BIG if self._files.images.vision and file.size > MAX_BYTES else _BLIND)
        elif not (shown or self._tools()):
            words.append(_NO_TOOLS)
        return f"[Attached file: {' '.join(words)}]"


def _size(size: int) -> str:
    """As people say it."""
    for unit, scale in (("MB", 1_000_000), ("kB", 1_000)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} bytes"
