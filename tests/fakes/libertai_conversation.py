"""What LibertAI's double refuses of a conversation: all that some OpenAI-compatible server refuses."""

import json
import re
from collections.abc import Iterable
from typing import Any

from tests.fakes import libertai_catalogue as catalogue
from tests.fakes.libertai_images import require_parts, size_in_window
from tests.fakes.libertai_world import Refused

_ROLES = ("system", "user", "assistant", "tool")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def require_conversation(body: dict[str, Any]) -> None:
    """Judge the messages and the tools of a request."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad("messages: at least one message is required")
    _require_tools(body.get("tools"))
    said = [message for message in messages if message.get("role") != "system"]
    if not said or said[0].get("role") != "user":
        raise bad("Conversation must begin with a user message")
    if said[-1].get("role") == "assistant":
        raise bad("Expected last role User or Tool (or Assistant with prefix True) for serving")
    require_parts(said)
    pending: list[str] = []
    for before, message in zip([None, *said], said, strict=False):
        pending = _require_message(before, message, pending)
    _require_all_answered(pending)
    _require_window(body, said)


def _require_message(before: dict[str, Any] | None, message: dict[str, Any], pending: list[str]) -> list[str]:
    """Judge one message; return the calls that now wait for their results."""
    role = message.get("role")
    if role not in _ROLES:
        raise bad(f"Unexpected message role: {role}")
    if not isinstance(message.get("content"), str | list):
        raise bad(f"messages: content of a message of role {role} must be a string or a list")
    if role == "tool":
        return _without(pending, message.get("tool_call_id"))
    _require_all_answered(pending)
    if before and before.get("role") == role:
        raise bad("Conversation roles must alternate user/assistant/user/assistant/...")
    if role == "user" and before and before.get("role") == "tool":
        raise bad("Unexpected role 'user' after role 'tool'")  # Mistral's templates
    if not message["content"] and not message.get("tool_calls"):
        raise bad(f"A message of role {role} must have content or tool calls")
    return _call_ids(message.get("tool_calls"))


def _without(pending: list[str], call_id: object) -> list[str]:
    if call_id not in pending:
        raise bad("messages with role 'tool' must be a response to a preceding message with 'tool_calls'")
    return [other for other in pending if other != call_id]


def _require_all_answered(pending: list[str]) -> None:
    if pending:
        raise bad("An assistant message with 'tool_calls' must be followed by tool messages for each of them")


def _call_ids(calls: Any) -> list[str]:
    if calls is None:
        return []
    if not isinstance(calls, list) or not calls:
        raise bad("messages: tool_calls must be a list that is not empty")
    ids = [_require_call(call) for call in calls]
    if len(set(ids)) < len(ids):
        raise bad("messages: the ids of tool_calls must differ")
    return ids


def _require_call(call: Any) -> str:
    function = call.get("function")
    if call.get("type") != "function" or not isinstance(function, dict):
        raise bad("messages: tool_calls must be functions")
    if not isinstance(call.get("id"), str) or not call["id"]:
        raise bad("messages: a tool call must have an id")
    _require_name(function.get("name"))
    _require_object(function.get("arguments"))
    return str(call["id"])


def _require_name(name: object) -> None:
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        raise bad("function.name: string does not match pattern '^[a-zA-Z0-9_-]{1,64}$'")


def _require_object(arguments: object) -> None:
    """Answer as llama.cpp does, for ever, to what is not a JSON object: it parses as strictly as nlohmann's JSON."""
    try:
        value = json.loads(arguments if isinstance(arguments, str) else "", parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        message = "Failed to parse tool call arguments as JSON"
        raise Refused(500, {"error": {"code": 500, "message": message, "type": "server_error"}}) from error
    if not isinstance(value, dict):
        raise bad("messages: arguments of a tool call must be a JSON object")


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _require_tools(tools: Any) -> None:
    if tools is None:
        return
    if not isinstance(tools, list) or not tools:
        raise bad("tools: must be a list that is not empty")  # vLLM: [] is too short
    for tool in tools:
        function = tool.get("function") or {}
        _require_name(function.get("name"))
        if tool.get("type") != "function" or not function.get("description"):
            raise bad("tools: must be described functions")
        if (function.get("parameters") or {}).get("type") != "object":
            raise bad("tools: parameters must be the schema of an object")
    names: Iterable[str] = [tool["function"]["name"] for tool in tools]
    if len(set(names)) < len(tools):
        raise bad("tools: names must differ")


def _require_window(body: dict[str, Any], said: list[dict[str, Any]]) -> None:
    model = catalogue.find(body["model"])
    asked = sum(size_in_window(message.get("content")) for message in said) // 4
    if model and asked > model.context_window:
        raise bad(
            f"This model's maximum context length is {model.context_window} tokens. However, you requested {asked} "
            "tokens. Please reduce the length of the messages."
        )


def bad(text: str) -> Refused:
    """A refusal in vLLM's form."""
    return Refused(400, {"error": {"message": text, "type": "BadRequestError", "param": None, "code": 400}})
