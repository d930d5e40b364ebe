"""The agent's settings; the one module that reads the environment."""

import os
import socket
import unicodedata
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    StringConstraints,
    ValidationError,
)

from agent.errors import BadSettings
from agent.protocol import Mode

_BREAKING = {"Cc", "Zl", "Zp"}
_LIBERTAI = "://api.libertai.io/"
_IMAGE_MODEL = "z-image-turbo"
_MAX_JOB_BYTES = 120_000
_SECRETS = ("AGENT_SECRET", "LLM_API_KEY")


def _one_line(text: str) -> str:
    # Not str.isprintable(): that refuses the joiners of emoji and the marks of right-to-left names.
    if any(unicodedata.category(character) in _BREAKING for character in text):
        raise ValueError("must be one line without control characters")
    return text


def _fits_a_variable(text: str) -> str:
    # Linux starts no program with a variable above 131,072 bytes; so nobody learns of a longer job from us.
    if len(text.encode()) > _MAX_JOB_BYTES:
        raise ValueError(f"may have {_MAX_JOB_BYTES} bytes")
    return text


def _fits_a_header(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be printable ASCII without spaces")
    return secret


_OneLine = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_one_line)
]
_HeaderSecret = Annotated[SecretStr, AfterValidator(_fits_a_header)]


class Settings(BaseModel):
    """Each field is the environment variable of the same name in capitals; an empty variable counts as missing.

    Read without pydantic-settings, which is 5 MB of every idle agent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent_name: _OneLine
    agent_job: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_fits_a_variable)]
    agent_model: _OneLine
    agent_secret: Annotated[_HeaderSecret, Field(min_length=16)]
    agent_release: _OneLine = "dev"
    agent_version: _OneLine = "dev"
    agent_revision: _OneLine = "unknown"
    agent_digest: _OneLine | None = None
    agent_data: Path
    # Of a copy that was never told; `standby` for one that is to take over another's state.
    agent_mode: Mode = Mode.ACTIVE

    llm_base_url: HttpUrl = HttpUrl("https://api.libertai.io/v1")
    llm_api_key: Annotated[_HeaderSecret, Field(min_length=1)]

    agent_host: _OneLine = "127.0.0.1"
    agent_port: int = Field(default=8080, ge=0, le=65535)
    agent_fd: int | None = Field(default=None, ge=0)

    # Of what stands here; what was changed by a call with a higher one is stronger.
    agent_config_version: int = Field(default=0, ge=0)
    agent_tools: bool = True
    # Whether the model can see images.
    agent_vision: bool = False
    # Makes images; with LibertAI there is one without saying.
    agent_image_model: str = ""
    # Where there is no container around it: let the owner's model run commands and write files all the same.
    agent_unconfined_tools: bool = False
    # LibertAI's search service; without it, and with another model server, there are no tools for the web.
    agent_web_url: str = ""
    agent_history_messages: int = Field(default=400, ge=1, le=10_000)
    agent_rounds: int = Field(default=25, ge=1)
    agent_turn_tokens: int = Field(default=500_000, ge=1_000)
    # With the completion below it fits the smallest window LibertAI serves, 16,000 tokens.
    agent_context_tokens: int = Field(default=11_000, ge=256)
    agent_max_tokens: int = Field(default=4_096, ge=16)
    agent_turn_seconds: float = Field(default=600, gt=0)
    agent_concurrent_turns: int = Field(default=64, ge=1)
    # How often the agent looks by itself whether there is something to tell its owner; 0: never.
    agent_heartbeat_minutes: float = Field(default=0, ge=0)
    agent_drain_seconds: float = Field(default=20, ge=0)

    agent_keepalive_seconds: float = Field(default=15, gt=0)
    agent_coalesce_seconds: float = Field(default=0.06, ge=0)
    agent_retry_pause_seconds: float = Field(default=1, ge=0)

    @property
    def web_url(self) -> str:
        """Base URL of the search service, empty if there is none."""
        base = str(self.llm_base_url)
        return self.agent_web_url or (base.removesuffix("/").removesuffix("/v1") if _LIBERTAI in base else "")

    @property
    def image_model(self) -> str:
        """What makes images at `llm_base_url`, empty if nothing does."""
        return self.agent_image_model or (_IMAGE_MODEL if _LIBERTAI in str(self.llm_base_url) else "")


def read_settings() -> Settings:
    """Read the environment and take the secrets out of it, so that no child process inherits them."""
    try:
        return Settings.model_validate(_environment())
    except ValidationError as error:
        raise BadSettings(_problems(error)) from None  # the cause would print the values
    finally:
        for name in _SECRETS:
            os.environ.pop(name, None)


def _environment() -> dict[str, str]:
    return {name: value for name in Settings.model_fields if (value := os.environ.get(name.upper()))}


def listen(settings: Settings) -> socket.socket:
    """Open the port, or adopt the listening socket of `AGENT_FD`."""
    if settings.agent_fd is not None:
        return _adopt(settings.agent_fd)
    try:
        return socket.create_server((settings.agent_host, settings.agent_port), backlog=512)
    except OSError as error:
        address = f"{settings.agent_host}:{settings.agent_port}"
        raise BadSettings(f"AGENT_HOST, AGENT_PORT: cannot listen on {address}: {error.strerror}") from error


def _adopt(number: int) -> socket.socket:
    try:
        return socket.socket(fileno=number)
    except OSError as error:
        raise BadSettings(f"AGENT_FD: {number} is not an inherited socket: {error.strerror}") from error


def _problems(error: ValidationError) -> str:
    return "; ".join(_problem(problem) for problem in error.errors(include_input=False, include_url=False))


def _problem(problem: Any) -> str:
    name = str(problem["loc"][0]).upper()
    return f"{name}: is missing" if problem["type"] == "missing" else f"{name}: {problem['msg']}"
