"""Everything that can go wrong in an agent, and the words people read about it.

AgentError
├── BadSettings      the environment does not describe an agent: one line on stderr, exit code 78
├── Refused          a request is turned away: an HTTP status and a `Refusal` body
└── TurnFailed       a turn ends without its full answer: a `Failed` event
    └── ModelFailed  because of the model server; `heals` says whether asking again may help
"""

from agent.protocol import ErrorKind

HINTS: dict[ErrorKind, str] = {
    ErrorKind.NO_ALLOWANCE: "The LibertAI account behind this agent has no allowance left. "
    "Top it up, or connect another key with /login.",
    ErrorKind.BAD_KEY: "LibertAI does not accept this agent's key. Its owner can connect a new one with /login.",
    ErrorKind.UNKNOWN_MODEL: "This agent's model is not available any more. Its owner can choose another one.",
    ErrorKind.BUSY: "The model is overloaded. Try again in a minute.",
    ErrorKind.UNREACHABLE: "The model did not finish its answer. Try again in a minute.",
    ErrorKind.BAD_REPLY: "The model sent an answer that makes no sense. Try again, or choose another model.",
    ErrorKind.TOO_LONG: "This conversation is too long for the model. Send a shorter message, or start over with /new.",
    ErrorKind.INTERRUPTED: "The agent was restarted while it was answering. Try again.",
    ErrorKind.STOPPED: "Stopped.",
    ErrorKind.INTERNAL: "Something broke on our side. Your message is saved; try again.",
}

RETRYABLE = frozenset(
    {
        ErrorKind.BUSY,
        ErrorKind.UNREACHABLE,
        ErrorKind.BAD_REPLY,
        ErrorKind.INTERRUPTED,
        ErrorKind.STOPPED,
        ErrorKind.INTERNAL,
    }
)

HEALING = frozenset({ErrorKind.BUSY, ErrorKind.UNREACHABLE, ErrorKind.BAD_REPLY})

STATUSES: dict[ErrorKind, int] = {
    ErrorKind.NO_ALLOWANCE: 402,
    ErrorKind.BAD_KEY: 502,
    ErrorKind.UNKNOWN_MODEL: 502,
    ErrorKind.BUSY: 503,
    ErrorKind.UNREACHABLE: 503,
    ErrorKind.BAD_REPLY: 502,
    ErrorKind.TOO_LONG: 413,
    ErrorKind.INTERRUPTED: 503,
    ErrorKind.STOPPED: 409,
    ErrorKind.INTERNAL: 500,
}


class AgentError(Exception):
    """Base of every error the agent raises itself."""


class BadSettings(AgentError):
    """The environment does not describe an agent; the text names the variables, never a value."""


class Refused(AgentError):
    """A request is turned away; the text is for the caller, `param` names the field at fault."""

    def __init__(self, status: int, kind: str, text: str, param: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.kind = kind
        self.text = text
        self.param = param


class TurnFailed(AgentError):
    """A turn ends without its full answer. `hint` is for the person, the exception's own text for the log."""

    def __init__(self, kind: ErrorKind, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind = kind
        self.hint = HINTS[kind]


class ModelFailed(TurnFailed):
    """The model server refused, failed or answered nonsense."""

    @property
    def heals(self) -> bool:
        """Whether asking the same again may succeed."""
        return self.kind in HEALING
