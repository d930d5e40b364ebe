"""The port that runs an agent on a machine."""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pydantic import SecretStr

from bot.machines.provider import Place


@dataclass(frozen=True, slots=True)
class Spec:
    """What should run: a release and its configuration."""

    release: str
    name: str
    job: str
    model: str
    secret: SecretStr
    llm_base_url: str
    llm_api_key: SecretStr
    context_tokens: int = 11_000
    max_tokens: int = 4_096
    heartbeat_minutes: int = 0
    tools: bool = True
    vision: bool = False
    config_version: int = 0

    def environment(self) -> dict[str, str]:
        """The agent's settings (`agent.settings`), secrets in clear: for a process or container, never for a log."""
        return {
            "AGENT_NAME": self.name,
            "AGENT_JOB": self.job,
            "AGENT_MODEL": self.model,
            "AGENT_SECRET": self.secret.get_secret_value(),
            "AGENT_RELEASE": self.release,
            "LLM_BASE_URL": self.llm_base_url,
            "LLM_API_KEY": self.llm_api_key.get_secret_value(),
            "AGENT_CONTEXT_TOKENS": str(self.context_tokens),
            "AGENT_MAX_TOKENS": str(self.max_tokens),
            "AGENT_HEARTBEAT_MINUTES": str(self.heartbeat_minutes),
            "AGENT_TOOLS": str(self.tools).lower(),
            "AGENT_VISION": str(self.vision).lower(),
            "AGENT_CONFIG_VERSION": str(self.config_version),
            # Who takes turns is said by a call, with an epoch: a copy that was only started is never the second one.
            "AGENT_MODE": "standby",
        }

    def fingerprint(self) -> str:
        """Changes with anything in it; tells nothing of the secrets (SHA-256)."""
        words = json.dumps(self.environment(), sort_keys=True).encode()
        return hashlib.sha256(words).hexdigest()


class RunState(StrEnum):
    """Whether the agent on a machine runs."""

    RUNNING = "running"
    STOPPED = "stopped"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is on a machine. `fingerprint` is of the spec that was started, `url` where it answers."""

    state: RunState
    fingerprint: str | None = None
    url: str | None = None


class Engine(Protocol):
    """Runs one agent per machine. Every call may happen twice: the second one is harmless."""

    async def prepare(self, place: Place) -> None:
        """Have everything on the machine that agents need. `NotReached` or `NotPrepared` (with the log) if it fails."""

    async def warm(self, place: Place, release: str) -> None:
        """Have all there that starting this release needs, and start nothing; after `prepare`.

        `NotStarted` says why the release cannot be had.
        """

    async def run(self, place: Place, spec: Spec) -> str:
        """Have exactly this spec running; the URL where it answers.

        What runs already is kept, what runs otherwise is replaced; its data stays. `NotStarted` (with the log) if it
        does not stay up until it answers `/health`.
        """

    async def inspect(self, place: Place) -> Inspection:
        """What is there now."""

    async def logs(self, place: Place, lines: int = 50) -> str:
        """The last lines it wrote; empty if there are none."""

    async def remove(self, place: Place) -> None:
        """Stop it (first asked, then forced). Its data stays with the machine."""

    async def wipe(self, place: Place) -> None:
        """Stop it, and remove its data too. For good: what is to be kept must be elsewhere by now."""

    async def close(self) -> None:
        """Let go of what the engine itself holds open. What runs goes on."""
