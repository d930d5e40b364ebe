"""What a caller of the Bot API may say: one strict model per object and per method, unknown names refused."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag, ValidationError

from tests.fakes.telegram_refusals import Refused, bad_request


@dataclass(slots=True, frozen=True)
class Upload:
    """A file as it arrived in a multipart body."""

    name: str
    mime: str
    content: bytes


class Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, coerce_numbers_to_str=True, arbitrary_types_allowed=True, protected_namespaces=()
    )


def _decoded(value: Any) -> Any:
    """Objects arrive as JSON text in queries and forms, as themselves in a JSON body."""
    if not isinstance(value, str):
        return value
    if not value:
        return None
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("is not JSON") from None


type Json[T] = Annotated[T, BeforeValidator(_decoded)]


class Entity(Strict):
    """A formatted span; offset and length count UTF-16 units."""

    type: Literal[
        "mention", "hashtag", "cashtag", "bot_command", "url", "email", "phone_number", "bold", "italic", "underline",
        "strikethrough", "spoiler", "blockquote", "expandable_blockquote", "code", "pre", "text_link", "text_mention",
        "custom_emoji", "date_time",
    ]  # fmt: skip
    offset: int
    length: int
    url: str | None = None
    user: dict[str, Any] | None = None
    language: str | None = None
    custom_emoji_id: str | None = None
    unix_time: int | None = None
    date_time_format: str | None = None

    @property
    def end(self) -> int:
        return self.offset + self.length

    def wire(self) -> dict[str, Any]:
        return {name: value for name, value in self if value is not None}


class CopyText(Strict):
    text: str


class Link(Strict):
    """Of a Mini App or a login."""

    url: str
    forward_text: str | None = None
    bot_username: str | None = None
    request_write_access: bool | None = None


class InlineButton(Strict):
    text: str
    url: str | None = None
    callback_data: str | None = None
    web_app: Link | None = None
    login_url: Link | None = None
    switch_inline_query: str | None = None
    switch_inline_query_current_chat: str | None = None
    switch_inline_query_chosen_chat: dict[str, Any] | None = None
    copy_text: CopyText | None = None
    pay: bool | None = None
    style: Literal["danger", "success", "primary"] | None = None
    icon_custom_emoji_id: str | None = None
    disabled: bool | None = None

    def wire(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


class InlineKeyboard(Strict):
    inline_keyboard: tuple[tuple[InlineButton, ...], ...]

    def wire(self) -> dict[str, Any]:
        return {"inline_keyboard": [[button.wire() for button in row] for row in self.inline_keyboard]}


class KeyboardButton(Strict):
    text: str
    style: Literal["danger", "success", "primary"] | None = None
    web_app: Link | None = None
    request_contact: bool | None = None
    request_location: bool | None = None


class ReplyKeyboard(Strict):
    keyboard: tuple[tuple[KeyboardButton | str, ...], ...]
    is_persistent: bool | None = None
    resize_keyboard: bool | None = None
    one_time_keyboard: bool | None = None
    input_field_placeholder: str | None = None
    selective: bool | None = None


class RemoveKeyboard(Strict):
    remove_keyboard: Literal[True]
    selective: bool | None = None


class ForceReply(Strict):
    force_reply: Literal[True]
    input_field_placeholder: str | None = None
    selective: bool | None = None


def _markup_kind(value: Any) -> str | None:
    kinds = ("inline_keyboard", "keyboard", "remove_keyboard", "force_reply")
    names = value if isinstance(value, Mapping) else {}
    return next((kind for kind in kinds if kind in names), None)


ReplyMarkup = Annotated[
    Annotated[InlineKeyboard, Tag("inline_keyboard")]
    | Annotated[ReplyKeyboard, Tag("keyboard")]
    | Annotated[RemoveKeyboard, Tag("remove_keyboard")]
    | Annotated[ForceReply, Tag("force_reply")],
    Discriminator(_markup_kind),
]


class ReplyParameters(Strict):
    message_id: int
    chat_id: str | None = None
    allow_sending_without_reply: bool = False
    quote: str | None = None
    quote_parse_mode: str | None = None
    quote_entities: tuple[Entity, ...] | None = None
    quote_position: int | None = None


class LinkPreview(Strict):
    is_disabled: bool | None = None
    url: str | None = None
    prefer_small_media: bool | None = None
    prefer_large_media: bool | None = None
    show_above_text: bool | None = None


class Reaction(Strict):
    type: Literal["emoji", "custom_emoji", "paid"]
    emoji: str | None = None
    custom_emoji_id: str | None = None


class Command(Strict):
    command: str
    description: str
    is_ephemeral: bool | None = None


class CommandScope(Strict):
    type: Literal[
        "default", "all_private_chats", "all_group_chats", "all_chat_administrators", "chat", "chat_administrators",
        "chat_member",
    ]  # fmt: skip
    chat_id: str | None = None
    user_id: int | None = None


class MenuButton(Strict):
    type: Literal["default", "commands", "web_app"]
    text: str | None = None
    web_app: Link | None = None


class NoParameters(Strict):
    pass


class GetUpdates(Strict):
    offset: int = 0
    limit: int = 100
    timeout: float = 0
    allowed_updates: Json[tuple[str, ...] | None] = None


class SetWebhook(Strict):
    url: str = ""
    ip_address: str | None = None
    max_connections: int = 40
    allowed_updates: Json[tuple[str, ...] | None] = None
    drop_pending_updates: bool = False
    secret_token: str = ""


class DeleteWebhook(Strict):
    drop_pending_updates: bool = False


class ToChat(Strict):
    chat_id: str = ""
    message_thread_id: int | None = None


class Sending(ToChat):
    disable_notification: bool = False
    protect_content: bool = False
    message_effect_id: str | None = None
    allow_paid_broadcast: bool = False
    reply_parameters: Json[ReplyParameters | None] = None
    reply_markup: Json[ReplyMarkup | None] = None
    reply_to_message_id: int | None = None
    allow_sending_without_reply: bool = False
    parse_mode: str = ""


class SendMessage(Sending):
    text: str = ""
    entities: Json[tuple[Entity, ...] | None] = None
    link_preview_options: Json[LinkPreview | None] = None
    disable_web_page_preview: bool = False


class Captioned(Sending):
    caption: str = ""
    caption_entities: Json[tuple[Entity, ...] | None] = None


class SendDocument(Captioned):
    document: Upload | str = ""
    thumbnail: Upload | str | None = None
    disable_content_type_detection: bool = False


class SendPhoto(Captioned):
    photo: Upload | str = ""
    has_spoiler: bool = False
    show_caption_above_media: bool = False


class OfMessage(Strict):
    chat_id: str = ""
    message_id: int = 0


class EditMarkup(OfMessage):
    reply_markup: Json[InlineKeyboard | None] = None


class EditText(EditMarkup):
    text: str = ""
    parse_mode: str = ""
    entities: Json[tuple[Entity, ...] | None] = None
    link_preview_options: Json[LinkPreview | None] = None
    disable_web_page_preview: bool = False
    rich_message: Json[dict[str, Any] | None] = None


class EditCaption(EditMarkup):
    caption: str = ""
    parse_mode: str = ""
    caption_entities: Json[tuple[Entity, ...] | None] = None
    show_caption_above_media: bool = False


class DeleteMessages(Strict):
    chat_id: str = ""
    message_ids: Json[tuple[int, ...]] = ()


class PinMessage(OfMessage):
    disable_notification: bool = False


class AnswerCallback(Strict):
    callback_query_id: str = ""
    text: str = ""
    show_alert: bool = False
    url: str = ""
    cache_time: int = 0


class ChatAction(ToChat):
    action: str = ""


class SetReaction(OfMessage):
    reaction: Json[tuple[Reaction, ...] | None] = None
    is_big: bool = False


class SendDraft(ToChat):
    draft_id: int = 0
    text: str = ""
    parse_mode: str = ""
    entities: Json[tuple[Entity, ...] | None] = None
    can_stop: bool = False
    keep_on_stop: bool = False


class SendRich(Sending):
    rich_message: Json[dict[str, Any] | None] = None


class SendRichDraft(ToChat):
    draft_id: int = 0
    rich_message: Json[dict[str, Any] | None] = None
    can_stop: bool = False
    keep_on_stop: bool = False


class ScopedCommands(Strict):
    scope: Json[CommandScope | None] = None
    language_code: str = ""


class SetCommands(ScopedCommands):
    commands: Json[tuple[Command, ...]] = ()


class OfChat(Strict):
    chat_id: str = ""


class OfMember(OfChat):
    user_id: int = 0


class SetMenuButton(Strict):
    chat_id: str | None = None
    menu_button: Json[MenuButton | None] = None


class GetMenuButton(Strict):
    chat_id: str | None = None


class InLanguage(Strict):
    language_code: str = ""


class SetName(InLanguage):
    name: str = ""


class SetDescription(InLanguage):
    description: str = ""


class SetShortDescription(InLanguage):
    short_description: str = ""


class CreateTopic(OfChat):
    name: str = ""
    icon_color: int | None = None
    icon_custom_emoji_id: str | None = None


class GetFile(Strict):
    file_id: str = ""


def read_parameters[P: Strict](model: type[P], raw: Mapping[str, Any]) -> P:
    """Check what was sent; the refusal names the parameter."""
    try:
        return model.model_validate(_with_attachments(raw))
    except ValidationError as error:
        raise _complaint(model, error) from None


def _with_attachments(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    attached = {
        name: value[9:] for name, value in raw.items() if isinstance(value, str) and value.startswith("attach://")
    }
    if not attached:
        return raw
    rest = {name: value for name, value in raw.items() if name not in attached.values()}
    return rest | {name: raw[part] for name, part in attached.items() if part in raw}


def _complaint(model: type[Strict], error: ValidationError) -> Refused:
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(model.model_fields))
        return bad_request(f'unknown parameter "{name}" (known here: {known})')
    return bad_request(f'parameter "{name}": {first["msg"].removeprefix("Value error, ")}')
