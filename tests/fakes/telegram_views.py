"""What the control API shows: JSON models shared by the double, its page and its test client."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from tests.fakes.telegram_wire import Command, InlineButton, Strict


class View(BaseModel):
    model_config = ConfigDict(frozen=True)


class FileView(View):
    kind: str
    file_id: str
    name: str
    mime: str
    size: int


class ReactionView(View):
    user_id: int
    emoji: str


class MessageView(View):
    """A message as its chat shows it now. `changed` is the number of its last change."""

    id: int
    chat_id: int
    user_id: int
    from_bot: bool
    name: str
    date: int
    text: str
    entities: list[dict[str, Any]] = []
    buttons: list[list[InlineButton]] = []
    file: FileView | None = None
    album: str = ""
    sticker: str = ""
    rich: dict[str, Any] | None = None
    reactions: list[ReactionView] = []
    reply_to: int | None = None
    thread_id: int | None = None
    edits: int = 0
    deleted: bool = False
    service: str = ""
    changed: int


class DraftView(View):
    draft_id: int
    text: str
    entities: list[dict[str, Any]] = []
    can_stop: bool
    expires: float


class MenuView(View):
    """Commands of the chat's menu, and the Mini App behind the menu button if one is set."""

    commands: list[Command]
    web_app: str = ""


class ChatView(View):
    id: int
    kind: str
    title: str
    started: bool
    action: str = ""
    drafts: list[DraftView] = []
    menu: MenuView
    pinned: list[int] = []
    messages: list[MessageView] = []


class UserView(View):
    id: int
    first_name: str
    last_name: str = ""
    username: str = ""
    language_code: str = ""
    started: bool = False
    blocked: bool = False


class PressKind(StrEnum):
    CALLBACK = "callback"
    LINK = "link"
    COPY = "copy"
    SWITCH = "switch"
    OTHER = "other"


class PressView(View):
    """What a press did. `value`: the query id, the URL, the copied text or the query to switch with."""

    kind: PressKind
    value: str
    message: MessageView
    at: int
    """Number of the chats' last change before the press."""
    sent: MessageView | None = None


class AnswerView(View):
    """What answerCallbackQuery said."""

    text: str
    alert: bool
    url: str


class CallView(View):
    """One request to the Bot API; refused ones too."""

    number: int
    method: str
    chat_id: str
    parameters: dict[str, Any]
    status: int
    description: str
    at: float

    @property
    def refused(self) -> bool:
        return self.status != 200


class WaitView(View):
    message: MessageView | None = None


class BotView(View):
    id: int
    username: str
    name: str
    description: str = ""
    short_description: str = ""


class FaultKind(StrEnum):
    TOO_MANY_REQUESTS = "too_many_requests"
    SERVER_ERROR = "server_error"
    HANG = "hang"
    BLOCKED = "blocked"
    LOST_ANSWER = "lost_answer"
    """The call is done, but its caller gets a 502: what retries must survive."""


class Fault(Strict):
    """What happens to the next `times` calls that fit; no method and no chat means any."""

    kind: FaultKind
    method: str = ""
    chat_id: str = ""
    times: int = 1
    retry_after: int = 1
    seconds: float = 60
    """How long a HANG holds the request before it ends with 504."""


class Feature(StrEnum):
    """What some servers and clients do not have; every flow of a bot must work without."""

    DRAFTS = "drafts"
    RICH = "rich"
    REACTIONS = "reactions"
    DESCRIPTIONS = "descriptions"
    GET_CHAT = "get_chat"
