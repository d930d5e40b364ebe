"""Every error of the control plane, in one tree.

BaalError                   str() is for the log; never shown to a Telegram user
├── BadSettings             the operator's configuration; the text names the setting and what to do
├── DatabaseLost            the database server is away, or a connection to it broke; the bot has to be started again
├── Undecryptable           a stored secret does not open with any key of BOT_ENCRYPTION_KEY
├── Refused                 the person cannot have this now; `hint` is the key of the text that says why
├── RolloutRefused          what an operator asks of a rollout cannot be done; the text says why and what to do
├── LibertAIUnreachable     the account or model service did not answer
├── FileLost                a file cannot be fetched; `hint` is the key of the text that says why
├── NotDelivered            the end of an answer did not reach Telegram; show the turn again later
├── EventsEnded             an agent's events broke off without a final one; attach again
├── SnapshotError
│   ├── SnapshotBroken      what was to be kept, or was kept, is not whole; the text says where
│   └── StoreAway           the place where snapshots are kept does not do what it is asked
├── MachineError
│   ├── NoCapacity          the provider has no machine to rent
│   │   └── NoCredit        the operator's balance does not last for one more
│   ├── SpendCapReached     what the operator allows for machines this month is spent
│   ├── NotReached          the machine did not come up in time
│   ├── NotPrepared         Docker could not be installed on it
│   ├── NotStarted          the agent did not start; `log` holds its last lines
│   ├── NotProved           the agent runs but is not who or what it should be
│   ├── NotHandedOver       what arrived on the new machine is not what the old one held
│   └── HealingStopped      too many of an agent's machines failed within a day
└── AgentError
    ├── AgentOffline        no connection, or it broke
    ├── AgentBusy           it answered that it takes no turn now (draining)
    ├── AgentHeld           it does not work there: it is being handed over, or has been
    └── AgentRefused        it answered with an error of the protocol
"""


class BaalError(Exception):
    """Base of all."""


class BadSettings(BaalError):
    """The operator's configuration cannot be used; the text says which setting and what to write."""


class DatabaseLost(BaalError):
    """The database server is away, or a connection to it broke. Started again, the bot goes on from the rows."""


class Undecryptable(BaalError):
    """A secret in the database opens with none of the keys in BOT_ENCRYPTION_KEY."""


class Refused(BaalError):
    """The person cannot have this now. `hint` names the text shown to them, `values` what it mentions."""

    def __init__(self, hint: str, **values: str | int) -> None:
        super().__init__(hint)
        self.hint = hint
        self.values = values


class RolloutRefused(BaalError):
    """What the operator asks of a rollout cannot be done now; the text, which is for them, says why and what to do."""


class LibertAIUnreachable(BaalError):
    """The account or model service did not answer, or answered nonsense."""


class FileLost(BaalError):
    """A file cannot be fetched. `hint` names the text that says why; `may_heal`: another try may bring it."""

    def __init__(self, hint: str, *, may_heal: bool = False) -> None:
        super().__init__(hint)
        self.hint = hint
        self.may_heal = may_heal


class NotDelivered(BaalError):
    """The final answer did not reach Telegram. Show the turn again later, with all its events."""


class EventsEnded(BaalError):
    """The events stopped without `done` or `error`. Attach to the turn again, and show all its events."""


class SnapshotError(BaalError):
    """Keeping an agent's state, or taking it out again, failed."""


class SnapshotBroken(SnapshotError):
    """It is not whole, or not what was put in: it was cut, changed or exchanged. Take another one."""


class StoreAway(SnapshotError):
    """Where snapshots are kept cannot be reached or has no room: see to SNAPSHOTS_URL; `baal doctor` looks at it."""


class MachineError(BaalError):
    """Something about a machine; `code` is the key of the text for its owner."""

    code = "failed"


class NoCapacity(MachineError):
    """The provider has no machine to rent."""

    code = "no-capacity"


class NoCredit(NoCapacity):
    """The balance does not last for one more machine; in credits of the provider."""

    code = "no-credit"

    def __init__(self, required: int, available: int) -> None:
        super().__init__(f"{required:,} credits are required, {available:,} are there: top up the wallet")
        self.required = required
        self.available = available

    def __reduce__(self) -> tuple[type["NoCredit"], tuple[int, int]]:
        """As it was made: the durable engine keeps the errors of steps, and makes them again after a crash."""
        return type(self), (self.required, self.available)


class SpendCapReached(MachineError):
    """What the operator allows for machines this month is spent: for this agent, its owner, or in total (`cap`)."""

    code = "spend-cap"

    def __init__(self, cap: str) -> None:
        super().__init__(f"the spend cap ({cap}) of this month is reached: raise it, or wait for the next month")
        self.cap = cap

    def __reduce__(self) -> tuple[type["SpendCapReached"], tuple[str]]:
        """As it was made: the durable engine keeps the errors of steps, and makes them again after a crash."""
        return type(self), (self.cap,)


class NotReached(MachineError):
    """The machine did not come up in time."""

    code = "not-reached"


class NotPrepared(MachineError):
    """What agents need could not be put on the machine. `log` holds the last lines, for the operator."""

    code = "not-prepared"

    def __init__(self, text: str, *, log: str = "") -> None:
        super().__init__(text)
        self.log = log


class NotStarted(MachineError):
    """The agent did not start. `log` holds its last lines, for the operator."""

    code = "not-started"

    def __init__(self, text: str, *, log: str = "") -> None:
        super().__init__(text)
        self.log = log


class NotProved(MachineError):
    """The agent answers, but not as the agent and release that were wanted."""

    code = "not-proved"


class NotHandedOver(MachineError):
    """What arrived on the new machine is not what the old one held; the old one goes on."""

    code = "not-handed-over"


class HealingStopped(MachineError):
    """Too many of an agent's machines failed within a day; look at its log before another one is rented."""

    code = "healing-stopped"


class AgentError(BaalError):
    """Talking to an agent failed."""


class AgentOffline(AgentError):
    """No connection to the agent, or it broke in the middle."""


class AgentBusy(AgentError):
    """The agent takes no turn at the moment; ask again. `kind` and `text` are the refusal's."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text

    def __reduce__(self) -> tuple[type["AgentBusy"], tuple[str, str]]:
        """As it was made: the durable engine keeps the errors of steps, and makes them again after a crash."""
        return type(self), (self.kind, self.text)


class AgentHeld(AgentError):
    """The agent is being handed over to another machine, or was: look up where it is now, and ask again."""


class AgentRefused(AgentError):
    """The agent refused the call; `kind` and `text` are the refusal's, `status` is HTTP's."""

    def __init__(self, kind: str, text: str, *, status: int = 0) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text
        self.status = status

    def __reduce__(self) -> tuple[type["AgentRefused"], tuple[str, str], dict[str, int]]:
        """As it was made: the durable engine keeps the errors of steps, and makes them again after a crash."""
        return type(self), (self.kind, self.text), {"status": self.status}
